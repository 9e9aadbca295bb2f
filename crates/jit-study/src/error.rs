//! Why a study cannot be planned or go on.

use std::fmt::Write as _;
use std::path::PathBuf;

use jit_core::files::FileError;
use jit_core::text::Show;
use jit_data::DataError;
use jit_model::fusion::FusionError;
use jit_train::TrainError;
use jit_train::compatibility::Difference;
use jit_train::config::ConfigError;

use crate::record::RecordError;

/// Why a study cannot be planned or go on.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// There is nothing to compute on.
    #[error("{0}")]
    Device(String),
    /// No embedded suite has the name, and no file either.
    #[error("there is no suite `{name}`{hint}; suites are {known}, or a file")]
    UnknownSuite {
        /// What was asked for.
        name: String,
        /// The nearest name, or nothing.
        hint: String,
        /// All of them.
        known: String,
    },
    /// A suite that is not what its file should hold.
    #[error("suite `{name}` is not valid: {source}")]
    Syntax {
        /// The suite's name or file.
        name: String,
        /// Where and what.
        source: toml::de::Error,
    },
    /// A suite that cannot be written as TOML.
    #[error("suite `{name}` cannot be written: {source}")]
    Unwritable {
        /// The suite's name.
        name: String,
        /// What does not fit.
        source: toml::ser::Error,
    },
    /// A value of the suite itself that makes no sense.
    #[error("suite `{suite}`: {key} = {value}: expected {expected}")]
    Value {
        /// The suite's name.
        suite: String,
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What would be valid.
        expected: &'static str,
    },
    /// A cell that sets what is no option.
    #[error("cell `{cell}`: there is no option `{option}`{hint}; `jit options` lists them")]
    UnknownOption {
        /// The cell.
        cell: String,
        /// The key.
        option: String,
        /// The nearest option, or nothing.
        hint: String,
    },
    /// A cell that gives an option a value of the wrong type.
    #[error("cell `{cell}`: {source}")]
    WrongValue {
        /// The cell.
        cell: String,
        /// Which and why.
        source: toml::de::Error,
    },
    /// A cell whose configuration makes no sense.
    #[error("cell `{cell}`: {source}")]
    Config {
        /// The cell.
        cell: String,
        /// Why.
        source: ConfigError,
    },
    /// A fusion that makes no sense.
    #[error("fusion `{sweep}`: {source}")]
    Weight {
        /// Its name.
        sweep: String,
        /// Why.
        source: FusionError,
    },
    /// A name that no cell or run has.
    #[error("the suite has no `{name}`{hint}; give a cell, or a cell and a seed as in `{example}`")]
    NoSuchRun {
        /// What was asked for.
        name: String,
        /// The nearest cell, or nothing.
        hint: String,
        /// One that there is.
        example: String,
    },
    /// A folder that holds another study.
    #[error("{}", describe(.dir, .differences))]
    Differs {
        /// The study's folder.
        dir: PathBuf,
        /// Every key that differs.
        differences: Vec<Difference>,
    },
    /// A record of a run with other options.
    #[error(
        "`{}` is the record of a run with other options; choose another folder with --out, or remove \
         the run's folder to repeat it", path.shown()
    )]
    Stale {
        /// The record.
        path: PathBuf,
    },
    /// A line of a run's journal that is not what was written there.
    #[error("`{}`, line {line}: {source}; remove the run's folder to repeat it", path.shown())]
    Journal {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A run that failed for another reason than its own numbers.
    #[error("run {cell}/seed-{seed}: {source}")]
    Run {
        /// The cell.
        cell: String,
        /// The seed.
        seed: u64,
        /// Why.
        source: Box<TrainError>,
    },
    /// Two trained models that cannot draw together.
    #[error("{row}: {source}")]
    Fusion {
        /// The row.
        row: String,
        /// Why.
        source: Box<TrainError>,
    },
    /// Images cannot be judged.
    #[error(transparent)]
    Eval(Box<TrainError>),
    /// The images cannot be had.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A record cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

fn describe(dir: &std::path::Path, differences: &[Difference]) -> String {
    let mut text = format!("the study in `{}` was started otherwise:", dir.shown());
    for Difference { key, saved, now } in differences {
        let _infallible = write!(text, "\n  {key}: started with {saved}, now {now}");
    }
    text + "\nRestore it to go on (cells and seeds may be added), or choose another folder with --out"
}
