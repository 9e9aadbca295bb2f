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

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jit_core::files::{FileError, write_bytes_atomic};
use jit_core::lock::{self, Lock, PATIENCE};
use jit_core::text::Show;
use jit_data::Dataset;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{self, Checkpoint, write_json};
use crate::communicator::{CommunicationError, Communicator};
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
    /// The step to go on from, if there is a checkpoint.
    pub step: Option<u64>,
    /// Seconds spent on steps before.
    pub elapsed: f64,
    /// That checkpoint. Of several processes the first alone has it.
    pub resume: Option<Checkpoint>,
    /// Held by the process that writes.
    _lock: Option<Lock>,
}

/// What the process that opens the folder tells the others.
#[derive(Serialize, Deserialize)]
struct Told {
    config: String,
    data: String,
    step: Option<u64>,
    elapsed: f64,
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
                aside.shown()
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
        let step = resume.as_ref().map(|checkpoint| checkpoint.state.step);
        let elapsed = resume.as_ref().map_or(0.0, |checkpoint| checkpoint.state.elapsed);
        let _lock = Some(lock);
        Ok(Self { dir, config, dataset, data, source, step, elapsed, resume, _lock })
    }

    /// The same for several processes: the first opens the folder, which the others need not even see.
    ///
    /// # Errors
    /// As [`Run::open`] on the first; on the others when their options or images are not the first's.
    pub fn open_together(
        comm: &dyn Communicator,
        dir: &Path,
        config: RunConfig,
        dataset: Arc<Dataset>,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        if comm.size() > config.train.global_batch {
            let (processes, images) = (comm.size(), config.train.global_batch);
            return Err(TrainError::TooManyProcesses { processes, images });
        }
        let unreadable = |_| CommunicationError::Garbled(0);
        let toml = |config: &RunConfig| config.to_toml().unwrap_or_default();
        if comm.is_first() {
            let run = Self::open(dir, config, dataset, observer)?;
            let (config, data) = (toml(&run.config), run.data.clone());
            let told = Told { config, data, step: run.step, elapsed: run.elapsed };
            comm.broadcast(serde_json::to_vec(&told).map_err(unreadable)?)?;
            return Ok(run);
        }
        let told = comm.broadcast(Vec::new())?;
        let Told { config: expected, data: images, step, elapsed } =
            serde_json::from_slice(&told).map_err(unreadable)?;
        let differs = |what, found: &str, expected: &str, help| CommunicationError::Differs {
            rank: comm.rank(),
            what,
            found: found.into(),
            expected: expected.into(),
            help,
        };
        let found = toml(&config);
        if let Some((found, expected)) =
            found.lines().zip(expected.lines()).find(|(found, expected)| found != expected)
        {
            let help = "start all processes with the same options";
            return Err(differs("configuration", found, expected, help).into());
        }
        let manifest = dataset.manifest();
        let data = manifest.fingerprint();
        if data != images {
            let help = "all hosts need the same images";
            return Err(differs("fingerprint of the images", &data, &images, help).into());
        }
        let (dir, source) = (dir.into(), manifest.source);
        Ok(Self { dir, config, dataset, data, source, step, elapsed, resume: None, _lock: None })
    }
}

fn lock(dir: &Path) -> Result<Lock, TrainError> {
    let path = dir.join(".lock");
    let lock = Lock::of(lock::open(&path)?, PATIENCE).map_err(FileError::at("lock", &path))?;
    lock.ok_or_else(|| TrainError::Locked { dir: dir.into() })
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
