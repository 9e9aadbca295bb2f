//! Two networks that draw together: a blend of what both predict, or one guided by the other.
//!
//! With x̂_A and x̂_B the clean images that the networks predict at the same (z, t, y), and w(t) a
//! [`WeightSchedule`]:
//!
//! ```text
//! blend   x̂ = (1 − w)·x̂_A + w·x̂_B
//! guide   x̂ = x̂_A + w·(x̂_A − x̂_B)          (a blend with the weight −w)
//! ```
//!
//! Both are computed on v, which the sampler integrates: at one (z, t) v is affine in x̂, and the
//! weights add up to 1. A network that predicts ε or v, or clamps otherwise, is brought to v by its
//! own objective, so that a network fused with itself remains itself. Each is guided without its
//! class first (`sample.cfg_scale`) and fused then; since both steps are linear and share s(t), the
//! other order would give the same. A network whose weight is 0 is not run.

mod schedule;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::schedule::{ScheduleError, WeightSchedule};
use crate::config::ModelConfig;
use crate::device::Device;
use crate::flow::Flow;
use crate::objective::ObjectiveConfig;
use crate::sampler::Sampler;

/// How the predictions of two networks become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FusionMode {
    /// (1 − w)·A + w·B.
    Blend,
    /// A + w·(A − B).
    Guide,
}

impl FusionMode {
    /// Its name in options, suites and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blend => "blend",
            Self::Guide => "guide",
        }
    }
}

/// How two networks draw together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fusion {
    /// How their predictions become one.
    pub mode: FusionMode,
    /// The weight w(t).
    pub weight: WeightSchedule,
}

/// A weight that makes no sense.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error(
    "fusion.weight = {0}: expected weights from 0 to 1 in the mode `blend`; beyond them, \
     `guide` with a weight w is A + w·(A − B)"
)]
pub struct FusionError(WeightSchedule);

impl Fusion {
    /// Checks that a blend stays between its two networks.
    ///
    /// # Errors
    /// [`FusionError`] with the weight and what would be valid.
    pub fn validate(self) -> Result<(), FusionError> {
        let [from, to] = self.weight.ends();
        let between = [from, to].iter().all(|w| (0.0..=1.0).contains(w));
        match self.mode {
            FusionMode::Blend if !between => Err(FusionError(self.weight)),
            _ => Ok(()),
        }
    }

    /// The share of the second network at time t; the first has the rest of 1.
    pub fn share(self, t: f32) -> f32 {
        let w = self.weight.at(t);
        match self.mode {
            FusionMode::Blend => w,
            FusionMode::Guide => -w,
        }
    }

    /// A sampler that draws with both, as the first is configured. They must be [`compatible`].
    pub fn sampler<'a, D: Device>(
        self,
        first: Sampler<'a, D>,
        second: Sampler<'a, D>,
    ) -> Sampler<'a, D> {
        let (first_flow, second) = (first.flow, second.flow);
        let flow = Fused { dev: first.dev, first: first_flow, second, fusion: self };
        Sampler { flow: Box::new(flow), ..first }
    }
}

/// The field of two networks.
struct Fused<'a, D: Device> {
    dev: &'a D,
    first: Box<dyn Flow<D> + 'a>,
    second: Box<dyn Flow<D> + 'a>,
    fusion: Fusion,
}

impl<D: Device> Flow<D> for Fused<'_, D> {
    fn velocity(&self, z: &D::Tensor, t: f32, labels: &[u32]) -> D::Tensor {
        let share = self.fusion.share(t);
        if share == 0.0 {
            return self.first.velocity(z, t, labels);
        }
        if share == 1.0 {
            return self.second.velocity(z, t, labels);
        }
        let first = self.first.velocity(z, t, labels);
        let second = self.second.velocity(z, t, labels);
        self.dev.axpby(1.0 - share, &first, share, &second)
    }
}

/// A network that is to be fused with another.
#[derive(Clone, Copy, Debug)]
pub struct Parent<'a> {
    /// What the user calls it: the file of its weights.
    pub name: &'a str,
    /// Its shape.
    pub model: &'a ModelConfig,
    /// What it predicts.
    pub objective: &'a ObjectiveConfig,
}

/// Why two networks cannot draw together.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error(
    "`{first}` and `{second}` cannot be fused: {key} is {of_first} in the first and {of_second} in \
     the second; both must draw images of the same size, channels and classes from the same noise"
)]
pub struct Mismatch {
    first: String,
    second: String,
    key: &'static str,
    of_first: String,
    of_second: String,
}

/// Checks that two networks draw the same kind of images from the same noise. All else may differ:
/// patches, width, depth, MLP, what they predict.
///
/// # Errors
/// [`Mismatch`] with both names, the key and its two values.
pub fn compatible(first: Parent<'_>, second: Parent<'_>) -> Result<(), Mismatch> {
    let keys = |p: Parent<'_>| {
        [
            ("model.image_size", p.model.image_size.to_string()),
            ("model.channels", p.model.channels.to_string()),
            ("model.num_classes", p.model.num_classes.to_string()),
            ("objective.noise_scale", p.objective.noise_scale(p.model).to_string()),
        ]
    };
    let mut pairs = keys(first).into_iter().zip(keys(second));
    match pairs.find(|((_, a), (_, b))| a != b) {
        None => Ok(()),
        Some(((key, of_first), (_, of_second))) => {
            let [first, second] = [first.name, second.name].map(str::to_string);
            Err(Mismatch { first, second, key, of_first, of_second })
        }
    }
}

#[cfg(test)]
mod tests;
