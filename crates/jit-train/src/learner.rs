//! What learns in a run: a network with its weights, gradient, optimizer and averages, or two such
//! on the same batches.

use jit_model::denoiser::Batch;
use jit_model::dropout::DropoutKeys;
use jit_model::init::initial_values;
use jit_model::net::{Keep, Mode};
use jit_model::params::Registry;
use jit_model::{Denoiser, Device, Grads, ModelConfig, Params, SampleConfig, Sampler};

use crate::accumulate::{MicroLosses, accumulate};
use crate::checkpoint::{Checkpoint, Learned};
use crate::communicator::{CommunicationError, Communicator};
use crate::config::{Role, RunConfig, TrainConfig};
use crate::error::TrainError;
use crate::feed::Micro;
use crate::observer::{Losses, T_BINS};
use crate::optimizer::{Optimizer, OptimizerState};
use crate::reduce::Reducer;
use crate::tally::Tally;

/// One network in training. Nothing that it does depends on another, so that it ends in the same
/// bits alone and beside a partner.
pub struct Learner<D: Device> {
    role: Role,
    denoiser: Denoiser<D>,
    params: Params<D>,
    grads: Grads<D>,
    optimizer: Optimizer<D>,
    /// The losses of the step in progress.
    lost: Lost<D>,
    /// Sums of its gradients over all processes that are on their way.
    reducer: Option<Reducer>,
}

/// The losses of a step.
enum Lost<D: Device> {
    /// First image, times and losses of each micro-batch, perhaps still on their way from the device.
    Micros(Vec<(usize, Vec<f32>, MicroLosses<D>)>),
    /// Those of all processes.
    Merged(Tally),
}

/// What a step has found, perhaps still on its way from the device.
pub struct Found<D: Device> {
    role: Role,
    lost: Lost<D>,
    /// Images of the global batch.
    images: usize,
    /// λ of the auxiliary loss.
    auxiliary_weight: f64,
    /// The norm of the gradient.
    norm: D::Norm,
}

impl<D: Device> Lost<D> {
    /// As numbers, waiting for them if need be.
    fn tally(&self, dev: &D, images: usize) -> Tally {
        match self {
            Lost::Merged(tally) => tally.clone(),
            Lost::Micros(micros) => {
                let mut tally = Tally::new(images);
                for (first, t, losses) in micros {
                    tally.add(*first, t, &losses.read(dev));
                }
                tally
            }
        }
    }
}

impl<D: Device> Found<D> {
    /// Of which network.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The losses, waiting for them if need be, and the number of images with t in each tenth of
    /// [0, 1].
    pub fn read(&self, dev: &D) -> (Losses, [u64; T_BINS]) {
        let tally = self.lost.tally(dev, self.images);
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
    /// Initialises the weights, or restores everything from a checkpoint, which process 0 alone reads.
    fn new(
        dev: &D,
        (role, model): (Role, &ModelConfig),
        config: &RunConfig,
        resume: Resume<'_>,
    ) -> Result<Self, TrainError> {
        let denoiser = Denoiser::new(dev, model, &config.objective);
        let registry = denoiser.registry();
        let (params, optimizer) = match resume.step {
            Some(step) => {
                let weights = resume.values(|checkpoint| checkpoint.weights(role, registry))?;
                let state = resume.optimizer(role, registry, step, config)?;
                let params = Params::upload(dev, registry, &weights);
                (params, Optimizer::restore(dev, registry, &state, &config.optim))
            }
            None => {
                let values = initial_values(registry, config.train.seed);
                let optimizer = Optimizer::new(dev, registry, &values, &config.optim);
                (Params::upload(dev, registry, &values), optimizer)
            }
        };
        let grads = Grads::zeros(dev, registry);
        let (lost, reducer) = (Lost::Micros(Vec::new()), None);
        Ok(Self { role, denoiser, params, grads, optimizer, lost, reducer })
    }

    /// Forgets the gradient and the losses of the step before.
    pub fn begin_step(&mut self, dev: &D) {
        self.grads.clear(dev);
        self.lost = Lost::Micros(Vec::new());
    }

    /// Adds a micro-batch of `step` to the gradient and to the losses. In the last one the sum over all
    /// processes begins.
    pub fn accumulate(
        &mut self,
        comm: &dyn Communicator,
        dev: &D,
        micro: &Micro,
        train: &TrainConfig,
        step: u64,
    ) {
        let draw = &micro.draw;
        let first = micro.first as u64;
        let samples = (first..first + draw.t.len() as u64).collect();
        let dropout = DropoutKeys { seed: train.seed, step, samples, pass: 0 };
        let keep = if train.checkpoint_blocks { Keep::Input } else { Keep::Everything };
        let mode = Mode { dropout: Some(&dropout), keep };
        let batch = Batch {
            x: &micro.x,
            noise: draw.noise(),
            t: &draw.t,
            labels: &draw.labels,
            rotation: &draw.rotation,
        };
        let (params, grads) = (&self.params, &mut self.grads);
        let images = train.global_batch;
        let reduces = micro.last && comm.size() > 1;
        let mut reducer = reduces.then(|| Reducer::new(self.denoiser.registry()));
        let mut finished = |grads: &Grads<D>, first: usize| {
            if let Some(reducer) = &mut reducer {
                reducer.finished(comm, dev, grads, first);
            }
        };
        let losses =
            accumulate(dev, &self.denoiser, params, grads, (batch, images), mode, &mut finished);
        self.reducer = reducer;
        if let Lost::Micros(micros) = &mut self.lost {
            micros.push((micro.first, draw.t.clone(), losses));
        }
    }

    /// Waits until gradient and losses are those of all processes.
    ///
    /// # Errors
    /// [`TrainError::Communication`].
    pub fn merge(
        &mut self,
        comm: &dyn Communicator,
        dev: &D,
        train: &TrainConfig,
    ) -> Result<(), TrainError> {
        if let Some(reducer) = self.reducer.take() {
            let mut tally = self.lost.tally(dev, train.global_batch);
            let losses = comm.start_sum(tally.take());
            reducer.finish(dev, &mut self.grads)?;
            tally.put(losses.wait()?);
            self.lost = Lost::Merged(tally);
        }
        Ok(())
    }

    /// The losses of the step and the norm of its gradient.
    pub fn found(&mut self, dev: &D, train: &TrainConfig) -> Found<D> {
        Found {
            role: self.role,
            lost: std::mem::replace(&mut self.lost, Lost::Micros(Vec::new())),
            images: train.global_batch,
            auxiliary_weight: f64::from(self.denoiser.objective().auxiliary_weight),
            norm: self.optimizer.grad_norm(dev, &self.grads),
        }
    }

    /// Moves the weights along the gradient.
    pub fn step(&mut self, dev: &D, found: &Found<D>, lr: f64) {
        let registry = self.denoiser.registry();
        self.optimizer.step(dev, registry, &mut self.params, &self.grads, &found.norm, lr);
    }

    /// The norm of its weights: finite if all of them are.
    pub fn norm(&self, dev: &D) -> f64 {
        let values: Vec<_> = self.params.iter().map(|w| dev.value(w)).collect();
        dev.read_norm(&dev.norm(&values))
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

/// Where a run goes on from. Process 0 has the checkpoint and tells the others what is in it.
#[derive(Clone, Copy)]
pub struct Resume<'a> {
    /// The processes.
    pub comm: &'a dyn Communicator,
    /// The step of the checkpoint, if there is one.
    pub step: Option<u64>,
    /// The checkpoint, on process 0.
    pub checkpoint: Option<&'a Checkpoint>,
}

impl Resume<'_> {
    /// A value for each parameter, as `read` reads them on process 0.
    fn values(
        self,
        read: impl FnOnce(&Checkpoint) -> Result<Vec<Vec<f32>>, TrainError>,
    ) -> Result<Vec<Vec<f32>>, TrainError> {
        let values = self.checkpoint.map(read).transpose()?.unwrap_or_default();
        if self.comm.size() == 1 {
            return Ok(values);
        }
        let count = self.comm.broadcast((values.len() as u64).to_le_bytes().into())?;
        let count = <[u8; 8]>::try_from(count).map_err(|_| CommunicationError::Garbled(0))?;
        let mut values = values.into_iter();
        let mut next = |_| {
            let bytes =
                values.next().unwrap_or_default().iter().flat_map(|v| v.to_le_bytes()).collect();
            let bytes = self.comm.broadcast(bytes)?;
            let (chunks, _) = bytes.as_chunks::<4>();
            Ok(chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
        };
        (0..u64::from_le_bytes(count)).map(&mut next).collect()
    }

    /// The moments and averages of a network's optimizer.
    fn optimizer(
        self,
        role: Role,
        registry: &Registry,
        step: u64,
        config: &RunConfig,
    ) -> Result<OptimizerState, TrainError> {
        let state = self.checkpoint.map(|checkpoint| checkpoint.optimizer(role, registry));
        let mut state = state.transpose()?.unwrap_or_default();
        let average = |i: usize| {
            let mine = state.averages.get_mut(i).map(std::mem::take);
            self.values(|_| Ok(mine.unwrap_or_default()))
        };
        let averages = (0..config.optim.ema_decay.len()).map(average).collect::<Result<_, _>>()?;
        let m = self.values(|_| Ok(std::mem::take(&mut state.m)))?;
        let v = self.values(|_| Ok(std::mem::take(&mut state.v)))?;
        Ok(OptimizerState { step, m, v, averages })
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
    pub fn new(dev: &D, config: &RunConfig, resume: Resume<'_>) -> Result<Self, TrainError> {
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
