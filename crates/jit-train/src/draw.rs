//! A batch of images out of noise.

use jit_data::grid::to_u8;
use jit_model::device::Fault;
use jit_model::sampler::{Progress, initial_noise};
use jit_model::{Device, Sampler};

use crate::error::TrainError;

/// Draws the images `first..first + labels.len()` of a seed, `[n, C, S, S]` u8. Image i depends on
/// the weights, the seed, i and its label alone.
///
/// # Errors
/// [`TrainError::Device`] where the device failed.
pub fn draw<D: Device>(
    sampler: &Sampler<'_, D>,
    seed: u64,
    first: u64,
    labels: &[u32],
    watch: impl FnMut(Progress<'_, D::Tensor>),
) -> Result<Vec<u8>, TrainError> {
    let model = sampler.model;
    let shape = [labels.len(), model.channels, model.image_size, model.image_size];
    let streams: Vec<_> = (first..).take(labels.len()).map(|i| initial_noise(seed, i)).collect();
    let noise = sampler.dev.normal(&streams, sampler.noise_scale, &shape);
    let images = sampler.sample(noise, labels, watch);
    let images = to_u8(&sampler.dev.download(&images));
    match sampler.dev.fault() {
        None => Ok(images),
        Some(Fault::Failed(reason)) => Err(TrainError::Device { reason }),
        Some(Fault::OutOfMemory { .. }) => {
            let images = labels.len();
            let reason = format!(
                "{images} images at once do not fit into its memory: draw fewer, with a smaller \
                 --batch-size"
            );
            Err(TrainError::Device { reason })
        }
    }
}
