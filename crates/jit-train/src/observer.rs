//! What a run tells whoever watches it. Training itself never prints.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::evaluation::EvalReport;

/// Number of equal parts of [0, 1] by which losses are told apart by t.
pub const T_BINS: usize = 10;

/// One optimizer step: a line of `metrics.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Steps done.
    pub step: u64,
    /// Passes over the data done.
    pub epoch: f64,
    /// Mean total loss L_diff + λ·L_aux over the global batch, before the step.
    pub loss: f64,
    /// Mean diffusion loss.
    pub diffusion: f64,
    /// Mean auxiliary loss before its weight, where there is one.
    pub auxiliary: Option<f64>,
    /// Learning rate of the step.
    pub lr: f64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Mean diffusion loss of the images with t in each tenth of [0, 1]; none without such images.
    pub loss_by_t: [Option<f64>; T_BINS],
    /// Number of these images.
    pub images_by_t: [u64; T_BINS],
    /// Images trained on each second, in this step.
    pub images_per_second: f64,
    /// Seconds of this step in which the network waited for images.
    pub data_wait: f64,
    /// Seconds of this step in which the network waited for the other processes, where there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge_wait: Option<f64>,
    /// Seconds spent on training steps since the run began, over all its continuations.
    pub elapsed: f64,
    /// The same of the partner, where there is one; all above is of the first network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partner: Option<Losses>,
}

/// How well a network did in a step, before it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// Mean total loss L_diff + λ·L_aux over the global batch.
    pub loss: f64,
    /// Mean diffusion loss.
    pub diffusion: f64,
    /// Mean auxiliary loss before its weight, where there is one.
    pub auxiliary: Option<f64>,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Mean diffusion loss of the images with t in each tenth of [0, 1]; none without such images.
    pub loss_by_t: [Option<f64>; T_BINS],
}

/// What a run is about to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Steps done before, if the run goes on from a checkpoint.
    pub first_step: u64,
    /// Steps after which it ends.
    pub total_steps: u64,
    /// Images in a step.
    pub global_batch: usize,
    /// Images in an epoch.
    pub images: usize,
    /// Trained and fixed parameters.
    pub parameters: usize,
}

/// Watches a run. Every method may be left out.
pub trait Observer {
    /// Before the first step.
    fn start(&mut self, _plan: &Plan) {}
    /// After every optimizer step.
    fn step(&mut self, _report: &StepReport) {}
    /// A checkpoint is on disk.
    fn checkpoint(&mut self, _step: u64, _path: &Path) {}
    /// A grid of samples is about to be drawn, which may take a while.
    fn sampling(&mut self, _step: u64) {}
    /// A grid of samples is on disk.
    fn samples(&mut self, _step: u64, _path: &Path) {}
    /// Images are about to be drawn and evaluated, which may take a while.
    fn evaluating(&mut self, _step: u64) {}
    /// They were.
    fn evaluated(&mut self, _report: &EvalReport) {}
    /// Something unexpected that the run can live with.
    fn warning(&mut self, _message: &str) {}
}

/// Watches nothing.
pub struct Silent;

impl Observer for Silent {}

/// How a run ended, if not by an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished {
        /// Steps done.
        step: u64,
    },
    /// It was asked to stop; the same command continues it.
    Stopped {
        /// Steps done, all of them in a checkpoint.
        step: u64,
    },
}
