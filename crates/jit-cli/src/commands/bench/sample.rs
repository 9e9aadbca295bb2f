//! Steps of the sampler on random weights.

use std::time::Instant;

use jit_kernels::profile;
use jit_model::cost;
use jit_model::init::initial_values;
use jit_model::sampler::initial_noise;
use jit_model::{Denoiser, Device, Params};
use jit_train::RunConfig;

use super::labels;
use super::report::Measured;

/// Draws a batch in `steps` steps that are timed after one that is not.
pub fn measure<D: Device>(dev: &D, config: &mut RunConfig, steps: usize) -> Measured {
    config.sample.steps = 1 + steps;
    let (model, images) = (&config.model, config.train.global_batch);
    let denoiser = Denoiser::new(dev, model, &config.objective);
    let values = initial_values(denoiser.registry(), config.train.seed);
    let params = Params::upload(dev, denoiser.registry(), &values);
    drop(values);
    let sampler = denoiser.sampler(dev, &params, &config.sample);
    let streams: Vec<_> = (0..images as u64).map(|i| initial_noise(config.train.seed, i)).collect();
    let shape = [images, model.channels, model.image_size, model.image_size];
    let z0 = dev.normal(&streams, config.objective.noise_scale(model), &shape);

    let mut seconds = Vec::with_capacity(steps);
    let mut last = Instant::now();
    sampler.sample(z0, &labels(model, images), |progress| {
        dev.wait();
        if progress.step == 1 {
            profile::start();
        } else {
            seconds.push(last.elapsed().as_secs_f64());
        }
        last = Instant::now();
    });
    let kernels = profile::stop();
    let passes: u64 = (1..=steps).map(|i| cost::step_passes(model, &config.sample, i)).sum();
    let flops = (images as u64 * passes * cost::forward_flops(model)) as f64;
    // An image is drawn once all its steps are done.
    let images_per_step = images as f64 / steps as f64;
    Measured { seconds, kernels, flops_per_step: flops / steps as f64, images_per_step }
}
