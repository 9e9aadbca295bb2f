//! `jit bench`: how fast this machine trains and draws, against what its multiply-add units can do.
//!
//! Images, noise and weights are random, but for `data`, and the first step, which packs weights and takes memory
//! from the system, is not counted. The peak is measured in the same run.

mod data;
mod kernels;
mod reduce;
mod report;
mod sample;
mod train;

use std::io::Write;

use jit_core::rng::{Purpose, Stream};
use jit_kernels::{cpu, peak::peak_flops};
use jit_model::{Device, ModelConfig, cost};
use jit_study::Pace;
use jit_train::{Communicator, RunConfig};

use crate::cli::{BenchArgs, Workload};
use crate::device::{self, DeviceName, Opened, on_device};
use crate::failure::{Failure, Outcome};
use crate::flags::run_options;
use report::{Machine, Report};

/// Measures and prints.
///
/// # Errors
/// A configuration that is not valid.
pub fn run(
    args: &BenchArgs,
    device: DeviceName,
    comm: &dyn Communicator,
    out: &mut dyn Write,
) -> Outcome {
    let options = run_options();
    let mut config: RunConfig = args.config.layers(&options)?.build().map_err(Failure::usage)?;
    let batch = batch_size(&config);
    config.train.global_batch = batch;
    config.train.batch_size = batch;
    config.validate().map_err(Failure::usage)?;
    if config.partner_model().is_some() {
        let failure =
            Failure::usage("a benchmark measures one model, and [partner] describes a second");
        return Err(
            failure.help("leave [partner] out, or measure it by giving its options to [model]")
        );
    }
    let (steps, json) = (args.steps.get(), args.json);
    if args.what == Workload::Data {
        return data::run(&config, steps, json, out);
    }
    if args.what == Workload::Reduce {
        return on_device!(&device.open(config.train.precision)?, dev => {
            reduce::run(comm, dev, &config, steps, json, out)
        });
    }
    match device.open(config.train.precision)? {
        Opened::Cpu(dev) => measure(&dev, processor(&dev), &mut config, args, out),
        #[cfg(feature = "wgpu")]
        Opened::Wgpu(dev) => {
            let machine = card(device, dev.precision(), dev.peak_flops());
            measure(&*dev, machine, &mut config, args, out)
        }
        #[cfg(any(feature = "cuda", feature = "cuda-emulator"))]
        Opened::Cuda(dev) => {
            let machine = card(device, dev.precision(), dev.peak_flops());
            measure(&*dev, machine, &mut config, args, out)
        }
    }
}

/// A graphics card, as benchmarks describe it.
#[cfg(feature = "gpu")]
fn card(device: DeviceName, precision: jit_model::device::Precision, peak_flops: f64) -> Machine {
    Machine {
        level: device.to_string(),
        threads: 0,
        precision: precision.into(),
        peak_flops,
        peak_of: "a large matrix product",
    }
}

fn measure<D: Device>(
    dev: &D,
    machine: Machine,
    config: &mut RunConfig,
    args: &BenchArgs,
    out: &mut dyn Write,
) -> Outcome {
    let steps = args.steps.get();
    if args.what == Workload::Kernels {
        return kernels::run(dev, config, &machine, steps, args.json, out);
    }
    let measured = match args.what {
        Workload::Train => train::measure(dev, config, steps),
        _ => sample::measure(dev, config, steps),
    };
    device::sound(dev)?;
    let memory = dev.memory().map(|used| used.peak);
    let report = Report::new(args.what, config, machine, measured, memory);
    if args.json { report.json(out) } else { report.text(out) }
}

/// The pace at which this machine trains and draws, from a few short steps.
pub fn pace(dev: &impl Device, config: &RunConfig) -> Pace {
    const STEPS: usize = 3;
    /// Operations of a step that takes a second or two on a small machine.
    const SHORT: u64 = 100_000_000_000;
    let mut config = config.clone();
    let fits = SHORT / cost::training_flops(&config.model, &config.objective, false).max(1);
    let images = config.train.micro_batch().min(64).min(fits as usize).max(1);
    config.train.global_batch = images;
    config.train.batch_size = images;
    let pace = |measured: report::Measured| measured.flops_per_step / median(&measured.seconds);
    let training = pace(train::measure(dev, &config, STEPS));
    Pace { training, drawing: pace(sample::measure(dev, &mut config, STEPS)) }
}

/// The images at once: those asked for, else the preset's batch if it is that of a small model.
fn batch_size(config: &RunConfig) -> usize {
    const SMALL: usize = 64;
    const DEFAULT: usize = 8;
    match config.train.batch_size {
        0 if config.train.global_batch > SMALL => DEFAULT,
        0 => config.train.global_batch,
        asked => asked,
    }
}

fn processor(dev: &impl Device) -> Machine {
    let (level, threads) = (cpu::level(), rayon::current_num_threads());
    Machine {
        level: level.to_string(),
        threads,
        precision: dev.precision().into(),
        peak_flops: peak_flops(level, dev.precision(), threads),
        peak_of: "multiply-adds in registers",
    }
}

/// `images` random images with values in [-1, 1), `[B, C, S, S]`.
fn random_images(model: &ModelConfig, images: usize) -> Vec<f32> {
    let mut x = vec![0.0; images * model.pixels()];
    Stream::new(0, Purpose::Noise, 0, 0).fill_uniform(-1.0, 1.0, &mut x);
    x
}

/// Labels in turn.
fn labels(model: &ModelConfig, images: usize) -> Vec<u32> {
    (0..images).map(|i| (i % model.num_classes.max(1)) as u32).collect()
}

/// The middle of the sorted values, or the mean of the two there.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
    }
}
