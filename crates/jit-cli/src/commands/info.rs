//! `jit info`: what a model costs, before anything is run.

use std::io::Write;

use jit_model::cost;
use jit_model::{Cpu, Denoiser, ModelConfig};
use jit_train::{RunConfig, room};

use crate::cli::InfoArgs;
use crate::failure::{Failure, Outcome};
use crate::flags::run_options;
use crate::source;

/// Prints the costs of a preset, a configuration or a checkpoint.
///
/// # Errors
/// A configuration or checkpoint that cannot be read or is not valid.
pub fn run(args: &InfoArgs, out: &mut dyn Write) -> Outcome {
    if let Some(path) = &args.checkpoint {
        return report_all(source::open(path, None, &args.config)?.config, out);
    }
    let options = run_options();
    let config: RunConfig = args.config.layers(&options)?.build().map_err(Failure::usage)?;
    config.validate().map_err(Failure::usage)?;
    report_all(config, out)
}

/// The costs of the model and, where one is trained along, of its partner and of both.
fn report_all(config: RunConfig, out: &mut dyn Write) -> Outcome {
    let Some(partner) = config.partner_model() else { return report(&config, out) };
    writeln!(out, "the model")?;
    report(&config, out)?;
    writeln!(out, "\nthe partner")?;
    report(&RunConfig { model: partner.clone(), ..config.clone() }, out)?;
    both(&config, [&config.model, &partner], out)
}

/// What one run that trains both models costs.
fn both(config: &RunConfig, models: [&ModelConfig; 2], out: &mut dyn Write) -> Outcome {
    let (objective, checkpoint) = (&config.objective, config.train.checkpoint_blocks);
    let parameters = |model| Denoiser::new(&Cpu::F32, model, objective).registry().numel() as u64;
    let training = |model| cost::training_flops(model, objective, checkpoint);
    let passes = |model| cost::sampling_passes(model, &config.sample);
    let drawing = |model| cost::forward_flops(model) * passes(model);
    let batch = config.train.micro_batch();
    writeln!(out, "\nboth in one run")?;
    writeln!(out, "parameters  {}", count(models.map(parameters).iter().sum()))?;
    writeln!(out, "operations an image (two a multiply-add)")?;
    let row =
        |name: &str, values: [u64; 2]| format!("  {name:<22}{:>10}", count(values.iter().sum()));
    writeln!(out, "{}", row("training step", models.map(training)))?;
    writeln!(out, "{}  fused", row("drawing", models.map(drawing)))?;
    let memory = bytes(room::needed(&Cpu::F32, config, batch));
    writeln!(out, "memory to train, {batch} images at once: about {memory}")?;
    writeln!(out, "  (the activations of one model at a time)")?;
    Ok(())
}

fn report(config: &RunConfig, out: &mut dyn Write) -> Outcome {
    let (model, objective) = (&config.model, &config.objective);
    let denoiser = Denoiser::new(&Cpu::F32, model, objective);
    let registry = denoiser.registry();
    let total = registry.numel() as u64;

    let (size, grid, patch) = (model.image_size, model.grid(), model.patch_size);
    writeln!(
        out,
        "images      {size} x {size} x {} in {} classes",
        model.channels, model.num_classes
    )?;
    let context = model.in_context_len;
    writeln!(
        out,
        "tokens      {grid} x {grid} of {patch} x {patch} pixels, {context} of the class"
    )?;

    writeln!(out, "parameters  {}", count(total))?;
    for (part, values) in cost::parameters(registry) {
        writeln!(out, "  {part:<22}{:>10}", count(values))?;
    }

    let checkpoint = config.train.checkpoint_blocks;
    let forward = cost::forward_flops(model);
    let training = cost::training_flops(model, objective, checkpoint);
    let passes = cost::sampling_passes(model, &config.sample);
    writeln!(out, "operations an image (two a multiply-add)")?;
    writeln!(out, "  {:<22}{:>10}", "forward pass", count(forward))?;
    writeln!(out, "  {:<22}{:>10}", "training step", count(training))?;
    writeln!(out, "  {:<22}{:>10}  in {passes} passes", "drawing", count(forward * passes))?;

    let batch = config.train.micro_batch();
    let averages = config.optim.ema_decay.len();
    let memory = cost::training_memory(model, total, averages, batch, checkpoint);
    writeln!(out, "memory to train, {batch} images at once: about {}", bytes(memory.total()))?;
    for (name, size) in [
        ("weights", memory.weights),
        ("gradients", memory.gradients),
        ("moments", memory.moments),
        ("averages", memory.averages),
        ("activations", memory.activations),
    ] {
        writeln!(out, "  {name:<22}{:>10}", bytes(size))?;
    }
    let sampling = cost::sampling_memory(model, total, SAMPLING_BATCH);
    writeln!(out, "memory to draw, {SAMPLING_BATCH} images at once: about {}", bytes(sampling))?;
    Ok(())
}

/// The default of `jit sample --batch-size`.
const SAMPLING_BATCH: usize = 16;

/// `131.3 M`
pub fn count(n: u64) -> String {
    scaled(n as f64, 1000.0, &["", " k", " M", " G", " T", " P", " E", " Z"])
}

/// `4.4 GiB`
pub fn bytes(n: u64) -> String {
    scaled(n as f64, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB", " PiB"])
}

fn scaled(mut value: f64, base: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let digits = if unit == 0 { 0 } else { 1 };
    format!("{value:.digits$}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(count(999), "999");
        assert_eq!(count(131_300_000), "131.3 M");
        assert_eq!(bytes(1 << 32), "4.0 GiB");
    }
}
