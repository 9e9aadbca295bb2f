//! What a run records about its steps: `metrics.jsonl`, `evals.jsonl` and the TensorBoard events.

use std::path::Path;

use jit_core::files::FileError;

use crate::evaluation::EvalReport;
use crate::metrics::Metrics;
use crate::observer::StepReport;
use crate::samples::Grid;
use crate::tensorboard::EventFile;

/// The records of a run, open for appending.
#[derive(Debug)]
pub struct Journal {
    metrics: Metrics,
    evals: Metrics,
    events: EventFile,
}

impl Journal {
    /// Opens the records in the run's folder, of which `step` steps are done.
    ///
    /// # Errors
    /// [`FileError`] when a file cannot be read or written.
    pub fn open(dir: &Path, step: u64) -> Result<Self, FileError> {
        let metrics = Metrics::open(&dir.join("metrics.jsonl"), step)?;
        let evals = Metrics::open(&dir.join("evals.jsonl"), step)?;
        Ok(Self { metrics, evals, events: EventFile::create(dir, step)? })
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
        scalars.extend(report.merge_wait.map(|seconds| ("speed/merge_wait", seconds)));
        scalars.extend(report.auxiliary.map(|loss| ("train/auxiliary", loss)));
        if let Some(partner) = &report.partner {
            scalars.push(("partner/loss", partner.loss));
            scalars.push(("partner/diffusion", partner.diffusion));
            scalars.push(("partner/grad_norm", partner.grad_norm));
            scalars.extend(partner.auxiliary.map(|loss| ("partner/auxiliary", loss)));
        }
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

    /// Records the metrics of what was drawn.
    ///
    /// # Errors
    /// [`FileError`] when the file system refuses.
    pub fn evaluation(&mut self, report: &EvalReport) -> Result<(), FileError> {
        self.evals.append(report)?;
        let values = report.values();
        let tags: Vec<String> =
            values.iter().map(|(name, _)| format!("eval/{}", name.replace(' ', "_"))).collect();
        let scalars: Vec<(&str, f64)> =
            tags.iter().zip(&values).map(|(tag, (_, value))| (tag.as_str(), *value)).collect();
        self.events.scalars(report.step, &scalars)
    }

    /// The last step that was evaluated before these records were opened; 0 for none.
    pub fn evaluated(&self) -> u64 {
        self.evals.last()
    }

    /// Makes the record of all steps durable.
    ///
    /// # Errors
    /// [`FileError`] when the file system refuses.
    pub fn sync(&self) -> Result<(), FileError> {
        self.metrics.sync()?;
        self.evals.sync()
    }
}
