//! What a run records about its steps: `metrics.jsonl` and the TensorBoard events.

use std::path::Path;

use jit_core::files::FileError;

use crate::metrics::Metrics;
use crate::observer::StepReport;
use crate::samples::Grid;
use crate::tensorboard::EventFile;

/// Both records of a run, open for appending.
#[derive(Debug)]
pub struct Journal {
    metrics: Metrics,
    events: EventFile,
}

impl Journal {
    /// Opens the records in the run's folder, of which `step` steps are done.
    ///
    /// # Errors
    /// [`FileError`] when a file cannot be read or written.
    pub fn open(dir: &Path, step: u64) -> Result<Self, FileError> {
        let metrics = Metrics::open(&dir.join("metrics.jsonl"), step)?;
        Ok(Self { metrics, events: EventFile::create(dir, step)? })
    }

    /// Records a step.
    ///
    /// # Errors
    /// [`FileError`] when the file system refuses.
    pub fn step(&mut self, report: &StepReport) -> Result<(), FileError> {
        self.metrics.append(report)?;
        let mut scalars = vec![
            ("train/loss", report.loss),
            ("train/diffusion", report.diffusion),
            ("train/lr", report.lr),
            ("train/grad_norm", report.grad_norm),
            ("train/epoch", report.epoch),
            ("speed/images_per_second", report.images_per_second),
            ("speed/data_wait", report.data_wait),
        ];
        scalars.extend(report.auxiliary.map(|loss| ("train/auxiliary", loss)));
        let tags: Vec<String> =
            (0..report.loss_by_t.len()).map(|bin| format!("loss_by_t/0.{bin}")).collect();
        let by_t = tags.iter().zip(report.loss_by_t);
        scalars.extend(by_t.filter_map(|(tag, loss)| Some((tag.as_str(), loss?))));
        self.events.scalars(report.step, &scalars)
    }

    /// Records a grid of samples.
    ///
    /// # Errors
    /// [`FileError`] when the file system refuses.
    pub fn samples(&mut self, step: u64, grid: &Grid) -> Result<(), FileError> {
        self.events.image(step, "samples", grid.shape, &grid.png)
    }

    /// Makes the record of all steps durable.
    ///
    /// # Errors
    /// [`FileError`] when the file system refuses.
    pub fn sync(&self) -> Result<(), FileError> {
        self.metrics.sync()
    }
}
