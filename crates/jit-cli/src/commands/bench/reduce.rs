//! The sum of a model's gradients over all processes, as in training but with nothing to compute meanwhile.

use std::io::Write;
use std::time::Instant;

use jit_model::{Denoiser, Device, Grads};
use jit_train::reduce::Reducer;
use jit_train::{Communicator, RunConfig};
use serde::Serialize;

use super::median;
use crate::failure::Outcome;

#[derive(Serialize)]
struct Report {
    workload: &'static str,
    processes: usize,
    /// The gradients of one process.
    bytes: usize,
    /// Median.
    seconds_per_step: f64,
    /// Of each step, on the first process.
    seconds: Vec<f64>,
    /// Bytes of gradients summed in a second.
    bytes_per_second: f64,
    /// What each process sends in a second if it sends 2·(P − 1)/P of its gradients, as in a ring.
    sent_per_second: f64,
}

/// Measures `steps` sums, after one that is not counted, and prints.
pub fn run<D: Device>(
    comm: &dyn Communicator,
    dev: &D,
    config: &RunConfig,
    steps: usize,
    json: bool,
    out: &mut dyn Write,
) -> Outcome {
    let denoiser = Denoiser::new(dev, &config.model, &config.objective);
    let registry = denoiser.registry();
    let mut grads = Grads::zeros(dev, registry);
    let mut seconds = Vec::new();
    for _ in 0..=steps {
        // All start together.
        comm.any(false)?;
        let started = Instant::now();
        let mut reducer = Reducer::new(registry);
        reducer.finished(comm, dev, &grads, 0);
        reducer.finish(dev, &mut grads)?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    seconds.remove(0);
    let (bytes, processes) = (4 * registry.numel(), comm.size());
    let seconds_per_step = median(&seconds);
    let bytes_per_second = bytes as f64 / seconds_per_step;
    let sent = 2.0 * (processes - 1) as f64 / processes as f64;
    let report = Report {
        workload: "reduce",
        processes,
        bytes,
        seconds_per_step,
        seconds,
        bytes_per_second,
        sent_per_second: sent * bytes_per_second,
    };
    if json {
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?);
    }
    writeln!(out, "processes  {processes}")?;
    writeln!(out, "gradients  {:.1} MB a step", bytes as f64 / 1e6)?;
    writeln!(out, "sum        {:.4} s (median of {steps})", report.seconds_per_step)?;
    writeln!(out, "           {:.2} GB/s of gradients", report.bytes_per_second / 1e9)?;
    writeln!(out, "           {:.2} GB/s sent by each process", report.sent_per_second / 1e9)?;
    Ok(())
}
