//! Golden cases: files of inputs with what the reference implementation made of them. Whatever a
//! file holds is computed again and compared, tensor by tensor.
//!
//! A file is recognised by what is in it, never by its name: one forward and backward pass
//! ([`model`]), sampler trajectories ([`sampler`]), a short training ([`training`]), a torch
//! checkpoint and its outputs ([`checkpoint`]), image transforms ([`transforms`]), networks that judge
//! images ([`extractors`]), metrics ([`metrics`]).

use std::path::{Path, PathBuf};

use jit_core::text::Show;
use jit_data::DataError;
use jit_eval::EvalError;
use jit_model::Device;
use jit_model::config::ConfigError;
use jit_model::weights::WeightsError;
use jit_train::Communicator;
use jit_train::communicator::CommunicationError;

use crate::shape::ShapeError;

pub mod case;
pub mod checkpoint;
pub mod extractors;
pub mod measure;
pub mod metrics;
pub mod model;
pub mod sampler;
pub mod training;
pub mod transforms;

pub use case::Case;
pub use measure::Check;

/// Why a file cannot be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// An image beside the file cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Metrics or networks cannot be computed.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// The processes cannot talk.
    #[error(transparent)]
    Communication(#[from] CommunicationError),
    /// There is not an image in a step for each process.
    #[error("`{}` has {images} images a step: too few for {processes} processes", path.shown())]
    TooManyProcesses {
        /// The file.
        path: PathBuf,
        /// Images in a step.
        images: usize,
        /// The processes.
        processes: usize,
    },
    /// Nothing that golden cases hold.
    #[error(
        "`{}` is no golden case: expected a safetensors file with `in.x` (model), `z0` (sampler), \
         `micro.x` (training), `FILE@SIZE` (transforms), `image_HxW` (extractors) or `CASE.generated` \
         (metrics), or a `.pth` with its \
         `.expected.safetensors` beside it; its tensors are {found}", path.shown()
    )]
    Unrecognised {
        /// The file.
        path: PathBuf,
        /// Some of its tensors.
        found: String,
    },
    /// A tensor that does not fit the others.
    #[error("`{}`: tensor `{tensor}` is {found}; expected {expected}", path.shown())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape or values.
        found: String,
        /// What would fit.
        expected: String,
    },
    /// A metadata entry that is missing or makes no sense.
    #[error("`{}`: metadata `{key}` is {found}; expected {expected}", path.shown())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// The entry.
        key: String,
        /// Its value.
        found: String,
        /// What would do.
        expected: String,
    },
    /// A configuration that no network can have.
    #[error("`{}`: {source}", path.shown())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// Weights that are not those of the network.
    #[error("`{}`: {source}", path.shown())]
    Shape {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: ShapeError,
    },
}

/// Computes on `dev` what the file holds and compares; several processes share a training.
///
/// # Errors
/// [`VerifyError`] when the file cannot be read or is no golden case; a deviation is no error but a
/// [`Check`] that failed.
pub fn verify<D: Device>(
    comm: &dyn Communicator,
    dev: &D,
    path: &Path,
) -> Result<Vec<Check>, VerifyError> {
    let case = Case::open(path)?;
    if case.is_torch() {
        return checkpoint::verify(dev, path, &Case::open(&checkpoint::expected_path(path))?);
    }
    let has = |name: &str| case.has(name);
    if has("in.x") {
        model::verify(dev, &case)
    } else if has("micro.x") {
        training::verify(comm, dev, &case)
    } else if has("z0") {
        sampler::verify(dev, &case)
    } else if case.names().iter().any(|name| name.starts_with(checkpoint::OUTPUT)) {
        checkpoint::verify(dev, &checkpoint::torch_path(path), &case)
    } else if case.names().iter().any(|name| transforms::parse(name).is_some()) {
        transforms::verify(&case)
    } else if case.names().iter().any(|name| name.starts_with(extractors::IMAGE)) {
        extractors::verify(&case)
    } else if case.names().iter().any(|name| name.ends_with(metrics::GENERATED)) {
        metrics::verify(&case)
    } else {
        let names = case.names();
        let mut found: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
        if names.len() > found.len() {
            found.push("…");
        }
        Err(VerifyError::Unrecognised { path: path.into(), found: found.join(", ") })
    }
}

/// The checks as an aligned table, one line a check.
pub fn table(checks: &[Check]) -> String {
    let header = ["case", "quantity", "worst tensor", "error", "tolerance", ""];
    let mut rows: Vec<[String; 6]> = vec![header.map(str::to_string)];
    rows.extend(checks.iter().map(|c| {
        let verdict = if c.passed() { "ok" } else { "FAIL" };
        let quantity = format!("{} ({})", c.quantity, c.tensors);
        let (error, tolerance) = (c.show(c.error), c.show(c.tolerance));
        [c.case.clone(), quantity, c.worst.clone(), error, tolerance, verdict.into()]
    }));
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &w)| format!("{cell:w$}")).collect();
        cells.join("  ").trim_end().to_string() + "\n"
    };
    rows.iter().map(line).collect()
}
