//! Why a run cannot start or go on.

use std::fmt::Write as _;
use std::path::PathBuf;

use jit_core::files::FileError;
use jit_core::text::Show;
use jit_data::DataError;
use jit_eval::EvalError;
use jit_model::fusion::Mismatch;
use jit_model::weights::WeightsError;

use crate::communicator::CommunicationError;
use crate::compatibility::Difference;
use crate::config::ConfigError;

/// Why a run cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The processes of a run cannot talk, or are not alike.
    #[error(transparent)]
    Communication(#[from] CommunicationError),
    /// There is not an image in a step for each process.
    #[error(
        "train.global_batch = {images}: {processes} processes cannot share {images} images a step; \
         start {images} processes or fewer, or raise train.global_batch"
    )]
    TooManyProcesses {
        /// The processes.
        processes: usize,
        /// Images in a step.
        images: usize,
    },
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The images cannot be had.
    #[error(transparent)]
    Data(#[from] DataError),
    /// What was drawn cannot be evaluated.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// Two networks cannot draw together.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// Weights cannot be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A file of a run is not what it should be.
    #[error("`{}` {what}", path.shown())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A checkpoint was written by another version of this program.
    #[error(
        "`{}` has format {found}; this version of jit reads format {expected}", path.shown()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The format that it has.
        found: u32,
        /// The format that can be read.
        expected: u32,
    },
    /// Every checkpoint of a run is damaged, so that going on would mean to start over.
    #[error(
        "no checkpoint in `{}` can be read, the newest because {reason}; \
         choose another folder with --out, or remove that one to start over", dir.shown()
    )]
    NoCheckpoint {
        /// The folder of the checkpoints.
        dir: PathBuf,
        /// What is wrong with the newest.
        reason: String,
    },
    /// A run would go on with options that change its result.
    #[error("{}", describe_differences(.dir, .differences))]
    Differs {
        /// The run's folder.
        dir: PathBuf,
        /// Every such key.
        differences: Vec<Difference>,
    },
    /// A run would go on with other images.
    #[error(
        "the run in `{}` was started on other images (`{saved}`) than `{now}` holds now; \
         give it the same images, or choose another folder with --out", dir.shown()
    )]
    DataDiffers {
        /// The run's folder.
        dir: PathBuf,
        /// Where its images were.
        saved: String,
        /// Where the present images are.
        now: String,
    },
    /// The network has fewer classes than the data.
    #[error("model.num_classes = {have}: the data has {need} classes; set it to {need} or more")]
    Classes {
        /// Classes of the network.
        have: usize,
        /// Classes of the data.
        need: usize,
    },
    /// Another process trains in the same folder.
    #[error("another process is training in `{}`; wait for it or choose another --out", dir.shown())]
    Locked {
        /// The run's folder.
        dir: PathBuf,
    },
    /// Training diverged (spec §3).
    #[error(
        "{what} is not a finite number at step {step}, with a learning rate of {lr:e}; {}. \
         A lower learning rate, a longer warm-up or optim.clip_norm may help",
        describe_last_good(.last_good)
    )]
    NotFinite {
        /// The quantity.
        what: &'static str,
        /// The optimizer step, from 1.
        step: u64,
        /// The learning rate of that step.
        lr: f64,
        /// The newest checkpoint, from before.
        last_good: Option<PathBuf>,
    },
    /// The device's memory does not hold a micro-batch.
    #[error("{}", describe_memory(*.batch, *.needed, *.limit, *.fits, *.checkpoints))]
    OutOfMemory {
        /// Images of the micro-batch.
        batch: usize,
        /// Bytes that a step on it needs.
        needed: u64,
        /// Bytes that the device holds, where that is known.
        limit: Option<u64>,
        /// The micro-batch that would fit, if any does; half of it where that is not known.
        fits: Option<usize>,
        /// Whether blocks are computed again in the backward pass already.
        checkpoints: bool,
    },
    /// The machine's memory does not hold a micro-batch.
    #[error("{}", describe_room(*.batch, *.needed, *.available, *.fits, *.checkpoints))]
    NoRoom {
        /// Images of the micro-batch.
        batch: usize,
        /// Bytes that a step on it needs at least.
        needed: u64,
        /// Bytes that this process can still have.
        available: u64,
        /// The micro-batch that would fit, if any does.
        fits: Option<usize>,
        /// Whether blocks are computed again in the backward pass already.
        checkpoints: bool,
    },
    /// The device failed.
    #[error("the device failed: {reason}")]
    Device {
        /// What its driver said.
        reason: String,
    },
    /// The operating system refused a background thread.
    #[error("cannot start a background thread: {0}")]
    Thread(std::io::Error),
    /// A background thread ended without saying why: a defect of this program.
    #[error("the thread that prepares batches ended unexpectedly")]
    FeedEnded,
}

fn size(bytes: u64) -> String {
    match bytes as f64 / f64::from(1 << 30) {
        gib if gib < 1.0 => format!("{:.1} MiB", gib * 1024.0),
        gib => format!("{gib:.2} GiB"),
    }
}

fn micro_batch(batch: usize) -> String {
    let images = if batch == 1 { "1 image".into() } else { format!("{batch} images") };
    format!("a micro-batch of {images}")
}

fn describe_room(
    batch: usize,
    needed: u64,
    available: u64,
    fits: Option<usize>,
    checkpoints: bool,
) -> String {
    let mut text = format!(
        "training with {} needs {} of memory, and this process can have {}. ",
        micro_batch(batch),
        size(needed),
        size(available)
    );
    let _ = match fits {
        Some(fits) => write!(
            text,
            "--set train.batch_size={fits} would fit, with the same result to rounding"
        ),
        None => write!(text, "Not even one image fits: choose a smaller model or a larger machine"),
    };
    if !checkpoints {
        text.push_str("; train.checkpoint_blocks=true makes room for more");
    }
    text
}

fn describe_memory(
    batch: usize,
    needed: u64,
    limit: Option<u64>,
    fits: Option<usize>,
    checkpoints: bool,
) -> String {
    let mut text =
        format!("the device is out of memory: {} needs {}", micro_batch(batch), size(needed));
    let _ = match limit {
        Some(limit) => write!(text, ", and it holds {}. ", size(limit)),
        None => write!(text, ". "),
    };
    let _ = match (fits, limit) {
        (Some(fits), Some(_)) => {
            write!(
                text,
                "--set train.batch_size={fits} would fit, with the same result to rounding"
            )
        }
        (Some(fits), None) => {
            write!(text, "Try --set train.batch_size={fits}, which has the same result to rounding")
        }
        (None, _) => {
            write!(text, "Not even one image fits: choose a smaller model or a larger device")
        }
    };
    if !checkpoints {
        text.push_str("; train.checkpoint_blocks=true makes room for more");
    }
    text
}

fn describe_last_good(last_good: &Option<PathBuf>) -> String {
    match last_good {
        Some(path) => format!("the last good checkpoint is `{}`", path.shown()),
        None => "there is no checkpoint from before".into(),
    }
}

fn describe_differences(dir: &std::path::Path, differences: &[Difference]) -> String {
    let mut text = format!(
        "the run in `{}` cannot go on with other options than it was started with:",
        dir.shown()
    );
    for Difference { key, saved, now } in differences {
        let _ = write!(text, "\n  {key}: started with {saved}, now {now}");
    }
    text + "\nRestore them to continue, or choose another folder with --out to start anew"
}
