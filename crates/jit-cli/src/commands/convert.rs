//! `jit convert`: any weights that we read, as safetensors that PyTorch loads with `strict=True`.

use std::collections::BTreeMap;
use std::io::Write;

use jit_core::text::Show;
use jit_model::weights::write_safetensors;
use jit_model::{Cpu, Denoiser};

use crate::cli::ConvertArgs;
use crate::failure::Outcome;
use crate::{shape, source};

/// Writes the chosen weights under the reference's names.
///
/// # Errors
/// When they cannot be read, or the file cannot be written.
pub fn run(args: &ConvertArgs, out: &mut dyn Write) -> Outcome {
    let mut source = source::open(&args.from, args.weights.as_deref(), &args.config)?;
    shape::find_head(&mut source.config.objective, &source.state.tensors);
    let denoiser = Denoiser::new(&Cpu::F32, &source.config.model, &source.config.objective);
    let specs = denoiser.registry().specs();
    let values = shape::values(denoiser.registry(), source.state.tensors)?;
    let metadata: BTreeMap<String, String> = [
        ("config", serde_json::to_string(&source.config.model)?),
        ("objective", serde_json::to_string(&source.config.objective)?),
        ("class_names", serde_json::to_string(&source.class_names)?),
        ("set", source.state.set),
    ]
    .map(|(key, value)| (key.to_string(), value))
    .into();
    let tensors = specs.iter().zip(&values);
    let tensors = tensors.map(|(spec, value)| (&spec.name[..], &spec.shape[..], &value[..]));
    write_safetensors(&args.to, tensors, &metadata)?;
    let (from, to) = (source.path.shown(), args.to.shown());
    Ok(writeln!(out, "{to}: {} tensors of {from}", specs.len())?)
}
