//! `[fusion]`: a second model to draw with.

use jit_model::fusion::{Fusion, FusionMode, WeightSchedule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What [`FusionConfig::with`] calls the run's own second model.
pub const PARTNER: &str = "partner";

/// A second model to draw with, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FusionConfig {
    /// A second model that draws along: a run's folder, a checkpoint's folder, a weight file, or `partner` for the
    /// one that was trained along (`[partner]`; the only one that draws while a run trains); empty for none.
    pub with: String,
    /// Which of its weights, such as `model` or `ema-0.9999`; empty for its first average, and of a `partner` for the
    /// same as of the first model.
    pub average: String,
    /// How the clean images that both predict become one: `blend` is (1 − w)·A + w·B, `guide` is A + w·(A − B).
    pub mode: FusionMode,
    /// The weight w: `0.5`, `0.2..0.8` (a straight line from t = 0 to t = 1) or `0.2..0.8@0.5` (a change at
    /// once at t = 0.5); from 0 to 1 in a blend.
    #[schemars(with = "String")]
    pub weight: WeightSchedule,
}

impl Default for FusionConfig {
    /// No second model; the mean of both if there is one.
    fn default() -> Self {
        Self {
            with: String::new(),
            average: String::new(),
            mode: FusionMode::Blend,
            weight: WeightSchedule::Constant(0.5),
        }
    }
}

impl FusionConfig {
    /// How the two become one.
    pub fn fusion(&self) -> Fusion {
        Fusion { mode: self.mode, weight: self.weight }
    }
}
