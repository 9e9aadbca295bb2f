//! AdamW over all parameters of a network, and the moving averages of its weights (spec §3).

use jit_model::device::{AdamW, Device};
use jit_model::params::{Grads, ParamSpec, Params, Registry};

use crate::config::OptimConfig;

/// The state of AdamW and the averages, on the device.
///
/// Parameters that are not trained have neither moments nor averages: they never change.
pub struct Optimizer<D: Device> {
    config: OptimConfig,
    /// Steps taken: the power of the betas in the bias corrections.
    step: u64,
    slots: Vec<Option<Slot<D::Tensor>>>,
}

/// What the optimizer keeps for one trained parameter.
struct Slot<T> {
    m: T,
    v: T,
    /// One average for each of `config.ema_decay`.
    averages: Vec<T>,
}

/// Host copies of an optimizer's state, in registry order; moments are empty where nothing is
/// trained.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OptimizerState {
    /// Steps taken.
    pub step: u64,
    /// First moments.
    pub m: Vec<Vec<f32>>,
    /// Second moments.
    pub v: Vec<Vec<f32>>,
    /// For each decay the averages of all parameters.
    pub averages: Vec<Vec<Vec<f32>>>,
}

impl<D: Device> Optimizer<D> {
    /// Moments at zero, averages at the initial weights.
    pub fn new(dev: &D, registry: &Registry, values: &[Vec<f32>], config: &OptimConfig) -> Self {
        let slot = |(spec, value): (&ParamSpec, &Vec<f32>)| {
            spec.trainable.then(|| Slot {
                m: dev.zeros(&spec.shape),
                v: dev.zeros(&spec.shape),
                averages: config.ema_decay.iter().map(|_| dev.upload(value, &spec.shape)).collect(),
            })
        };
        let slots = registry.specs().iter().zip(values).map(slot).collect();
        Self { config: config.clone(), step: 0, slots }
    }

    /// Continues from a saved state, whose shapes are those of `registry`.
    pub fn restore(
        dev: &D,
        registry: &Registry,
        state: &OptimizerState,
        config: &OptimConfig,
    ) -> Self {
        let slot = |(i, spec): (usize, &ParamSpec)| {
            let upload = |values: &[Vec<f32>]| dev.upload(&values[i], &spec.shape);
            spec.trainable.then(|| Slot {
                m: upload(&state.m),
                v: upload(&state.v),
                averages: state.averages.iter().map(|a| upload(a)).collect(),
            })
        };
        let slots = registry.specs().iter().enumerate().map(slot).collect();
        Self { config: config.clone(), step: state.step, slots }
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The global norm of the gradient; parameters are summed in registry order.
    pub fn grad_norm(&self, dev: &D, grads: &Grads<D>) -> D::Norm {
        let trained = grads.iter().zip(&self.slots).filter(|(_, slot)| slot.is_some());
        dev.norm(&trained.map(|(grad, _)| grad).collect::<Vec<_>>())
    }

    /// One step with the rate `lr` on a gradient of norm `grad_norm` ([`Optimizer::grad_norm`]),
    /// clipped if the configuration says so.
    pub fn step(
        &mut self,
        dev: &D,
        registry: &Registry,
        params: &mut Params<D>,
        grads: &Grads<D>,
        grad_norm: &D::Norm,
        lr: f64,
    ) {
        self.step += 1;
        let [beta1, beta2] = self.config.betas;
        // Past 2³¹ steps the corrections have long been 1.
        let power = |beta: f64| beta.powi(i32::try_from(self.step).unwrap_or(i32::MAX));
        let decays = &self.config.ema_decay;
        let clip = (grad_norm, self.config.clip_norm);
        let parameters = registry.specs().iter().zip(params.iter_mut()).zip(grads.iter());
        for (((spec, weight), grad), slot) in parameters.zip(&mut self.slots) {
            let Some(slot) = slot else { continue };
            let options = AdamW {
                lr,
                beta1,
                beta2,
                eps: self.config.eps,
                weight_decay: if spec.decays() { self.config.weight_decay } else { 0.0 },
                bias1: 1.0 - power(beta1),
                bias2: 1.0 - power(beta2),
            };
            let mut averages: Vec<_> =
                slot.averages.iter_mut().zip(decays.iter().copied()).collect();
            let moments = (&mut slot.m, &mut slot.v);
            dev.adamw(weight, grad, moments, &mut averages, clip, &options);
        }
    }

    /// Average number `index` of every parameter; the weight itself where nothing is trained.
    pub fn average(&self, dev: &D, params: &Params<D>, index: usize) -> Vec<Vec<f32>> {
        let pick = |(slot, weight): (&Option<Slot<D::Tensor>>, Vec<f32>)| match slot {
            Some(slot) => dev.download(&slot.averages[index]),
            None => weight,
        };
        self.slots.iter().zip(params.download(dev)).map(pick).collect()
    }

    /// The moments (m, v) of every parameter; empty where nothing is trained.
    pub fn moments(&self, dev: &D) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
        let pair = |slot: &Option<Slot<D::Tensor>>| match slot {
            Some(slot) => (dev.download(&slot.m), dev.download(&slot.v)),
            None => (Vec::new(), Vec::new()),
        };
        self.slots.iter().map(pair).unzip()
    }
}
