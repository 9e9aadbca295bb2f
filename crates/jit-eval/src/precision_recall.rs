//! Precision and recall of Kynkäänniemi et al. 2019: a manifold is the union of balls around its
//! images that reach to the k-th nearest neighbour.
//!
//! - precision: the share of *generated* images in the manifold of the real ones (are they good?)
//! - recall: the share of *real* images in the manifold of the generated ones (is all there?)
//!
//! Distances are computed block by block, so that memory grows with the images and not with pairs.

use jit_kernels::gemm::{MatRef, PackedB, Precision, Store, gemm};
use jit_kernels::par;
use serde::Serialize;

use crate::{EvalError, Features};

/// Both shares, in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PrecisionRecall {
    /// Share of the generated images that look real.
    pub precision: f64,
    /// Share of the real images that could have been generated.
    pub recall: f64,
}

/// With balls that reach to the `k`-th nearest neighbour, the image itself not counted.
///
/// # Errors
/// [`EvalError::Dimensions`], and [`EvalError::TooFew`] where a side has no k neighbours.
pub fn precision_recall(
    generated: &Features,
    real: &Features,
    k: usize,
) -> Result<PrecisionRecall, EvalError> {
    generated.comparable(real)?;
    check(generated.rows(), k, "generated")?;
    check(real.rows(), k, "real")?;
    Ok(PrecisionRecall {
        precision: share_inside(generated, real, &radii(real, k)),
        recall: share_inside(real, generated, &radii(generated, k)),
    })
}

pub(crate) fn check(have: usize, k: usize, what: &'static str) -> Result<(), EvalError> {
    if have > k && k > 0 {
        return Ok(());
    }
    let (need, metric) = (k.max(1) + 1, "precision");
    let help = "use more images, or another number of neighbours with --neighbours";
    Err(EvalError::TooFew { metric, what, need, have, help })
}

/// Rows of a block of distances, and its columns: 8 MiB of them, and panels of 32 MiB for VGG16.
const ROWS: usize = 1024;
const COLUMNS: usize = 2048;

/// The squared distance of each image to its k-th nearest neighbour.
fn radii(x: &Features, k: usize) -> Vec<f32> {
    let mut nearest = vec![f32::INFINITY; x.rows() * k];
    for_each_block(x, x, &mut nearest, k, |row, first, distances, nearest| {
        for (j, &distance) in distances.iter().enumerate() {
            // An insertion into the k smallest so far; seldom past the comparison.
            if distance < nearest[k - 1] && row != first + j {
                let at = nearest.partition_point(|&other| other <= distance);
                nearest[at..].rotate_right(1);
                nearest[at] = distance;
            }
        }
    });
    nearest.chunks_exact(k).map(|nearest| nearest[k - 1]).collect()
}

/// The share of `points` within the ball of any of `centres`.
fn share_inside(points: &Features, centres: &Features, radii: &[f32]) -> f64 {
    let mut inside = vec![0.0f32; points.rows()];
    for_each_block(points, centres, &mut inside, 1, |_, first, distances, inside| {
        let radii = &radii[first..first + distances.len()];
        if inside[0] == 0.0 && distances.iter().zip(radii).any(|(d, r)| d <= r) {
            inside[0] = 1.0;
        }
    });
    inside.iter().filter(|&&inside| inside > 0.0).count() as f64 / points.rows() as f64
}

/// Calls `visit(row, first, distances, state)` for every row of `x` with its squared distances to
/// the rows `first..` of `y`, block after block; `state` is the row's own, `width` values.
fn for_each_block(
    x: &Features,
    y: &Features,
    state: &mut [f32],
    width: usize,
    visit: impl Fn(usize, usize, &[f32], &mut [f32]) + Sync,
) {
    let dim = x.dim();
    let (x_squares, y_squares) = (squares(x), squares(y));
    let mut products = vec![0.0; ROWS.min(x.rows()) * COLUMNS.min(y.rows())];
    for (block, columns) in y.data().chunks(COLUMNS * dim).enumerate() {
        let (first, count) = (block * COLUMNS, columns.len() / dim);
        let columns = MatRef::row_major(columns, count, dim).transposed();
        let packed = PackedB::new(columns, Precision::F32);
        let y_squares = &y_squares[first..first + count];
        let blocks = x.data().chunks(ROWS * dim).zip(state.chunks_mut(ROWS * width));
        for (part, (rows, state)) in blocks.enumerate() {
            let n = rows.len() / dim;
            let products = &mut products[..n * count];
            gemm(MatRef::row_major(rows, n, dim), &packed, products, Store::Overwrite, None);
            let ops = 4 * products.len();
            let (products, state) = ((products, count), (state, width));
            par::for_each_chunk2(products, state, ops, |i, products, state| {
                let row = part * ROWS + i;
                let square = x_squares[row];
                for (product, y_square) in products.iter_mut().zip(y_squares) {
                    // ‖x − y‖² = ‖x‖² + ‖y‖² − 2·x·y, never below zero by rounding.
                    *product = (square + y_square - 2.0 * *product).max(0.0);
                }
                visit(row, first, products, state);
            });
        }
    }
}

/// ‖x‖² of each row, summed in f64.
fn squares(x: &Features) -> Vec<f32> {
    let square = |row: &[f32]| row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() as f32;
    x.data().chunks_exact(x.dim()).map(square).collect()
}

#[cfg(test)]
mod tests {
    use jit_core::rng::{Purpose, Stream};
    use proptest::prelude::*;

    use super::*;

    fn normal(seed: u64, n: usize, dim: usize, scale: f32) -> Features {
        let mut x = vec![0.0; n * dim];
        Stream::new(seed, Purpose::Noise, 0, 0).fill_normal(&mut x);
        x.iter_mut().for_each(|x| *x *= scale);
        Features::new(dim, x).unwrap()
    }

    /// By the definition, in f64.
    fn plain(generated: &Features, real: &Features, k: usize) -> PrecisionRecall {
        let distance = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum()
        };
        let radius = |set: &Features, i: usize| {
            let others = (0..set.rows()).filter(|&j| j != i);
            let mut all: Vec<f64> = others.map(|j| distance(set.row(i), set.row(j))).collect();
            all.sort_by(f64::total_cmp);
            all[k - 1]
        };
        let share = |points: &Features, centres: &Features| {
            let radii: Vec<f64> = (0..centres.rows()).map(|i| radius(centres, i)).collect();
            let inside = |p: usize| {
                (0..centres.rows()).any(|c| distance(points.row(p), centres.row(c)) <= radii[c])
            };
            (0..points.rows()).filter(|&p| inside(p)).count() as f64 / points.rows() as f64
        };
        PrecisionRecall { precision: share(generated, real), recall: share(real, generated) }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        #[test]
        fn blocks_give_what_the_definition_says(
            n in 6usize..60, m in 6usize..60, dim in 1usize..6, k in 1usize..5, seed: u64,
        ) {
            let (x, y) = (normal(seed, n, dim, 0.8), normal(seed ^ 1, m, dim, 1.0));
            prop_assert_eq!(precision_recall(&x, &y, k).unwrap(), plain(&x, &y, k));
        }
    }

    #[test]
    fn more_rows_than_a_block_are_all_seen() {
        let (x, y) = (normal(1, 1100, 2, 1.0), normal(2, 2100, 2, 1.0));
        assert_eq!(precision_recall(&x, &y, 3).unwrap(), plain(&x, &y, 3));
    }

    /// Which is which: a generator that draws one good picture over and over.
    #[test]
    fn a_collapsed_generator_has_high_precision_and_low_recall() {
        let real = normal(1, 500, 8, 1.0);
        let collapsed = normal(2, 500, 8, 0.01);
        let PrecisionRecall { precision, recall } = precision_recall(&collapsed, &real, 3).unwrap();
        assert!(precision > 0.99 && recall < 0.01, "{precision} {recall}");
        // And one that draws everything, most of it wrong.
        let wild = normal(3, 500, 8, 4.0);
        let PrecisionRecall { precision, recall } = precision_recall(&wild, &real, 3).unwrap();
        assert!(precision < 0.1 && recall > 0.9, "{precision} {recall}");
    }

    #[test]
    fn too_few_images_are_told() {
        let (x, y) = (normal(1, 3, 2, 1.0), normal(2, 9, 2, 1.0));
        let error = precision_recall(&x, &y, 3).unwrap_err().to_string();
        assert!(error.contains("at least 4 generated images, and there are 3"), "{error}");
    }
}
