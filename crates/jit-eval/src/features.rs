//! Features of images, a row each.

use crate::EvalError;

/// A matrix of features `[rows, dim]`, all of them finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    dim: usize,
    data: Vec<f32>,
}

impl Features {
    /// `data` `[rows, dim]`.
    ///
    /// # Errors
    /// [`EvalError::Length`] when there is no whole number of rows, [`EvalError::NotFinite`] for a
    /// NaN or an infinity, naming image and feature.
    pub fn new(dim: usize, data: Vec<f32>) -> Result<Self, EvalError> {
        if dim == 0 || !data.len().is_multiple_of(dim) {
            return Err(EvalError::Length { len: data.len(), dim });
        }
        match data.iter().position(|x| !x.is_finite()) {
            Some(i) => Err(EvalError::NotFinite { row: i / dim, column: i % dim, value: data[i] }),
            None => Ok(Self { dim, data }),
        }
    }

    /// Number of images.
    pub fn rows(&self) -> usize {
        self.data.len() / self.dim
    }

    /// Values of a feature.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// `[rows, dim]`
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The feature of image `i`.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.dim..][..self.dim]
    }

    /// The first `rows` images.
    pub fn first(&self, rows: usize) -> Features {
        let rows = rows.min(self.rows());
        Features { dim: self.dim, data: self.data[..rows * self.dim].to_vec() }
    }

    /// Keeps the first `rows` images.
    pub fn truncate(&mut self, rows: usize) {
        self.data.truncate(rows * self.dim);
    }

    /// The images at `indices`, which may repeat.
    pub fn select(&self, indices: &[u32]) -> Features {
        let data = indices.iter().flat_map(|&i| self.row(i as usize)).copied().collect();
        Features { dim: self.dim, data }
    }

    /// That both have features of one extractor.
    pub(crate) fn comparable(&self, other: &Features) -> Result<(), EvalError> {
        match self.dim == other.dim {
            true => Ok(()),
            false => Err(EvalError::Dimensions { a: self.dim, b: other.dim }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_named() {
        let error = Features::new(2, vec![0.0, 1.0, 2.0, f32::NAN]).unwrap_err().to_string();
        assert!(error.starts_with("feature 1 of image 1 is NaN"), "{error}");
        assert!(Features::new(2, vec![0.0; 3]).is_err());
        assert!(Features::new(0, Vec::new()).is_err());
    }

    #[test]
    fn rows_are_taken_by_index() {
        let features = Features::new(2, vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert_eq!((features.rows(), features.row(1)), (3, &[2.0, 3.0][..]));
        assert_eq!(features.select(&[2, 0, 2]).data(), [4.0, 5.0, 0.0, 1.0, 4.0, 5.0]);
        assert_eq!(features.first(2).data(), [0.0, 1.0, 2.0, 3.0]);
        let mut short = features.clone();
        short.truncate(1);
        assert_eq!(short.data(), [0.0, 1.0]);
        short.truncate(4);
        assert_eq!(short.rows(), 1);
    }
}
