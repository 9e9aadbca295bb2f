//! Where things lie in a study's folder.
//!
//! ```text
//! suite.toml                        the effective suite, reusable as --suite
//! runs/<cell>/seed-<s>/             an ordinary training run
//! runs/<cell>/seed-<s>/record.json  its record; its presence says that the run is finished
//! fused/<cell>/seed-<s>.json        the record of two models drawing together
//! ```

use std::path::{Path, PathBuf};

/// Name of the suite's file.
pub const SUITE: &str = "suite.toml";

/// Name of a run's record.
pub const RECORD: &str = "record.json";

/// The effective suite.
pub fn suite(study: &Path) -> PathBuf {
    study.join(SUITE)
}

/// The folder of a run.
pub fn run(study: &Path, cell: &str, seed: u64) -> PathBuf {
    study.join("runs").join(cell).join(format!("seed-{seed}"))
}

/// The record of a run.
pub fn record(study: &Path, cell: &str, seed: u64) -> PathBuf {
    run(study, cell, seed).join(RECORD)
}

/// Where the record and the sample grid of two models drawing together lie.
pub fn fused_folder(study: &Path, cell: &str) -> PathBuf {
    study.join("fused").join(cell)
}

/// The record of two models drawing together.
pub fn fused(study: &Path, cell: &str, seed: u64) -> PathBuf {
    fused_folder(study, cell).join(format!("seed-{seed}.json"))
}
