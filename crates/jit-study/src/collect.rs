//! A run's record, gathered from what the run wrote about itself.

use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use jit_core::files::FileError;
use jit_core::input;
use jit_train::StepReport;
use jit_train::evaluation::EvalReport;
use jit_train::observer::T_BINS;
use serde::de::DeserializeOwned;

use crate::clock::now;
use crate::error::StudyError;
use crate::estimate::{flops_per_image, parameters};
use crate::plan::PlannedRun;
use crate::record::{Evaluation, FinalLoss, Hardware, Outcome, Record, TBin};

/// The share of the steps, at the end, over which the final loss is taken.
const FINAL: f64 = 0.05;

/// What the run itself does not write down.
pub struct Ending<'a> {
    /// The suite's name.
    pub suite: &'a str,
    /// A shell command that repeats the run.
    pub command: String,
    /// The precision of the device.
    pub precision: &'static str,
    /// The steps that it was to have.
    pub total: u64,
    /// When it began.
    pub started: &'a str,
    /// How it ended.
    pub outcome: Outcome,
}

/// The record of a run in `dir` that has just ended.
///
/// # Errors
/// [`StudyError::Journal`] for a damaged journal.
pub fn collect(dir: &Path, run: &PlannedRun, ending: Ending<'_>) -> Result<Record, StudyError> {
    let steps: Vec<StepReport> = lines(&dir.join("metrics.jsonl"))?;
    let evals: Vec<EvalReport> = lines(&dir.join("evals.jsonl"))?;
    let last = steps.last();
    let done = last.map_or(0, |step| step.step);
    let config = &run.config;
    let weights = config.weights_name();
    let evaluation = |eval: EvalReport| {
        let samples = format!("samples/step-{:08}.png", eval.step);
        Evaluation {
            fraction: eval.step as f64 / ending.total.max(1) as f64,
            weights: weights.clone(),
            count: eval.report.generated,
            samples: dir.join(&samples).exists().then_some(samples),
            eval,
        }
    };
    Ok(Record {
        suite: ending.suite.into(),
        cell: run.cell.clone(),
        seed: run.seed,
        title: run.title.clone(),
        command: ending.command,
        config_hash: run.config_hash()?,
        hardware: Hardware::here(),
        precision: ending.precision.into(),
        parameters: parameters(config),
        flops_per_image: flops_per_image(config),
        steps: done,
        images: done * config.train.global_batch as u64,
        train_seconds: last.map_or(0.0, |step| step.elapsed),
        eval_seconds: evals.iter().map(|eval| eval.seconds).sum(),
        started: ending.started.into(),
        finished: now(),
        outcome: ending.outcome,
        evaluations: evals.into_iter().map(evaluation).collect(),
        last: final_loss(&steps),
        fusion: None,
    })
}

/// Every line of a journal; none of one that was never begun.
fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, StudyError> {
    let file = match input::open(path) {
        Err(error) if error.source.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let mut all = Vec::new();
    for (i, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(FileError::at("read", path))?;
        let wrong = |source| StudyError::Journal { path: path.into(), line: i + 1, source };
        all.push(serde_json::from_str(&line).map_err(wrong)?);
    }
    Ok(all)
}

/// Means over the last steps.
fn final_loss(steps: &[StepReport]) -> Option<FinalLoss> {
    let end = steps.last()?.step as f64;
    let first = steps.partition_point(|step| (step.step as f64) <= end * (1.0 - FINAL));
    let last = &steps[first.min(steps.len() - 1)..];
    let mean =
        |value: fn(&StepReport) -> f64| last.iter().map(value).sum::<f64>() / last.len() as f64;
    let bin = |i: usize| {
        let weighted = |s: &StepReport| Some(s.loss_by_t[i]? * s.images_by_t[i] as f64);
        let images: u64 = last.iter().map(|s| s.images_by_t[i]).sum();
        let loss: f64 = last.iter().filter_map(weighted).sum();
        let bound = |i: usize| i as f64 / T_BINS as f64;
        (images > 0).then(|| TBin { low: bound(i), high: bound(i + 1), loss: loss / images as f64 })
    };
    Some(FinalLoss {
        loss: mean(|step| step.loss),
        diffusion: mean(|step| step.diffusion),
        per_t_bin: (0..T_BINS).filter_map(bin).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64, loss: f64, images: u64) -> StepReport {
        let (mut loss_by_t, mut images_by_t) = ([None; T_BINS], [0; T_BINS]);
        (loss_by_t[3], images_by_t[3]) = ((images > 0).then_some(loss), images);
        StepReport {
            step,
            loss: loss + 1.0,
            diffusion: loss,
            loss_by_t,
            images_by_t,
            ..StepReport::default()
        }
    }

    #[test]
    fn the_final_loss_is_that_of_the_last_twentieth() {
        assert_eq!(final_loss(&[]), None);
        assert_eq!(final_loss(&[step(1, 3.0, 0)]).unwrap().loss, 4.0);
        let mut steps: Vec<StepReport> = (1..=38).map(|i| step(i, 100.0, 1)).collect();
        steps.extend([step(39, 4.0, 3), step(40, 2.0, 1)]);
        let last = final_loss(&steps).unwrap();
        assert_eq!((last.loss, last.diffusion), (4.0, 3.0));
        // Weighted by the images of each step.
        assert_eq!(last.per_t_bin, [TBin { low: 0.3, high: 0.4, loss: 3.5 }]);
    }

    #[test]
    fn a_damaged_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evals.jsonl");
        assert!(lines::<EvalReport>(&path).unwrap().is_empty());
        std::fs::write(&path, "{\"step\": 3}\n").unwrap();
        let message = lines::<EvalReport>(&path).unwrap_err().to_string();
        assert!(message.contains("evals.jsonl`, line 1: missing field"), "{message}");
    }
}
