//! One forward and backward pass: noised image, output, feature, losses, every gradient.

use jit_model::denoiser::{Batch, Noise};
use jit_model::net::Mode;
use jit_model::objective::{Auxiliary, RotationKind, Space};
use jit_model::{Denoiser, Device, Grads};

use super::VerifyError;
use super::case::Case;
use super::measure::{Check, tolerance};

/// Prefix of the parameters.
const PARAM: &str = "param.";

/// Runs the case on `dev`.
///
/// # Errors
/// When a tensor or metadata entry is missing or does not fit the network.
pub fn verify<D: Device>(dev: &D, case: &Case) -> Result<Vec<Check>, VerifyError> {
    let model = case.model(PARAM)?;
    let objective = case.objective()?;
    let denoiser = Denoiser::new(dev, &model, &objective);
    let registry = denoiser.registry();
    let params = case.params(dev, registry, PARAM)?;

    let n = case.shape("in.t")?.first().copied().unwrap_or(0);
    let images = [n, model.channels, model.image_size, model.image_size];
    let (x, noise) = (case.tensor("in.x", &images)?, case.tensor("in.noise", &images)?);
    let t = case.tensor("in.t", &[n])?;
    let labels = case.indices("in.y", &[n], model.null_class())?;
    let rotates = objective.auxiliary == Auxiliary::Rotation;
    let turns = if rotates { case.indices("aux.rotation_k", &[n], 3)? } else { Vec::new() };
    let rotation: Vec<u8> = turns.into_iter().map(|k| k as u8).collect();
    let batch =
        Batch { x: &x, noise: Noise::Given(&noise), t: &t, labels: &labels, rotation: &rotation };

    let mut grads = Grads::zeros(dev, registry);
    let weight = vec![1.0 / n as f32; n];
    let mode = Mode::default();
    let losses = denoiser.losses_and_grads(dev, &params, &mut grads, batch, &weight, mode);

    let name = case.name();
    let mut outputs = Check::new(&name, "outputs", tolerance::output(dev.precision()));
    outputs.relative("z", &dev.download(&losses.z), &case.tensor("z", &images)?);
    let x_pred =
        dev.convert(&losses.output, &losses.z, &t, objective.t_eps, objective.prediction, Space::X);
    outputs.relative("x_pred", &dev.download(&x_pred), &case.tensor("x_pred", &images)?);
    if case.has("feature") {
        let net = denoiser.net();
        let rope = denoiser.rope();
        // The feature of the pass over z itself, which a second pass over a rotated z has not.
        let (_, saved) = net.forward(dev, &params, rope, &losses.z, &t, &labels, mode);
        let feature = dev.download(&net.feature(dev, &saved));
        outputs.relative("feature", &feature, &case.tensor("feature", &[n, model.hidden_size])?);
    }

    let mut loss = Check::new(&name, "losses", tolerance::output(dev.precision()));
    let per_image = dev.download(&losses.diffusion);
    loss.relative("loss.per_sample", &per_image, &case.tensor("loss.per_sample", &[n])?);
    let diffusion = mean(&per_image);
    loss.relative("loss.diffusion", &[diffusion], &case.tensor("loss.diffusion", &[])?);
    let mut total = diffusion;
    if let Some(auxiliary) = &losses.auxiliary {
        let mean = mean(&dev.download(&auxiliary.loss));
        loss.relative("loss.aux", &[mean], &case.tensor("loss.aux", &[])?);
        total += objective.auxiliary_weight * mean;
        let prediction = dev.download(&auxiliary.prediction);
        match objective.auxiliary {
            Auxiliary::Rotation => {
                let want = case.tensor("aux.rotation_logits", &[n, 4])?;
                outputs.relative("aux.rotation_logits", &prediction, &want);
            }
            Auxiliary::Time | Auxiliary::None => {
                let want = case.tensor("aux.time_pred", &[n])?;
                outputs.relative("aux.time_pred", &prediction, &want);
            }
        }
        if let (RotationKind::SecondPass, Some(z)) = (objective.rotation, &auxiliary.z_rotated) {
            let want = case.tensor("aux.z_rotated", &images)?;
            outputs.relative("aux.z_rotated", &dev.download(z), &want);
        }
    }
    loss.relative("loss.total", &[total], &case.tensor("loss.total", &[])?);

    let mut gradients = Check::new(&name, "gradients", tolerance::gradient(dev.precision()));
    for (spec, grad) in registry.specs().iter().zip(grads.download(dev)) {
        if spec.trainable {
            let want = case.tensor(&format!("grad.{}", spec.name), &spec.shape)?;
            gradients.relative(&spec.name, &grad, &want);
        }
    }
    Ok(vec![outputs, loss, gradients])
}

/// The mean, summed in f64.
fn mean(values: &[f32]) -> f32 {
    (values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64) as f32
}
