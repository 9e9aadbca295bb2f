//! Precision and recall of Kynkäänniemi et al. 2019: a manifold is the union of balls around its
//! images that reach to the k-th nearest neighbour.
//!
//! - precision: the share of *generated* images in the manifold of the real ones (are they good?)
//! - recall: the share of *real* images in the manifold of the generated ones (is all there?)
//!
//! Distances are computed block by block, so that memory grows with the images and not with pairs.

use serde::Serialize;

use crate::distances::{Block, for_each_block, for_each_block_of_pairs};
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
    let (generated_radii, real_radii) = (radii(generated, k), radii(real, k));
    let (mut good, mut covered) = (vec![false; generated.rows()], vec![false; real.rows()]);
    for_each_block(generated, real, |block| {
        let radii = &real_radii[block.columns.clone()];
        block.for_each_row(&mut good, 1, |_, distances, good| {
            good[0] = good[0] || distances.iter().zip(radii).any(|(d, r)| d <= r);
        });
        block.for_each_in_columns(&mut covered, 1, |row, distance, covered| {
            covered[0] |= distance <= generated_radii[row];
        });
    });
    let share = |of: &[bool]| of.iter().filter(|&&yes| yes).count() as f64 / of.len() as f64;
    Ok(PrecisionRecall { precision: share(&good), recall: share(&covered) })
}

pub(crate) fn check(have: usize, k: usize, what: &'static str) -> Result<(), EvalError> {
    if have > k && k > 0 {
        return Ok(());
    }
    let (need, metric) = (k.max(1) + 1, "precision");
    let help = "use more images, or another number of neighbours with --neighbours";
    Err(EvalError::TooFew { metric, what, need, have, help })
}

/// The squared distance of each image to its k-th nearest neighbour.
fn radii(x: &Features, k: usize) -> Vec<f32> {
    let mut nearest = vec![f32::INFINITY; x.rows() * k];
    for_each_block_of_pairs(x, |block: &Block| {
        block.for_each_row(&mut nearest, k, |row, distances, nearest| {
            for (column, &distance) in block.columns.clone().zip(distances) {
                if row != column {
                    keep_smallest(nearest, distance);
                }
            }
        });
        if !block.is_on_diagonal() {
            block.for_each_in_columns(&mut nearest, k, |_, distance, nearest| {
                keep_smallest(nearest, distance);
            });
        }
    });
    nearest.chunks_exact(k).map(|nearest| nearest[k - 1]).collect()
}

/// Puts `distance` among the smallest so far, which are in order; seldom past the comparison.
#[inline(always)]
fn keep_smallest(nearest: &mut [f32], distance: f32) {
    if distance < nearest[nearest.len() - 1] {
        let at = nearest.partition_point(|&other| other <= distance);
        nearest[at..].rotate_right(1);
        nearest[at] = distance;
    }
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
