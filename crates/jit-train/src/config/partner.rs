//! `[partner]`: a second model that is trained on the same batches.

use jit_model::ModelConfig;
use jit_model::config::{MlpKind, PatchEmbedKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// In what a second model, trained along on the same batches, differs from `[model]`; there is one if any
/// key is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PartnerConfig {
    /// `model.patch_size` of the partner.
    pub patch_size: Option<usize>,
    /// `model.hidden_size` of the partner.
    pub hidden_size: Option<usize>,
    /// `model.depth` of the partner.
    pub depth: Option<usize>,
    /// `model.num_heads` of the partner.
    pub num_heads: Option<usize>,
    /// `model.bottleneck_dim` of the partner.
    pub bottleneck_dim: Option<usize>,
    /// `model.in_context_len` of the partner.
    pub in_context_len: Option<usize>,
    /// `model.in_context_start` of the partner.
    pub in_context_start: Option<usize>,
    /// `model.patch_embed` of the partner.
    pub patch_embed: Option<PatchEmbedKind>,
    /// `model.mlp` of the partner.
    pub mlp: Option<MlpKind>,
    /// `model.attention_dropout` of the partner.
    pub attention_dropout: Option<f32>,
    /// `model.projection_dropout` of the partner.
    pub projection_dropout: Option<f32>,
}

/// The networks that a run may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one that every run has.
    First,
    /// The one of `[partner]`.
    Partner,
}

impl Role {
    /// What the names of its files begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::First => "",
            Self::Partner => "partner-",
        }
    }
}

impl PartnerConfig {
    /// Whether there is no partner.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The partner's shape beside that of `first`; `None` if there is no partner.
    pub fn model(&self, first: &ModelConfig) -> Option<ModelConfig> {
        (!self.is_none()).then(|| ModelConfig {
            patch_size: self.patch_size.unwrap_or(first.patch_size),
            hidden_size: self.hidden_size.unwrap_or(first.hidden_size),
            depth: self.depth.unwrap_or(first.depth),
            num_heads: self.num_heads.unwrap_or(first.num_heads),
            bottleneck_dim: self.bottleneck_dim.unwrap_or(first.bottleneck_dim),
            in_context_len: self.in_context_len.unwrap_or(first.in_context_len),
            in_context_start: self.in_context_start.unwrap_or(first.in_context_start),
            patch_embed: self.patch_embed.unwrap_or(first.patch_embed),
            mlp: self.mlp.unwrap_or(first.mlp),
            attention_dropout: self.attention_dropout.unwrap_or(first.attention_dropout),
            projection_dropout: self.projection_dropout.unwrap_or(first.projection_dropout),
            // Both see the same images of the same classes.
            image_size: first.image_size,
            channels: first.channels,
            num_classes: first.num_classes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partner_is_the_model_with_other_keys() {
        let first = ModelConfig { depth: 9, num_classes: 7, ..ModelConfig::default() };
        assert_eq!(PartnerConfig::default().model(&first), None);
        let partner = PartnerConfig { mlp: Some(MlpKind::Bottleneck), ..Default::default() };
        let expected = ModelConfig { mlp: MlpKind::Bottleneck, ..first.clone() };
        assert_eq!(partner.model(&first), Some(expected));
    }
}
