//! Training steps on random images: what the loop of `jit train` does between two of them.

use std::time::Instant;

use jit_kernels::profile;
use jit_model::cost;
use jit_model::denoiser::Batch;
use jit_model::dropout::DropoutKeys;
use jit_model::init::initial_values;
use jit_model::net::{Keep, Mode};
use jit_model::objective::Draw;
use jit_model::{Denoiser, Device, Grads, Params};
use jit_train::RunConfig;
use jit_train::accumulate::accumulate;
use jit_train::optimizer::Optimizer;

use super::report::Measured;
use super::{labels, random_images};

/// Times `steps` training steps of one batch each.
pub fn measure<D: Device>(dev: &D, config: &RunConfig, steps: usize) -> Measured {
    let (model, objective, images) = (&config.model, &config.objective, config.train.global_batch);
    let denoiser = Denoiser::new(dev, model, objective);
    let registry = denoiser.registry();
    let values = initial_values(registry, config.train.seed);
    let mut optimizer = Optimizer::new(dev, registry, &values, &config.optim);
    let mut params = Params::upload(dev, registry, &values);
    drop(values);
    let mut grads = Grads::zeros(dev, registry);
    let (x, labels) = (random_images(model, images), labels(model, images));
    let mut take_step = |step: u64| {
        let draw = Draw::new(objective, model, config.train.seed, step, 0, &labels);
        let batch = Batch {
            x: &x,
            noise: draw.noise(),
            t: &draw.t,
            labels: &draw.labels,
            rotation: &draw.rotation,
        };
        let seed = config.train.seed;
        let keys = DropoutKeys { seed, step, samples: (0..images as u64).collect(), pass: 0 };
        let keep = if config.train.checkpoint_blocks { Keep::Input } else { Keep::Everything };
        let mode = Mode { dropout: Some(&keys), keep };
        let started = Instant::now();
        grads.clear(dev);
        let micro = (batch, images);
        accumulate(dev, &denoiser, &params, &mut grads, micro, mode, &mut |_, _| {});
        let norm = optimizer.grad_norm(dev, &grads);
        optimizer.step(dev, registry, &mut params, &grads, &norm, config.peak_lr());
        dev.wait();
        started.elapsed().as_secs_f64()
    };
    take_step(0);
    profile::start();
    let seconds = (0..steps).map(|i| take_step(1 + i as u64)).collect();
    let kernels = profile::stop();
    // Recomputed blocks are no work that anyone asked for.
    let flops = images as u64 * cost::training_flops(model, objective, false);
    Measured { seconds, kernels, flops_per_step: flops as f64, images_per_step: images as f64 }
}
