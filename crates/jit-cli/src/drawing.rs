//! One network, or two that are fused, with the weights of checkpoints, ready to draw.

use jit_model::objective::Auxiliary;
use jit_model::{Denoiser, Device, ObjectiveConfig, Params, Sampler};
use jit_train::RunConfig;

use crate::failure::Outcome;
use crate::shape;
use crate::source::Source;

/// What draws, on a device.
pub struct Drawer<'a, D: Device> {
    dev: &'a D,
    config: RunConfig,
    first: Network<D>,
    second: Option<Network<D>>,
}

/// A network and its parameters.
struct Network<D: Device> {
    denoiser: Denoiser<D>,
    params: Params<D>,
}

impl<'a, D: Device> Drawer<'a, D> {
    /// Takes the weights out of `first` and, where there is one, [`crate::fusion::second`].
    ///
    /// # Errors
    /// Weights that are not those of the configuration.
    pub fn new(dev: &'a D, first: &mut Source, second: Option<Source>) -> Outcome<Self> {
        Ok(Self {
            dev,
            config: first.config.clone(),
            first: Network::new(dev, first)?,
            second: second.map(|mut source| Network::new(dev, &mut source)).transpose()?,
        })
    }

    /// The sampler, as the first model's configuration says.
    pub fn sampler(&self) -> Sampler<'_, D> {
        let first = self.first.sampler(self.dev, &self.config);
        match &self.second {
            None => first,
            Some(second) => {
                let second = second.sampler(self.dev, &self.config);
                self.config.fusion.fusion().sampler(first, second)
            }
        }
    }
}

impl<D: Device> Network<D> {
    fn new(dev: &D, source: &mut Source) -> Outcome<Self> {
        let denoiser = Denoiser::new(dev, &source.config.model, &without_head(&source.config));
        let tensors = std::mem::take(&mut source.state.tensors);
        let values = shape::values(denoiser.registry(), tensors)?;
        let params = Params::upload(dev, denoiser.registry(), &values);
        Ok(Self { denoiser, params })
    }

    fn sampler<'a>(&'a self, dev: &'a D, config: &'a RunConfig) -> Sampler<'a, D> {
        self.denoiser.sampler(dev, &self.params, &config.sample)
    }
}

/// The objective without its auxiliary loss: drawing needs no head.
fn without_head(config: &RunConfig) -> ObjectiveConfig {
    ObjectiveConfig { auxiliary: Auxiliary::None, ..config.objective.clone() }
}
