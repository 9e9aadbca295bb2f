//! What learns in a run: a network with its weights, gradient, optimizer and averages, or two such
//! on the same batches.

use jit_model::denoiser::Batch;
use jit_model::dropout::DropoutKeys;
use jit_model::init::initial_values;
use jit_model::net::{Keep, Mode};
use jit_model::{Denoiser, Device, Grads, ModelConfig, Params, SampleConfig, Sampler};

use crate::accumulate::{MicroLosses, accumulate};
use crate::checkpoint::{Checkpoint, Learned};
use crate::config::{Role, RunConfig, TrainConfig};
use crate::error::TrainError;
use crate::feed::Micro;
use crate::observer::{Losses, T_BINS};
use crate::optimizer::Optimizer;
use crate::tally::Tally;

/// One network in training. Nothing that it does depends on another, so that it ends in the same
/// bits alone and beside a partner.
pub struct Learner<D: Device> {
    role: Role,
    denoiser: Denoiser<D>,
    params: Params<D>,
    grads: Grads<D>,
    optimizer: Optimizer<D>,
    /// Times and losses of each micro-batch of the step in progress.
    micros: Vec<(Vec<f32>, MicroLosses<D::Tensor>)>,
}

/// What a step has found, perhaps still on its way from the device.
pub struct Found<D: Device> {
    role: Role,
    micros: Vec<(Vec<f32>, MicroLosses<D::Tensor>)>,
    /// λ of the auxiliary loss.
    auxiliary_weight: f64,
    /// The norm of the gradient.
    norm: D::Norm,
}

impl<D: Device> Found<D> {
    /// Of which network.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The losses, waiting for them if need be, and the number of images with t in each tenth of
    /// [0, 1].
    pub fn read(&self, dev: &D) -> (Losses, [u64; T_BINS]) {
        let mut tally = Tally::default();
        for (t, losses) in &self.micros {
            tally.add(t, &losses.read(dev));
        }
        let auxiliary = tally.auxiliary();
        let (loss_by_t, images_by_t) = tally.by_t();
        let losses = Losses {
            loss: tally.diffusion() + auxiliary.map_or(0.0, |aux| self.auxiliary_weight * aux),
            diffusion: tally.diffusion(),
            auxiliary,
            grad_norm: dev.read_norm(&self.norm),
            loss_by_t,
        };
        (losses, images_by_t)
    }
}

impl<D: Device> Learner<D> {
    /// Initialises the weights, or restores everything from a checkpoint.
    fn new(
        dev: &D,
        (role, model): (Role, &ModelConfig),
        config: &RunConfig,
        resume: Option<&Checkpoint>,
    ) -> Result<Self, TrainError> {
        let denoiser = Denoiser::new(dev, model, &config.objective);
        let registry = denoiser.registry();
        let (params, optimizer) = match resume {
            Some(checkpoint) => {
                let params = Params::upload(dev, registry, &checkpoint.weights(role, registry)?);
                let state = checkpoint.optimizer(role, registry)?;
                (params, Optimizer::restore(dev, registry, &state, &config.optim))
            }
            None => {
                let values = initial_values(registry, config.train.seed);
                let optimizer = Optimizer::new(dev, registry, &values, &config.optim);
                (Params::upload(dev, registry, &values), optimizer)
            }
        };
        let grads = Grads::zeros(dev, registry);
        Ok(Self { role, denoiser, params, grads, optimizer, micros: Vec::new() })
    }

    /// Forgets the gradient and the losses of the step before.
    pub fn begin_step(&mut self, dev: &D) {
        self.grads.clear(dev);
        self.micros.clear();
    }

    /// Adds a micro-batch of `step` to the gradient and to the losses.
    pub fn accumulate(&mut self, dev: &D, micro: &Micro, train: &TrainConfig, step: u64) {
        let draw = &micro.draw;
        let first = micro.first as u64;
        let samples = (first..first + draw.t.len() as u64).collect();
        let dropout = DropoutKeys { seed: train.seed, step, samples, pass: 0 };
        let keep = if train.checkpoint_blocks { Keep::Input } else { Keep::Everything };
        let mode = Mode { dropout: Some(&dropout), keep };
        let batch = Batch {
            x: &micro.x,
            noise: &draw.noise,
            t: &draw.t,
            labels: &draw.labels,
            rotation: &draw.rotation,
        };
        let (params, grads) = (&self.params, &mut self.grads);
        let images = train.global_batch;
        let losses = accumulate(dev, &self.denoiser, params, grads, batch, images, mode);
        self.micros.push((draw.t.clone(), losses));
    }

    /// The losses of the step and the norm of its gradient.
    pub fn found(&mut self, dev: &D) -> Found<D> {
        Found {
            role: self.role,
            micros: std::mem::take(&mut self.micros),
            auxiliary_weight: f64::from(self.denoiser.objective().auxiliary_weight),
            norm: self.optimizer.grad_norm(dev, &self.grads),
        }
    }

    /// Moves the weights along the gradient.
    pub fn step(&mut self, dev: &D, found: &Found<D>, lr: f64) {
        let registry = self.denoiser.registry();
        self.optimizer.step(dev, registry, &mut self.params, &self.grads, &found.norm, lr);
    }

    /// Whether every weight is a finite number.
    pub fn is_finite(&self, dev: &D) -> bool {
        let values: Vec<_> = self.params.iter().map(|w| dev.value(w)).collect();
        dev.read_norm(&dev.norm(&values)).is_finite()
    }

    /// What a checkpoint holds of it.
    fn learned(&self) -> Learned<'_, D> {
        Learned {
            role: self.role,
            model: self.denoiser.net().config(),
            registry: self.denoiser.registry(),
            params: &self.params,
            optimizer: &self.optimizer,
        }
    }

    /// The first average of the weights, if the run keeps any.
    fn averaged(&self, dev: &D, config: &RunConfig) -> Option<Params<D>> {
        (!config.optim.ema_decay.is_empty()).then(|| {
            let values = self.optimizer.average(dev, &self.params, 0);
            Params::upload(dev, self.denoiser.registry(), &values)
        })
    }

    fn sampler<'a>(
        &'a self,
        dev: &'a D,
        averaged: &'a Option<Params<D>>,
        config: &'a SampleConfig,
    ) -> Sampler<'a, D> {
        self.denoiser.sampler(dev, averaged.as_ref().unwrap_or(&self.params), config)
    }
}

/// The networks of a run.
pub struct Learners<D: Device> {
    first: Learner<D>,
    partner: Option<Learner<D>>,
}

/// The averages that draw, of each network; none where the run keeps none.
pub struct Averaged<D: Device> {
    first: Option<Params<D>>,
    partner: Option<Params<D>>,
}

impl<D: Device> Learners<D> {
    /// The networks of `config`, as [`Learner`] starts them.
    ///
    /// # Errors
    /// A checkpoint whose weights are not theirs.
    pub fn new(
        dev: &D,
        config: &RunConfig,
        resume: Option<&Checkpoint>,
    ) -> Result<Self, TrainError> {
        let learner = |role, model: &ModelConfig| Learner::new(dev, (role, model), config, resume);
        let partner = config.partner_model();
        Ok(Self {
            first: learner(Role::First, &config.model)?,
            partner: partner.map(|model| learner(Role::Partner, &model)).transpose()?,
        })
    }

    /// The network that every run has.
    pub fn first(&self) -> &Learner<D> {
        &self.first
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Learner<D>> {
        std::iter::once(&self.first).chain(&self.partner)
    }

    /// All of them, to train.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Learner<D>> {
        std::iter::once(&mut self.first).chain(&mut self.partner)
    }

    /// Trained and fixed parameters.
    pub fn parameters(&self) -> usize {
        self.iter().map(|learner| learner.denoiser.registry().numel()).sum()
    }

    /// What a checkpoint holds of them.
    pub fn learned(&self) -> Vec<Learned<'_, D>> {
        self.iter().map(Learner::learned).collect()
    }

    /// The averages with which `config` draws.
    pub fn averaged(&self, dev: &D, config: &RunConfig) -> Averaged<D> {
        let partner = self.partner.as_ref().filter(|_| config.draws_with_partner());
        Averaged {
            first: self.first.averaged(dev, config),
            partner: partner.and_then(|partner| partner.averaged(dev, config)),
        }
    }

    /// A sampler with these averages: the first network, or both as `[fusion]` says.
    pub fn sampler<'a>(
        &'a self,
        dev: &'a D,
        averaged: &'a Averaged<D>,
        config: &'a RunConfig,
    ) -> Sampler<'a, D> {
        let first = self.first.sampler(dev, &averaged.first, &config.sample);
        match &self.partner {
            Some(partner) if config.draws_with_partner() => {
                let partner = partner.sampler(dev, &averaged.partner, &config.sample);
                config.fusion.fusion().sampler(first, partner)
            }
            _ => first,
        }
    }
}
