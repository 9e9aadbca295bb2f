//! A torch checkpoint, read without executing it, and what the reference computes with each of its
//! sets of weights. The checkpoint is read as `sample` and `convert` read it.

use std::path::{Path, PathBuf};

use jit_model::config::{MlpKind, PatchEmbedKind};
use jit_model::weights::load_state;
use jit_model::{Device, Net, Params};

use super::VerifyError;
use super::case::Case;
use super::measure::{Check, tolerance};
use crate::{options, shape};

/// Prefix of the outputs; the name of the set of weights follows.
pub const OUTPUT: &str = "x_pred.";

/// `a.pth` → `a.expected.safetensors`
pub fn expected_path(torch: &Path) -> PathBuf {
    torch.with_extension("expected.safetensors")
}

/// `a.expected.safetensors` → `a.pth`
pub fn torch_path(expected: &Path) -> PathBuf {
    expected.with_extension("").with_extension("pth")
}

/// Runs the network with each set of weights for which there is an output.
///
/// # Errors
/// When a tensor or metadata entry is missing or does not fit the network.
pub fn verify<D: Device>(
    dev: &D,
    torch: &Path,
    expected: &Case,
) -> Result<Vec<Check>, VerifyError> {
    let name = torch.file_stem().unwrap_or_default().to_string_lossy();
    let mut check = Check::new(&name, "outputs", tolerance::output(dev.precision()));
    for output in expected.names() {
        let Some(set) = output.strip_prefix(OUTPUT) else { continue };
        let state = load_state(torch, Some(set))?;
        // The variant is in the checkpoint; what its weights cannot tell is in the metadata.
        let mut model = expected.model("")?;
        let channels = expected.shape("z")?.get(1).copied();
        model.channels = channels.unwrap_or(model.channels);
        let arguments = shape::from_arguments(&state.metadata);
        if options::lookup(&arguments, "model.patch_embed").is_some() {
            model.patch_embed = PatchEmbedKind::Silu;
        }
        if state.tensors.contains_key("net.blocks.0.mlp.0.weight") {
            model.mlp = MlpKind::Bottleneck;
        }
        expected.check_model(&model)?;

        let net = Net::new(&model);
        let values = shape::values(net.registry(), state.tensors)
            .map_err(|source| VerifyError::Shape { path: torch.into(), source })?;
        let params = Params::upload(dev, net.registry(), &values);
        let rope = net.rope(dev);
        let n = expected.shape("t")?.first().copied().unwrap_or(0);
        let images = [n, model.channels, model.image_size, model.image_size];
        let z = dev.upload(&expected.tensor("z", &images)?, &images);
        let t = expected.tensor("t", &[n])?;
        let labels = expected.indices("y", &[n], model.null_class())?;
        let have = net.infer(dev, &params, &rope, &z, &t, &labels);
        check.relative(&output, &dev.download(&have), &expected.tensor(&output, &images)?);
    }
    Ok(vec![check])
}
