//! Dropout of the larger presets (spec §1): which masks a block has, and where each is drawn from.

use jit_core::rng::{Purpose, Stream};

use crate::config::ModelConfig;
use crate::device::Dropout;

/// Which images of which step a batch holds: the address of its dropout masks.
#[derive(Clone, Debug)]
pub struct DropoutKeys {
    /// The run's seed.
    pub seed: u64,
    /// Optimizer step.
    pub step: u64,
    /// Index of each image in the global batch.
    pub samples: Vec<u64>,
    /// 0 for the pass that the diffusion loss sees, 1 for a second pass over the same images.
    pub pass: u32,
}

/// The masks of one block.
#[derive(Clone, Debug)]
pub struct BlockDropout {
    /// On the attention probabilities.
    pub attention: Option<Dropout>,
    /// On the attention's output projection.
    pub projection: Option<Dropout>,
    /// On the hidden layer of the SwiGLU.
    pub mlp: Option<Dropout>,
}

impl BlockDropout {
    /// The masks of block `i`, if it drops anything.
    pub fn new(c: &ModelConfig, keys: &DropoutKeys, i: usize) -> Option<Self> {
        if !c.drops_in(i) || (c.attention_dropout == 0.0 && c.projection_dropout == 0.0) {
            return None;
        }
        // Two masks of the projection kind a block: after the attention and inside the MLP.
        let layer = 2 * (keys.pass * c.depth as u32 + i as u32);
        let stream = |purpose, layer, sample| {
            Stream::new(keys.seed, purpose, keys.step, sample).with_layer(layer)
        };
        let mask = |rate: f32, purpose, layer| {
            let streams = keys.samples.iter().map(|&s| stream(purpose, layer, s)).collect();
            (rate > 0.0).then_some(Dropout { rate, streams })
        };
        Some(Self {
            attention: mask(c.attention_dropout, Purpose::AttentionDropout, layer),
            projection: mask(c.projection_dropout, Purpose::ProjectionDropout, layer),
            mlp: mask(c.projection_dropout, Purpose::ProjectionDropout, layer + 1),
        })
    }
}
