//! Statistics of real images in a file: `mu` and `sigma` as numpy and torch-fidelity read them, and
//! what they were made with, so that no figure compares what cannot be compared.

use std::path::Path;

use jit_model::weights::{Npz, Tensor, TensorData, write_npz};
use serde::{Deserialize, Serialize};

use crate::{EvalError, Gaussian};

/// What statistics were made with. Kept as JSON in the array `provenance` (bytes).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The extractor.
    pub extractor: String,
    /// SHA-256 of its weights.
    pub weights: String,
    /// How images were brought to size: `paper` (squashed) or `jit` (centre crop).
    pub protocol: String,
    /// Height and width that images were brought to.
    pub resolution: usize,
    /// Number of images.
    pub count: usize,
}

/// A file of statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// Mean and covariance.
    pub gaussian: Gaussian,
    /// What they were made with; absent in files of other programs.
    pub provenance: Option<Provenance>,
}

impl Stats {
    /// Reads `mu` and `sigma`, or ADM's `mu_s` and `sigma_s`.
    ///
    /// # Errors
    /// [`EvalError::Stats`] when the arrays are missing or do not fit together, and
    /// [`EvalError::Weights`] when the archive is damaged.
    pub fn read(path: &Path) -> Result<Self, EvalError> {
        let fault = |what: String| EvalError::Stats { path: path.into(), what };
        let npz = Npz::open(path)?;
        let names = npz.names();
        let has = |name: &str| names.iter().any(|n| n == name);
        let (mu, sigma) = match (has("mu") && has("sigma"), has("mu_s") && has("sigma_s")) {
            (true, _) => ("mu", "sigma"),
            (_, true) => ("mu_s", "sigma_s"),
            _ => {
                let have = names.join("`, `");
                return Err(fault(format!("expected `mu` and `sigma`; it has `{have}`")));
            }
        };
        let (mu, sigma) = (npz.array(mu)?, npz.array(sigma)?);
        let dim = mu.shape.iter().product::<usize>();
        if dim == 0 || sigma.shape != [dim, dim] {
            let shapes = (&mu.shape, &sigma.shape);
            return Err(fault(format!("mu {:?} and sigma {:?} do not fit", shapes.0, shapes.1)));
        }
        let (mean, covariance) = (numbers(mu.data), numbers(sigma.data));
        if mean.iter().chain(&covariance).any(|v| !v.is_finite()) {
            return Err(fault("some values are not finite".into()));
        }
        let provenance = match has("provenance") {
            false => None,
            true => match npz.array("provenance")?.data {
                TensorData::U8(bytes) => Some(
                    serde_json::from_slice::<Provenance>(&bytes)
                        .map_err(|e| fault(format!("its provenance cannot be read: {e}")))?,
                ),
                _ => return Err(fault("its provenance is no text".into())),
            },
        };
        let count = provenance.as_ref().map_or(0, |p| p.count);
        Ok(Self { gaussian: Gaussian { count, mean, covariance }, provenance })
    }

    /// Writes the file to where a user points.
    ///
    /// # Errors
    /// [`EvalError::File`] when it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), EvalError> {
        let dim = self.gaussian.mean.len();
        let array = |shape: Vec<usize>, values: &[f64]| Tensor {
            shape,
            data: TensorData::F64(values.to_vec()),
        };
        let provenance = self.provenance.as_ref().map(serde_json::to_vec).transpose();
        let provenance = provenance
            .map_err(|error| EvalError::Stats { path: path.into(), what: error.to_string() })?;
        Ok(write_npz(path, |npz| {
            npz.array("mu", &array(vec![dim], &self.gaussian.mean))?;
            npz.array("sigma", &array(vec![dim, dim], &self.gaussian.covariance))?;
            match provenance {
                Some(bytes) => npz.array(
                    "provenance",
                    &Tensor { shape: vec![bytes.len()], data: TensorData::U8(bytes) },
                ),
                None => Ok(()),
            }
        })?)
    }

    /// Refuses statistics made with another extractor, which can be told before one is opened.
    ///
    /// # Errors
    /// [`EvalError::Mismatch`] with both names.
    pub fn check_extractor(&self, path: &Path, ours: &str) -> Result<(), EvalError> {
        match &self.provenance {
            Some(theirs) if theirs.extractor != ours => {
                Err(mismatch(path, "the extractor", &theirs.extractor, ours))
            }
            _ => Ok(()),
        }
    }

    /// Refuses statistics made with something else than what is used now. Files of other programs
    /// do not tell; their dimension must do.
    ///
    /// # Errors
    /// [`EvalError::Mismatch`] with both values.
    pub fn check(&self, path: &Path, ours: &Provenance) -> Result<(), EvalError> {
        let Some(theirs) = &self.provenance else { return Ok(()) };
        let pairs = [
            ("the extractor", theirs.extractor.clone(), ours.extractor.clone()),
            ("the weights", theirs.weights.clone(), ours.weights.clone()),
            ("the protocol", theirs.protocol.clone(), ours.protocol.clone()),
            ("the resolution", theirs.resolution.to_string(), ours.resolution.to_string()),
        ];
        match pairs.into_iter().find(|(_, theirs, ours)| theirs != ours) {
            None => Ok(()),
            Some((what, theirs, ours)) => Err(mismatch(path, what, &theirs, &ours)),
        }
    }
}

fn mismatch(path: &Path, what: &'static str, theirs: &str, ours: &str) -> EvalError {
    let (theirs, ours) = (theirs.into(), ours.into());
    EvalError::Mismatch { path: path.into(), what, theirs, ours }
}

fn numbers(data: TensorData) -> Vec<f64> {
    match data {
        TensorData::F64(values) => values,
        TensorData::F32(values) => values.into_iter().map(f64::from).collect(),
        TensorData::I64(values) => values.into_iter().map(|v| v as f64).collect(),
        TensorData::U8(values) => values.into_iter().map(f64::from).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Whatever is damaged, an error or the whole statistics.
        #[test]
        fn damage_never_panics(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("stats.npz");
            stats().write(&path).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            std::fs::write(&path, bytes).unwrap();
            if let Ok(read) = Stats::read(&path) {
                prop_assert_eq!(read.gaussian.covariance.len(), read.gaussian.mean.len().pow(2));
            }
        }
    }

    fn stats() -> Stats {
        let gaussian =
            Gaussian { count: 9, mean: vec![1.0, -2.5], covariance: vec![2.0, 0.1, 0.1, 3.0] };
        let provenance = Provenance {
            extractor: "digits".into(),
            weights: "ab".into(),
            protocol: "jit".into(),
            resolution: 28,
            count: 9,
        };
        Stats { gaussian, provenance: Some(provenance) }
    }

    #[test]
    fn what_is_written_is_read_and_foreign_files_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stats.npz");
        stats().write(&path).unwrap();
        assert_eq!(Stats::read(&path).unwrap(), stats());

        let array = |shape: &[usize], values: &[f32]| Tensor {
            shape: shape.to_vec(),
            data: TensorData::F32(values.to_vec()),
        };
        write_npz(&path, |npz| {
            npz.array("mu_s", &array(&[2], &[1.0, -2.5]))?;
            npz.array("sigma_s", &array(&[2, 2], &[2.0, 0.5, 0.5, 3.0]))
        })
        .unwrap();
        let foreign = Stats::read(&path).unwrap();
        assert_eq!((foreign.gaussian.count, foreign.provenance), (0, None));
        assert_eq!(foreign.gaussian.covariance, [2.0, 0.5, 0.5, 3.0]);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_values() {
        let ours = stats().provenance.unwrap();
        let path = Path::new("s.npz");
        stats().check(path, &ours).unwrap();
        stats().check(path, &Provenance { count: 500, ..ours.clone() }).unwrap();
        let cases = [
            (
                Provenance { extractor: "inception".into(), ..ours.clone() },
                "the extractor digits, and this evaluation uses inception",
            ),
            (
                Provenance { weights: "cd".into(), ..ours.clone() },
                "the weights ab, and this evaluation uses cd",
            ),
            (
                Provenance { protocol: "paper".into(), ..ours.clone() },
                "the protocol jit, and this evaluation uses paper",
            ),
            (
                Provenance { resolution: 32, ..ours.clone() },
                "the resolution 28, and this evaluation uses 32",
            ),
        ];
        for (other, part) in cases {
            let message = stats().check(path, &other).unwrap_err().to_string();
            assert!(message.contains("`s.npz`") && message.contains(part), "{message}");
        }
        stats().check_extractor(path, "digits").unwrap();
        let message = stats().check_extractor(path, "inception").unwrap_err().to_string();
        assert!(message.contains("digits, and this evaluation uses inception"), "{message}");
        // Files of other programs do not tell.
        let foreign = Stats { provenance: None, ..stats() };
        foreign.check(path, &Provenance { resolution: 32, ..ours }).unwrap();
        foreign.check_extractor(path, "inception").unwrap();
    }

    #[test]
    fn damaged_files_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stats.npz");
        stats().write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for cut in [0, 10, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(Stats::read(&path).is_err(), "{cut} bytes");
        }
        let array = |n: usize| Tensor { shape: vec![n], data: TensorData::F64(vec![1.0; n]) };
        write_npz(&path, |npz| {
            npz.array("mu", &array(2))?;
            npz.array("sigma", &array(4))
        })
        .unwrap();
        let message = Stats::read(&path).unwrap_err().to_string();
        assert!(message.contains("mu [2] and sigma [4] do not fit"), "{message}");
        write_npz(&path, |npz| npz.array("x", &array(1))).unwrap();
        let message = Stats::read(&path).unwrap_err().to_string();
        assert!(message.contains("expected `mu` and `sigma`; it has `x`"), "{message}");
    }
}
