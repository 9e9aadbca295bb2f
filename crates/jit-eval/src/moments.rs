//! Mean and covariance of features that pass by, in one go and in little memory.
//!
//! Rows are taken in blocks of a fixed size, each centred on its own mean, and blocks are merged by
//! the update of Chan, Golub and LeVeque, "Algorithms for computing the sample variance" (1983): no
//! large sums of squares cancel, and processes that each saw a part can merge theirs.

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatRef, Par};

use crate::{EvalError, Features};

/// Rows of a block: the unit of merging, so that results do not depend on how rows arrive.
pub(crate) const BLOCK: usize = 256;

/// Running mean and scatter of features.
#[derive(Clone, Debug)]
pub struct Moments {
    dim: usize,
    count: usize,
    mean: Vec<f64>,
    /// `Σ (x − μ)(x − μ)ᵀ`, the lower triangle.
    scatter: Mat<f64>,
    /// Rows that wait for their block to fill.
    pending: Vec<f32>,
}

/// A normal distribution fitted to features.
#[derive(Clone, Debug, PartialEq)]
pub struct Gaussian {
    /// Images behind it; 0 where that is not known.
    pub count: usize,
    /// μ, `[dim]`
    pub mean: Vec<f64>,
    /// Σ, unbiased, `[dim, dim]`
    pub covariance: Vec<f64>,
}

/// That so many images have a covariance.
pub(crate) fn check(have: usize) -> Result<(), EvalError> {
    if have >= 2 {
        return Ok(());
    }
    let help = "add images";
    Err(EvalError::TooFew { metric: "a covariance", what: "different", need: 2, have, help })
}

impl Moments {
    /// Of no rows yet.
    pub fn new(dim: usize) -> Self {
        let (mean, scatter) = (vec![0.0; dim], Mat::zeros(dim, dim));
        Self { dim, count: 0, mean, scatter, pending: Vec::new() }
    }

    /// Of all rows of `features`.
    pub fn of(features: &Features) -> Self {
        let mut moments = Self::new(features.dim());
        moments.push(features.data());
        moments
    }

    /// Adds rows `[n, dim]`, all of them finite.
    ///
    /// # Panics
    /// If the length is no multiple of the dimension.
    pub fn push(&mut self, mut rows: &[f32]) {
        assert!(rows.len().is_multiple_of(self.dim), "whole rows");
        let full = BLOCK * self.dim;
        while !rows.is_empty() {
            if self.pending.is_empty() && rows.len() >= full {
                let (block, rest) = rows.split_at(full);
                self.absorb(block);
                rows = rest;
                continue;
            }
            let (now, rest) = rows.split_at(rows.len().min(full - self.pending.len()));
            self.pending.extend_from_slice(now);
            rows = rest;
            if self.pending.len() == full {
                self.flush();
            }
        }
    }

    /// Merges the moments of other rows into these.
    ///
    /// # Panics
    /// If the dimensions differ.
    pub fn merge(&mut self, mut other: Moments) {
        assert_eq!(self.dim, other.dim, "moments of one extractor");
        self.flush();
        other.flush();
        self.join(other.count, &other.mean);
        for j in 0..self.dim {
            for i in j..self.dim {
                self.scatter[(i, j)] += other.scatter[(i, j)];
            }
        }
    }

    /// The fitted normal distribution.
    ///
    /// # Errors
    /// [`EvalError::TooFew`] for fewer than two rows.
    pub fn gaussian(mut self) -> Result<Gaussian, EvalError> {
        self.flush();
        check(self.count)?;
        let scale = 1.0 / (self.count - 1) as f64;
        let mut covariance = vec![0.0; self.dim * self.dim];
        for j in 0..self.dim {
            for i in j..self.dim {
                let value = scale * self.scatter[(i, j)];
                covariance[i * self.dim + j] = value;
                covariance[j * self.dim + i] = value;
            }
        }
        Ok(Gaussian { count: self.count, mean: self.mean, covariance })
    }

    fn flush(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        if !pending.is_empty() {
            self.absorb(&pending);
        }
    }

    /// Merges a block of rows.
    fn absorb(&mut self, rows: &[f32]) {
        let (dim, count) = (self.dim, rows.len() / self.dim);
        let mut mean = vec![0.0; dim];
        for row in rows.chunks_exact(dim) {
            mean.iter_mut().zip(row).for_each(|(m, &x)| *m += f64::from(x));
        }
        mean.iter_mut().for_each(|m| *m /= count as f64);
        // [dim, count]: a column an image.
        let centred = Mat::from_fn(dim, count, |i, r| f64::from(rows[r * dim + i]) - mean[i]);
        self.join(count, &mean);
        self.add_product(centred.as_ref());
    }

    /// Moves the mean, and adds what its move adds to the scatter.
    fn join(&mut self, count: usize, mean: &[f64]) {
        if count == 0 {
            return;
        }
        let (a, b) = (self.count as f64, count as f64);
        let total = a + b;
        let weight = (a * b / total).sqrt();
        let delta: Vec<f64> = mean.iter().zip(&self.mean).map(|(new, old)| new - old).collect();
        self.mean.iter_mut().zip(&delta).for_each(|(m, d)| *m += d * b / total);
        self.count += count;
        let column = Mat::from_fn(self.dim, 1, |i, _| weight * delta[i]);
        self.add_product(column.as_ref());
    }

    /// `scatter += x·xᵀ`
    fn add_product(&mut self, x: MatRef<'_, f64>) {
        use BlockStructure::{Rectangular, TriangularLower};
        triangular::matmul(
            self.scatter.as_mut(),
            TriangularLower,
            Accum::Add,
            x,
            Rectangular,
            x.transpose(),
            Rectangular,
            1.0,
            Par::rayon(0),
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::features::Features;

    /// Rows far from the origin: sums of squares would lose their digits.
    fn rows(seed: u64, n: usize, dim: usize) -> Vec<f32> {
        use jit_core::rng::{Purpose, Stream};
        let mut x = vec![0.0; n * dim];
        Stream::new(seed, Purpose::Noise, 0, 0).fill_normal(&mut x);
        x.iter_mut().for_each(|x| *x += 300.0);
        x
    }

    /// By the definition, in two passes.
    fn plain(rows: &[f32], dim: usize) -> (Vec<f64>, Vec<f64>) {
        let n = rows.len() / dim;
        let x = |r: usize, i: usize| f64::from(rows[r * dim + i]);
        let mean: Vec<f64> =
            (0..dim).map(|i| (0..n).map(|r| x(r, i)).sum::<f64>() / n as f64).collect();
        let covariance = (0..dim * dim).map(|at| {
            let (i, j) = (at / dim, at % dim);
            (0..n).map(|r| (x(r, i) - mean[i]) * (x(r, j) - mean[j])).sum::<f64>() / (n - 1) as f64
        });
        (mean.clone(), covariance.collect())
    }

    fn assert_near(have: &[f64], want: &[f64], tolerance: f64) {
        for (have, want) in have.iter().zip(want) {
            assert!((have - want).abs() <= tolerance, "{have} instead of {want}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]

        #[test]
        fn moments_are_those_of_the_definition_however_rows_arrive(
            n in 2usize..700, dim in 1usize..9, cut in 0usize..700, seed: u64,
        ) {
            let rows = rows(seed, n, dim);
            let whole = Moments::of(&Features::new(dim, rows.clone()).unwrap()).gaussian().unwrap();
            let (mean, covariance) = plain(&rows, dim);
            assert_near(&whole.mean, &mean, 1e-9);
            assert_near(&whole.covariance, &covariance, 1e-9);

            let mut parts = Moments::new(dim);
            rows.chunks(dim * (1 + cut % 40)).for_each(|part| parts.push(part));
            prop_assert_eq!(&parts.gaussian().unwrap(), &whole);

            let (a, b) = rows.split_at(cut.min(n) * dim);
            let mut merged = Moments::new(dim);
            merged.push(a);
            let mut other = Moments::new(dim);
            other.push(b);
            merged.merge(other);
            let merged = merged.gaussian().unwrap();
            prop_assert_eq!(merged.count, n);
            assert_near(&merged.mean, &mean, 1e-9);
            assert_near(&merged.covariance, &covariance, 1e-9);
        }
    }

    #[test]
    fn one_row_has_no_covariance() {
        let mut moments = Moments::new(3);
        moments.push(&[1.0, 2.0, 3.0]);
        assert!(matches!(moments.gaussian(), Err(EvalError::TooFew { have: 1, .. })));
    }
}
