//! The gradient of one micro-batch, added to those before it.

use jit_model::denoiser::Batch;
use jit_model::net::{Finished, Mode};
use jit_model::{Denoiser, Device, Grads, Params};

/// The losses of each image of a micro-batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageLosses {
    /// Diffusion loss, `[B]`.
    pub diffusion: Vec<f32>,
    /// Auxiliary loss before its weight λ, `[B]`; empty where there is none.
    pub auxiliary: Vec<f32>,
}

/// The losses of each image of a micro-batch, on their way from the device.
pub struct MicroLosses<D: Device> {
    diffusion: D::Coming,
    auxiliary: Option<D::Coming>,
}

impl<D: Device> MicroLosses<D> {
    /// As numbers, waiting for them if need be.
    pub fn read(&self, dev: &D) -> ImageLosses {
        ImageLosses {
            diffusion: dev.receive(&self.diffusion),
            auxiliary: self.auxiliary.as_ref().map_or_else(Vec::new, |aux| dev.receive(aux)),
        }
    }
}

/// Adds the gradient of `Σ_b (L_diff,b + λ·L_aux,b) / images` over a micro-batch to `grads`.
///
/// With `images` the size of the global batch the sum over its micro-batches is the gradient of the
/// mean over all of it, whatever their sizes. `finished` hears which gradients this pass adds to no more.
pub fn accumulate<D: Device>(
    dev: &D,
    denoiser: &Denoiser<D>,
    params: &Params<D>,
    grads: &mut Grads<D>,
    (batch, images): (Batch<'_>, usize),
    mode: Mode<'_>,
    finished: Finished<'_, D>,
) -> MicroLosses<D> {
    let weight = vec![1.0 / images as f32; batch.t.len()];
    let losses =
        denoiser.losses_and_final_grads(dev, params, grads, batch, &weight, mode, finished);
    MicroLosses {
        diffusion: dev.start_read(&losses.diffusion),
        auxiliary: losses.auxiliary.map(|aux| dev.start_read(&aux.loss)),
    }
}
