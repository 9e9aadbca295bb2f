//! The folder of a run: who may write to it, what it holds, and whether training starts or goes on.
//!
//! ```text
//! config.toml    the effective configuration, reusable as --config
//! manifest.json  the images
//! metrics.jsonl  a line a step
//! events.out.*   the same for TensorBoard, and the sample grids
//! samples/       grids from fixed noise and labels; samples.png is the last of them
//! checkpoints/   see `checkpoint`
//! ```

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jit_core::files::{FileError, write_bytes_atomic};
use jit_data::Dataset;

use crate::checkpoint::{self, Checkpoint, write_json};
use crate::compatibility::differences;
use crate::config::{ConfigError, PARTNER, RunConfig};
use crate::error::TrainError;
use crate::observer::Observer;
use crate::retention;

/// A run's folder, locked for as long as this lives.
#[derive(Debug)]
pub struct Run {
    /// The folder.
    pub dir: PathBuf,
    /// The effective configuration.
    pub config: RunConfig,
    /// The images.
    pub dataset: Arc<Dataset>,
    /// Fingerprint of the images.
    pub data: String,
    /// Where the images are.
    pub source: String,
    /// The checkpoint to go on from.
    pub resume: Option<Checkpoint>,
    _lock: File,
}

impl Run {
    /// Opens or creates the folder `dir` for a run with this configuration and these (checked)
    /// images. If it holds a checkpoint, the run goes on from it.
    ///
    /// # Errors
    /// [`TrainError::Locked`] while another process trains there; [`TrainError::Differs`] and
    /// [`TrainError::DataDiffers`] when the run cannot go on with these options or images;
    /// [`TrainError::NoCheckpoint`] when all its checkpoints are damaged. Nothing is changed then.
    pub fn open(
        dir: &Path,
        config: RunConfig,
        dataset: Arc<Dataset>,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        config.validate()?;
        if !["", PARTNER].contains(&&*config.fusion.with) {
            return Err(ConfigError::Value {
                key: "fusion.with",
                value: config.fusion.with,
                expected: "`partner` or nothing in a run that trains; `jit sample --fuse` draws \
                           with other models"
                    .into(),
            }
            .into());
        }
        let (have, need) = (config.model.num_classes, dataset.num_classes());
        if have < need {
            return Err(TrainError::Classes { have, need });
        }
        fs::create_dir_all(dir).map_err(FileError::at("create folder", dir))?;
        let lock = lock(dir)?;
        let manifest = dataset.manifest();
        let data = manifest.fingerprint();
        let checkpoints = dir.join("checkpoints");

        let found = checkpoint::latest(&checkpoints)?;
        match (&found.checkpoint, found.damaged.first()) {
            (None, Some((_, reason))) => {
                let reason = reason.to_string();
                return Err(TrainError::NoCheckpoint { dir: checkpoints, reason });
            }
            (Some(checkpoint), _) => may_continue(dir, checkpoint, &config, &data, &manifest)?,
            (None, None) => {}
        }
        for (path, reason) in &found.damaged {
            let aside = set_aside(path)?;
            observer.warning(&format!(
                "{reason}; the checkpoint was set aside as `{}` and training goes on from an \
                 older one",
                aside.display()
            ));
        }
        for dir in [dir, &checkpoints, &dir.join("samples")] {
            retention::clean(dir)?;
        }
        let toml = config.to_toml().map_err(|error| TrainError::Damaged {
            path: dir.join("config.toml"),
            what: format!("cannot be written: {error}"),
        })?;
        write_bytes_atomic(&dir.join("config.toml"), toml.as_bytes())?;
        write_json(&dir.join("manifest.json"), &manifest)?;
        let (dir, resume, source) = (dir.into(), found.checkpoint, manifest.source);
        Ok(Self { dir, config, dataset, data, source, resume, _lock: lock })
    }
}

fn lock(dir: &Path) -> Result<File, TrainError> {
    let path = dir.join(".lock");
    let file = File::create(&path).map_err(FileError::at("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(TrainError::Locked { dir: dir.into() }),
        Err(TryLockError::Error(error)) => Err(FileError::at("lock", &path)(error).into()),
    }
}

/// Refuses what would make the continued run another than the one that was started.
fn may_continue(
    dir: &Path,
    checkpoint: &Checkpoint,
    config: &RunConfig,
    data: &str,
    manifest: &jit_data::Manifest,
) -> Result<(), TrainError> {
    let differences =
        differences(&checkpoint.config, config).map_err(|error| TrainError::Damaged {
            path: checkpoint.dir.clone(),
            what: format!("has a configuration that cannot be compared: {error}"),
        })?;
    if !differences.is_empty() {
        return Err(TrainError::Differs { dir: dir.into(), differences });
    }
    if checkpoint.state.data != data {
        let (saved, now) = (checkpoint.state.source.clone(), manifest.source.clone());
        return Err(TrainError::DataDiffers { dir: dir.into(), saved, now });
    }
    Ok(())
}

/// Gives a damaged checkpoint a name under which it is none, so that its step can be saved anew.
fn set_aside(path: &Path) -> Result<PathBuf, FileError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let free = (0..).map(|i| path.with_file_name(format!("damaged-{name}-{i}")));
    let aside = free.into_iter().find(|p| !p.exists()).unwrap_or_else(|| path.into());
    fs::rename(path, &aside).map_err(FileError::at("rename", path))?;
    Ok(aside)
}
