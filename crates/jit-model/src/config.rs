//! The network's shape.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The network's shape. A preset fills it; every key can be overridden.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// Side of the square images, in pixels; a multiple of `patch_size`.
    #[serde(alias = "input_size")]
    pub image_size: usize,
    /// Image channels: 1 for grey, 3 for colour.
    pub channels: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Width D of the tokens; a multiple of 4 and of `num_heads`.
    pub hidden_size: usize,
    /// Number of Transformer blocks.
    pub depth: usize,
    /// Attention heads; the head size `hidden_size / num_heads` must be a multiple of 4.
    pub num_heads: usize,
    /// Width of the patch embedding's bottleneck.
    pub bottleneck_dim: usize,
    /// Number of classes; 0 trains without labels.
    pub num_classes: usize,
    /// Number of in-context class tokens; 0 for none.
    pub in_context_len: usize,
    /// Block before which the class tokens enter.
    pub in_context_start: usize,
    /// Patch embedding: `linear` (JiT) or `silu` (non-linear, eq. 1 of the target paper).
    pub patch_embed: PatchEmbedKind,
    /// MLP of the blocks: `swiglu` (JiT) or `bottleneck` (listing 1 of the target paper).
    pub mlp: MlpKind,
    /// Dropout on attention probabilities in the middle half of the blocks.
    pub attention_dropout: f32,
    /// Dropout on the attention's output and in the SwiGLU in the middle half of the blocks.
    pub projection_dropout: f32,
}

/// The non-linearity between the two projections of the patch embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PatchEmbedKind {
    /// None: the embedding is linear, of rank `bottleneck_dim`.
    Linear,
    /// SiLU.
    Silu,
}

/// The MLP of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MlpKind {
    /// `w3(silu(a)·b)`, `(a, b) = w12(x)`, hidden width ⌊8D/3⌋.
    Swiglu,
    /// D → D/2 → GELU → 4D → SiLU → D.
    Bottleneck,
}

impl Default for ModelConfig {
    /// JiT-B/16 for 256² colour images of 1 000 classes.
    fn default() -> Self {
        Self {
            image_size: 256,
            channels: 3,
            patch_size: 16,
            hidden_size: 768,
            depth: 12,
            num_heads: 12,
            bottleneck_dim: 128,
            num_classes: 1000,
            in_context_len: 32,
            in_context_start: 4,
            patch_embed: PatchEmbedKind::Linear,
            mlp: MlpKind::Swiglu,
            attention_dropout: 0.0,
            projection_dropout: 0.0,
        }
    }
}

/// Why a [`ModelConfig`] cannot be built.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("model.{key} = {value}: {expected}")]
pub struct ConfigError {
    /// The offending key.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// What would be valid.
    pub expected: String,
}

/// The largest tensor or token count that a configuration may ask for, against typing errors and
/// hostile checkpoints: 2³¹ values.
const MAX_ELEMENTS: u128 = 1 << 31;

impl ModelConfig {
    /// Patches a side, g.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Image tokens N = g².
    pub fn tokens(&self) -> usize {
        self.grid() * self.grid()
    }

    /// Size of a head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_heads
    }

    /// Values in a patch, C·p².
    pub fn patch_dim(&self) -> usize {
        self.channels * self.patch_size * self.patch_size
    }

    /// Values in an image, C·S².
    pub fn pixels(&self) -> usize {
        self.channels * self.image_size * self.image_size
    }

    /// Index of the null class: the last row of the class table.
    pub fn null_class(&self) -> u32 {
        self.num_classes as u32
    }

    /// Dropout applies to the middle half of the blocks (spec §1; integer division as there).
    pub fn drops_in(&self, block: usize) -> bool {
        (self.depth / 4..self.depth / 4 * 3).contains(&block)
    }

    /// Standard deviation of the noise: S/256, and 1 below 256 (spec §2).
    pub fn default_noise_scale(&self) -> f32 {
        (self.image_size as f32 / 256.0).max(1.0)
    }

    /// Checks every constraint between the keys.
    ///
    /// # Errors
    /// [`ConfigError`] with the key, its value and what would be valid.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fail = |key, value: &dyn std::fmt::Display, expected: String| {
            Err(ConfigError { key, value: value.to_string(), expected })
        };
        for (key, value) in [
            ("image_size", self.image_size),
            ("channels", self.channels),
            ("patch_size", self.patch_size),
            ("hidden_size", self.hidden_size),
            ("depth", self.depth),
            ("num_heads", self.num_heads),
            ("bottleneck_dim", self.bottleneck_dim),
        ] {
            if value == 0 || value > 1 << 20 {
                return fail(key, &value, "expected 1 to 1048576".into());
            }
        }
        if !self.image_size.is_multiple_of(self.patch_size) {
            let sizes = divisors_near(self.image_size, self.patch_size);
            return fail(
                "patch_size",
                &self.patch_size,
                format!("must divide image_size = {}; try {sizes}", self.image_size),
            );
        }
        if !self.hidden_size.is_multiple_of(4) {
            return fail(
                "hidden_size",
                &self.hidden_size,
                "must be a multiple of 4 (2-D sin-cos positions)".into(),
            );
        }
        if !self.hidden_size.is_multiple_of(self.num_heads) || !self.head_dim().is_multiple_of(4) {
            return fail(
                "num_heads",
                &self.num_heads,
                format!(
                    "must divide hidden_size = {} into heads whose size is a multiple of 4 \
                     (2-D rotary positions)",
                    self.hidden_size
                ),
            );
        }
        if self.in_context_len > 0 && self.in_context_start >= self.depth {
            return fail(
                "in_context_start",
                &self.in_context_start,
                format!("must be below depth = {}", self.depth),
            );
        }
        for (key, rate) in [
            ("attention_dropout", self.attention_dropout),
            ("projection_dropout", self.projection_dropout),
        ] {
            if !(0.0..1.0).contains(&rate) {
                return fail(key, &rate, "expected a probability from 0 to below 1".into());
            }
        }
        let d = self.hidden_size as u128;
        let grid = self.grid() as u128;
        for (key, value, elements) in [
            ("hidden_size", self.hidden_size, 8 * d * d),
            ("num_classes", self.num_classes, (self.num_classes as u128 + 1) * d),
            ("image_size", self.image_size, (grid * grid + self.in_context_len as u128) * 8 * d),
            (
                "bottleneck_dim",
                self.bottleneck_dim,
                (self.bottleneck_dim as u128) * (d + self.patch_dim() as u128),
            ),
            ("patch_size", self.patch_size, self.patch_dim() as u128 * d),
        ] {
            if elements > MAX_ELEMENTS {
                return fail(
                    key,
                    &value,
                    format!(
                        "would need a tensor of {elements} values; the limit is {MAX_ELEMENTS}"
                    ),
                );
            }
        }
        Ok(())
    }
}

/// The divisors of `n` on both sides of `wanted`, for an error message.
fn divisors_near(n: usize, wanted: usize) -> String {
    let below = (1..wanted.min(n)).rev().find(|d| n.is_multiple_of(*d));
    let above = (wanted + 1..=n).find(|d| n.is_multiple_of(*d));
    match (below, above) {
        (Some(b), Some(a)) => format!("{b} or {a}"),
        (Some(d), None) | (None, Some(d)) => d.to_string(),
        (None, None) => "1".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_constraint_names_its_key() {
        let ok = ModelConfig::default();
        assert_eq!(ok.validate(), Ok(()));
        let key = |change: fn(&mut ModelConfig)| {
            let mut c = ok.clone();
            change(&mut c);
            c.validate().unwrap_err()
        };
        assert_eq!(key(|c| c.depth = 0).key, "depth");
        assert_eq!(key(|c| c.hidden_size = 770).key, "hidden_size");
        assert_eq!(key(|c| c.num_heads = 7).key, "num_heads");
        assert_eq!(key(|c| c.num_heads = 384).key, "num_heads");
        assert_eq!(key(|c| c.in_context_start = 12).key, "in_context_start");
        assert_eq!(key(|c| c.projection_dropout = 1.0).key, "projection_dropout");
        assert_eq!(key(|c| c.num_classes = usize::MAX / 2).key, "num_classes");
        let e = key(|c| c.patch_size = 20);
        assert_eq!(
            e.to_string(),
            "model.patch_size = 20: must divide image_size = 256; try 16 or 32"
        );
    }

    #[test]
    fn dropout_covers_the_middle_half() {
        let c = ModelConfig { depth: 10, ..ModelConfig::default() };
        let dropped: Vec<usize> = (0..10).filter(|&i| c.drops_in(i)).collect();
        assert_eq!(dropped, [2, 3, 4, 5]);
    }
}
