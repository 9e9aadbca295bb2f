//! A batch of images out of noise.

use jit_data::grid::to_u8;
use jit_model::sampler::{Progress, initial_noise};
use jit_model::{Device, Sampler};

/// Draws the images `first..first + labels.len()` of a seed, `[n, C, S, S]` u8. Image i depends on
/// the weights, the seed, i and its label alone.
pub fn draw<D: Device>(
    sampler: &Sampler<'_, D>,
    seed: u64,
    first: u64,
    labels: &[u32],
    watch: impl FnMut(Progress<'_, D::Tensor>),
) -> Vec<u8> {
    let (model, scale) = (sampler.model, sampler.noise_scale);
    let mut noise = vec![0.0; labels.len() * model.pixels()];
    for (index, image) in (first..).zip(noise.chunks_mut(model.pixels())) {
        initial_noise(seed, index, scale, image);
    }
    let shape = [labels.len(), model.channels, model.image_size, model.image_size];
    let images = sampler.sample(sampler.dev.upload(&noise, &shape), labels, watch);
    to_u8(&sampler.dev.download(&images))
}
