//! Fréchet inception distance (Heusel et al. 2017): the distance of two normal distributions fitted
//! to features,
//!
//! ```text
//! FID = ‖μ₁ − μ₂‖² + tr Σ₁ + tr Σ₂ − 2·tr (Σ₁Σ₂)^½
//! ```
//!
//! The last trace is that of `(Σ₁^½·Σ₂·Σ₁^½)^½`, whose matrix is symmetric and positive: real
//! eigenvalues, also where Σ has no full rank and the square root of `Σ₁Σ₂` leaves the real numbers.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par, Side};
use jit_core::rng::{Purpose, Stream};

use crate::moments::BLOCK;
use crate::{EvalError, Features, Gaussian, Moments};

/// The distance of two normal distributions.
///
/// # Errors
/// [`EvalError::Dimensions`] for features of two extractors.
pub fn fid(a: &Gaussian, b: &Gaussian) -> Result<f64, EvalError> {
    Root::of(b)?.fid(a)
}

/// A normal distribution with the root of its covariance, which is half of the work of every
/// distance from it.
pub(crate) struct Root<'a> {
    gaussian: &'a Gaussian,
    /// H with `Σ = H·Hᵀ`
    half: Mat<f64>,
}

impl<'a> Root<'a> {
    /// By Cholesky, or by eigenvectors where Σ has no full rank.
    pub fn of(gaussian: &'a Gaussian) -> Result<Self, EvalError> {
        let half = match sigma(gaussian).llt(Side::Lower) {
            Ok(factor) => factor.L().to_owned(),
            Err(_) => Self::by_eigenvectors(gaussian)?,
        };
        Ok(Self { gaussian, half })
    }

    /// `V·Λ^½` of `Σ = V·Λ·Vᵀ`.
    fn by_eigenvectors(gaussian: &Gaussian) -> Result<Mat<f64>, EvalError> {
        let dim = gaussian.mean.len();
        let eigen =
            sigma(gaussian).self_adjoint_eigen(Side::Lower).map_err(|_| EvalError::Eigenvalues)?;
        let (vectors, values) = (eigen.U(), eigen.S().column_vector());
        Ok(Mat::from_fn(dim, dim, |i, j| vectors[(i, j)] * values[j].max(0.0).sqrt()))
    }

    /// The distance of `other` from this one.
    pub fn fid(&self, other: &Gaussian) -> Result<f64, EvalError> {
        let (dim, theirs) = (self.gaussian.mean.len(), other.mean.len());
        if dim != theirs {
            return Err(EvalError::Dimensions { a: theirs, b: dim });
        }
        let means: f64 =
            other.mean.iter().zip(&self.gaussian.mean).map(|(a, b)| (a - b) * (a - b)).sum();
        let trace = |g: &Gaussian| g.covariance.iter().step_by(dim + 1).sum::<f64>();
        Ok(means + trace(self.gaussian) + trace(other) - 2.0 * self.trace_of_root(other)?)
    }

    /// `tr (Σ₁Σ₂)^½`: with `Σ₁ = H·Hᵀ` the matrix `Hᵀ·Σ₂·H` has the eigenvalues of `Σ₁^½·Σ₂·Σ₁^½`.
    fn trace_of_root(&self, other: &Gaussian) -> Result<f64, EvalError> {
        let dim = self.gaussian.mean.len();
        let (half, par) = (self.half.as_ref(), Par::rayon(0));
        let mut product = Mat::zeros(dim, dim);
        let mut inner = Mat::zeros(dim, dim);
        matmul(product.as_mut(), Accum::Replace, sigma(other), half, 1.0, par);
        matmul(inner.as_mut(), Accum::Replace, half.transpose(), product.as_ref(), 1.0, par);
        let mut values =
            inner.self_adjoint_eigenvalues(Side::Lower).map_err(|_| EvalError::Eigenvalues)?;
        values.sort_unstable_by(|a, b| b.total_cmp(a));
        // Beyond the rank that so few images can have there is only rounding, of which roots make
        // much.
        let rank = |g: &Gaussian| if g.count == 0 { dim } else { dim.min(g.count - 1) };
        let rank = rank(self.gaussian).min(rank(other));
        Ok(values.iter().take(rank).map(|v| v.max(0.0).sqrt()).sum())
    }
}

fn sigma(g: &Gaussian) -> MatRef<'_, f64> {
    MatRef::from_row_major_slice(&g.covariance, g.mean.len(), g.mean.len())
}

/// The standard deviation of the FID over `resamples` bootstrap samples of the generated images.
///
/// A resample's FID is biased upwards (it repeats images), so only its spread says something: the
/// interval is the FID itself ± a multiple of it.
///
/// # Errors
/// As [`fid`].
pub fn fid_spread(
    generated: &Features,
    reference: &Gaussian,
    resamples: usize,
    seed: u64,
) -> Result<f64, EvalError> {
    spread_from(&Root::of(reference)?, generated, resamples, seed)
}

/// [`fid_spread`] from a root at hand.
pub(crate) fn spread_from(
    root: &Root<'_>,
    generated: &Features,
    resamples: usize,
    seed: u64,
) -> Result<f64, EvalError> {
    let n = generated.rows();
    let one = |resample: usize| {
        let stream = Stream::new(seed, Purpose::Metric, 1, resample as u64);
        let drawn: Vec<u32> = (0..n).map(|i| stream.below(i as u32, n as u64) as u32).collect();
        let mut moments = Moments::new(generated.dim());
        // A few rows at a time: a whole resample would be a copy of all features.
        drawn.chunks(BLOCK).for_each(|drawn| moments.push(generated.select(drawn).data()));
        root.fid(&moments.gaussian()?)
    };
    let values = (0..resamples).map(one).collect::<Result<Vec<f64>, _>>()?;
    let mean = values.iter().sum::<f64>() / resamples as f64;
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    Ok((squares / (resamples.max(2) - 1) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagonal(mean: &[f64], variances: &[f64]) -> Gaussian {
        let dim = mean.len();
        let mut covariance = vec![0.0; dim * dim];
        variances.iter().enumerate().for_each(|(i, v)| covariance[i * (dim + 1)] = *v);
        Gaussian { count: 0, mean: mean.to_vec(), covariance }
    }

    #[test]
    fn along_the_axes_it_is_the_distance_of_means_and_deviations() {
        let a = diagonal(&[0.0, 1.0, 2.0], &[4.0, 9.0, 0.0]);
        let b = diagonal(&[1.0, 1.0, 0.0], &[1.0, 25.0, 16.0]);
        // (0−1)² + (2−0)² + (2−1)² + (3−5)² + (0−4)²
        assert!((fid(&a, &b).unwrap() - 26.0).abs() < 1e-9);
        assert!(fid(&a, &a).unwrap().abs() < 1e-9);
        assert!(matches!(
            fid(&a, &diagonal(&[0.0], &[1.0])),
            Err(EvalError::Dimensions { a: 3, b: 1 })
        ));
    }

    #[test]
    fn it_is_symmetric_and_the_same_in_rotated_features() {
        let rotate = |x: &[f32]| -> Vec<f32> {
            x.chunks(2).flat_map(|p| [0.6 * p[0] - 0.8 * p[1], 0.8 * p[0] + 0.6 * p[1]]).collect()
        };
        let sample = |seed: u64, scale: f32| {
            let mut x = vec![0.0; 800];
            Stream::new(seed, Purpose::Noise, 0, 0).fill_normal(&mut x);
            x.iter_mut().step_by(2).for_each(|x| *x = scale * *x + 0.3);
            x
        };
        let gaussian = |x: Vec<f32>| Moments::of(&Features::new(2, x).unwrap()).gaussian().unwrap();
        let (x, y) = (sample(1, 3.0), sample(2, 0.5));
        let turned = fid(&gaussian(rotate(&x)), &gaussian(rotate(&y))).unwrap();
        let (x, y) = (gaussian(x), gaussian(y));
        let (there, back) = (fid(&x, &y).unwrap(), fid(&y, &x).unwrap());
        assert!((there - back).abs() < 1e-9 * there, "{there} {back}");
        assert!((there - turned).abs() < 1e-5 * there, "{there} {turned}");
    }

    #[test]
    fn both_roots_of_a_covariance_give_the_same_distance() {
        let gaussian = |seed: u64, rows: usize| {
            let mut x = vec![0.0; 6 * rows];
            Stream::new(seed, Purpose::Noise, 0, 0).fill_normal(&mut x);
            x.iter_mut().enumerate().for_each(|(i, x)| *x *= 1.0 + (i % 6) as f32);
            Moments::of(&Features::new(6, x).unwrap()).gaussian().unwrap()
        };
        let (a, b) = (gaussian(1, 50), gaussian(2, 40));
        let with_vectors = Root { half: Root::by_eigenvectors(&b).unwrap(), gaussian: &b };
        let (fast, slow) = (fid(&a, &b).unwrap(), with_vectors.fid(&a).unwrap());
        assert!((fast - slow).abs() < 1e-10 * slow, "{fast} {slow}");
        // Four rows have no covariance of full rank: from both sides all the same.
        let flat = gaussian(3, 4);
        let (there, back) = (fid(&a, &flat).unwrap(), fid(&flat, &a).unwrap());
        assert!((there - back).abs() < 1e-9 * there, "{there} {back}");
    }

    #[test]
    fn the_spread_shrinks_with_more_images() {
        let spread = |n: usize| {
            let mut x = vec![0.0; 3 * n];
            Stream::new(5, Purpose::Noise, 0, 0).fill_normal(&mut x);
            let features = Features::new(3, x).unwrap();
            fid_spread(&features, &diagonal(&[1.0; 3], &[1.0; 3]), 40, 0).unwrap()
        };
        let (few, many) = (spread(100), spread(1600));
        assert!(few > 2.5 * many && few < 6.5 * many, "four times as wide: {few} {many}");
    }
}
