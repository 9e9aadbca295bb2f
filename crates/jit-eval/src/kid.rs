//! Kernel inception distance (Bińkowski et al. 2018): the unbiased squared maximum mean discrepancy
//! with the kernel `(xᵀy/d + 1)³`.

use jit_core::rng::{Purpose, Stream, permutation};
use jit_kernels::gemm::{MatRef, PackedB, Precision, Store, gemm};

use crate::evaluate::Score;
use crate::{EvalError, Features};

/// Over all pairs of the first `min(n₁, n₂)` images of both sides: no chance in it.
///
/// # Errors
/// [`EvalError::Dimensions`] and [`EvalError::TooFew`].
pub fn kid_of_first(generated: &Features, real: &Features) -> Result<f64, EvalError> {
    generated.comparable(real)?;
    let n = generated.rows().min(real.rows());
    check(n, 2, "generated and real")?;
    Ok(discrepancy(&generated.first(n), &real.first(n)))
}

/// Mean and standard deviation over `subsets` random subsets of `size` images of each side.
///
/// # Errors
/// [`EvalError::Dimensions`], and [`EvalError::TooFew`] for fewer images than a subset has.
pub fn kid_of_subsets(
    generated: &Features,
    real: &Features,
    subsets: usize,
    size: usize,
    seed: u64,
) -> Result<Score, EvalError> {
    generated.comparable(real)?;
    check(generated.rows(), size, "generated")?;
    check(real.rows(), size, "real")?;
    let draw = |side: &Features, subset: usize, which: u64| {
        let stream = Stream::new(seed, Purpose::Metric, 2 + which, subset as u64);
        side.select(&permutation(stream, side.rows())[..size])
    };
    let one = |subset| discrepancy(&draw(generated, subset, 0), &draw(real, subset, 1));
    Ok(Score::of(&(0..subsets).map(one).collect::<Vec<f64>>()))
}

pub(crate) fn check(have: usize, need: usize, what: &'static str) -> Result<(), EvalError> {
    let need = need.max(2);
    if have >= need {
        return Ok(());
    }
    let help = "use more images or a smaller --kid-subset";
    Err(EvalError::TooFew { metric: "KID", what, need, have, help })
}

/// The unbiased estimate for as many images of each side.
fn discrepancy(x: &Features, y: &Features) -> f64 {
    let n = x.rows() as f64;
    let within = |side: &Features| {
        let sums = kernel_sums(side, side);
        // Pairs of an image with itself would bias the estimate.
        let own: f64 = (0..side.rows())
            .map(|i| {
                let square: f64 = side.row(i).iter().map(|&v| f64::from(v) * f64::from(v)).sum();
                kernel(square, side.dim())
            })
            .sum();
        (sums - own) / (n * (n - 1.0))
    };
    within(x) + within(y) - 2.0 * kernel_sums(x, y) / (n * n)
}

fn kernel(dot: f64, dim: usize) -> f64 {
    (dot / dim as f64 + 1.0).powi(3)
}

/// Σ over all pairs; products in f32, whose errors have no common sign, sums in f64.
fn kernel_sums(x: &Features, y: &Features) -> f64 {
    const ROWS: usize = 512;
    let packed = PackedB::new(matrix(y.data(), y.dim()).transposed(), Precision::F32);
    let mut products = vec![0.0; ROWS * y.rows()];
    x.data()
        .chunks(ROWS * x.dim())
        .map(|rows| {
            let products = &mut products[..rows.len() / x.dim() * y.rows()];
            gemm(matrix(rows, x.dim()), &packed, products, Store::Overwrite, None);
            products.iter().map(|&dot| kernel(f64::from(dot), x.dim())).sum::<f64>()
        })
        .sum()
}

fn matrix(data: &[f32], dim: usize) -> MatRef<'_> {
    MatRef::row_major(data, data.len() / dim, dim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(seed: u64, n: usize, dim: usize, shift: f32) -> Features {
        let mut x = vec![0.0; n * dim];
        Stream::new(seed, Purpose::Noise, 0, 0).fill_normal(&mut x);
        x.iter_mut().for_each(|x| *x += shift);
        Features::new(dim, x).unwrap()
    }

    /// By the definition, pair by pair.
    fn plain(x: &Features, y: &Features) -> f64 {
        let k = |a: &[f32], b: &[f32]| {
            let dot: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            kernel(dot, a.len())
        };
        let n = x.rows();
        let mut sum = 0.0;
        for i in 0..n {
            for j in 0..n {
                if i != j {
                    let pairs = k(x.row(i), x.row(j)) + k(y.row(i), y.row(j));
                    sum += pairs / (n * (n - 1)) as f64;
                }
                sum -= 2.0 * k(x.row(i), y.row(j)) / (n * n) as f64;
            }
        }
        sum
    }

    #[test]
    fn it_is_the_sum_over_pairs() {
        let (x, y) = (normal(1, 37, 5, 0.0), normal(2, 41, 5, 0.7));
        let (have, want) = (kid_of_first(&x, &y).unwrap(), plain(&x.first(37), &y.first(37)));
        assert!((have - want).abs() < 1e-6 * want.abs(), "{have} {want}");
    }

    #[test]
    fn subsets_scatter_around_the_whole_and_small_sets_are_refused() {
        let (x, y) = (normal(3, 400, 6, 0.0), normal(4, 300, 6, 0.5));
        let whole = kid_of_first(&x, &y).unwrap();
        let subsets = kid_of_subsets(&x, &y, 50, 100, 0).unwrap();
        assert!((subsets.mean - whole).abs() < subsets.spread, "{whole} {subsets:?}");
        let error = kid_of_subsets(&x, &y, 1, 350, 0).unwrap_err().to_string();
        assert!(error.contains("350 real images, and there are 300"), "{error}");
    }
}
