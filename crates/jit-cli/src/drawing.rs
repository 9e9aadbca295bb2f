//! A network with the weights of a checkpoint, ready to draw.

use jit_model::objective::Auxiliary;
use jit_model::{Denoiser, Device, ObjectiveConfig, Params, Sampler};
use jit_train::RunConfig;

use crate::failure::Outcome;
use crate::shape;
use crate::source::Source;

/// The network and its parameters on a device.
pub struct Drawer<'a, D: Device> {
    dev: &'a D,
    config: RunConfig,
    denoiser: Denoiser<D>,
    params: Params<D>,
}

impl<'a, D: Device> Drawer<'a, D> {
    /// Takes the weights out of `source`.
    ///
    /// # Errors
    /// Weights that are not those of the configuration.
    pub fn new(dev: &'a D, source: &mut Source) -> Outcome<Self> {
        let config = source.config.clone();
        let denoiser = Denoiser::new(dev, &config.model, &without_head(&config));
        let tensors = std::mem::take(&mut source.state.tensors);
        let values = shape::values(denoiser.registry(), tensors)?;
        let params = Params::upload(dev, denoiser.registry(), &values);
        Ok(Self { dev, config, denoiser, params })
    }

    /// The sampler, as configured.
    pub fn sampler(&self) -> Sampler<'_, D> {
        self.denoiser.sampler(self.dev, &self.params, &self.config.sample)
    }
}

/// The objective without its auxiliary loss: drawing needs no head.
fn without_head(config: &RunConfig) -> ObjectiveConfig {
    ObjectiveConfig { auxiliary: Auxiliary::None, ..config.objective.clone() }
}
