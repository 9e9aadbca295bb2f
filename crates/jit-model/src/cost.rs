//! What a model costs before anything is run: parameters, floating-point operations, memory.
//!
//! An operation is an addition or a multiplication, so a product of `[m, k]` and `[k, n]` counts
//! 2·m·k·n; papers often count multiply-adds, half of that. Matrix products only: norms and
//! activations are below 1 %.

use crate::config::{MlpKind, ModelConfig, PatchEmbedKind};
use crate::objective::{AuxHeadKind, Auxiliary, ObjectiveConfig, RotationKind};
use crate::params::Registry;
use crate::sampler::SampleConfig;

/// Bytes of an f32.
const F32: u64 = 4;

/// Width of the sinusoid that embeds the time (spec §1).
const SINUSOID: u64 = 256;

/// Parameters of each part, in the order of the network.
pub fn parameters(registry: &Registry) -> Vec<(&'static str, u64)> {
    const PARTS: [(&str, &[&str]); 9] = [
        ("patch embedding", &["net.x_embedder."]),
        ("positions (fixed)", &["net.pos_embed"]),
        ("time embedding", &["net.t_embedder."]),
        ("class table", &["net.y_embedder.", "net.in_context_posemb"]),
        ("attention", &[".attn."]),
        ("MLP", &[".mlp."]),
        ("modulation and norms", &[".adaLN_modulation.", ".norm1.", ".norm2."]),
        ("final layer", &["net.final_layer."]),
        ("auxiliary head", &["time_head", "rotation_head"]),
    ];
    let part = |name: &str| {
        let starts = |p: &&str| !p.starts_with('.') && name.starts_with(*p);
        let within = |p: &&str| p.starts_with('.') && name.contains(*p);
        // Whole prefixes first: the final layer has a modulation of its own.
        let found = PARTS.iter().position(|(_, keys)| keys.iter().any(starts));
        found.or_else(|| PARTS.iter().position(|(_, keys)| keys.iter().any(within)))
    };
    let mut sums = [0u64; PARTS.len()];
    for spec in registry.specs() {
        if let Some(i) = part(&spec.name) {
            sums[i] += spec.numel() as u64;
        }
    }
    let named = PARTS.iter().zip(sums).map(|((name, _), sum)| (*name, sum));
    named.filter(|(_, sum)| *sum > 0).collect()
}

/// Operations of one forward pass for one image.
pub fn forward_flops(c: &ModelConfig) -> u64 {
    let (d, n) = (c.hidden_size as u64, c.tokens() as u64);
    let (patch, narrow) = (c.patch_dim() as u64, c.bottleneck_dim as u64);
    let embed = n * narrow * (patch + d) + SINUSOID * d + d * d;
    let blocks: u64 = (0..c.depth).map(|i| block_products(c, tokens_in(c, i))).sum();
    let last = 2 * d * d + n * d * patch;
    2 * (embed + blocks + last)
}

/// Multiply-adds of one block on `n` tokens.
fn block_products(c: &ModelConfig, n: u64) -> u64 {
    let d = c.hidden_size as u64;
    let modulation = 6 * d * d;
    let attention = n * (3 * d * d) + 2 * n * n * d + n * d * d;
    let mlp = match c.mlp {
        MlpKind::Swiglu => n * 3 * d * swiglu_width(d),
        MlpKind::Bottleneck => n * (d * (d / 2) + d / 2 * 4 * d + 4 * d * d),
    };
    modulation + attention + mlp
}

/// Tokens that block `i` sees: the class tokens enter before `in_context_start`.
fn tokens_in(c: &ModelConfig, i: usize) -> u64 {
    let context = if i >= c.in_context_start { c.in_context_len } else { 0 };
    (c.tokens() + context) as u64
}

/// Hidden width m of the SwiGLU.
fn swiglu_width(d: u64) -> u64 {
    4 * d * 2 / 3
}

/// Operations of a training step for one image: the backward pass costs two forward passes, and
/// recomputed blocks one more.
pub fn training_flops(c: &ModelConfig, o: &ObjectiveConfig, checkpoint_blocks: bool) -> u64 {
    let passes = if checkpoint_blocks { 4 } else { 3 };
    let d = c.hidden_size as u64;
    let outputs = match o.auxiliary {
        Auxiliary::None => 0,
        Auxiliary::Time => 1,
        Auxiliary::Rotation => 4,
    };
    let head = match o.auxiliary_head {
        _ if outputs == 0 => 0,
        AuxHeadKind::Mlp => d * d + d * outputs,
        AuxHeadKind::Linear => d * outputs,
    };
    passes * forward_flops(c) * forwards(o) + 3 * 2 * head
}

/// Forward passes a training step needs for each image.
fn forwards(o: &ObjectiveConfig) -> u64 {
    let second = o.auxiliary == Auxiliary::Rotation && o.rotation == RotationKind::SecondPass;
    if second { 2 } else { 1 }
}

/// Forward passes that drawing one image of a class needs.
pub fn sampling_passes(c: &ModelConfig, s: &SampleConfig) -> u64 {
    (0..s.steps).map(|step| step_passes(c, s, step)).sum()
}

/// Forward passes of step `step` for one image of a class: guidance adds a null pass where its scale
/// is not 1.
pub fn step_passes(c: &ModelConfig, s: &SampleConfig, step: usize) -> u64 {
    let times = s.times();
    let guided = |t: f32| if c.num_classes > 0 && s.guidance(t) != 1.0 { 2 } else { 1 };
    let both_ends = s.method.evaluations(step, s.steps) > 1;
    guided(times[step]) + if both_ends { guided(times[step + 1]) } else { 0 }
}

/// Memory of a training run, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingMemory {
    /// The weights.
    pub weights: u64,
    /// Their gradients.
    pub gradients: u64,
    /// The optimizer's two moments.
    pub moments: u64,
    /// All averages of the weights.
    pub averages: u64,
    /// What a micro-batch keeps for its backward pass.
    pub activations: u64,
}

impl TrainingMemory {
    /// The sum.
    pub fn total(&self) -> u64 {
        self.weights + self.gradients + self.moments + self.averages + self.activations
    }
}

/// Memory of training `parameters` values with `averages` EMAs and `batch` images at once.
pub fn training_memory(
    c: &ModelConfig,
    parameters: u64,
    averages: usize,
    batch: usize,
    checkpoint_blocks: bool,
) -> TrainingMemory {
    let values = parameters * F32;
    TrainingMemory {
        weights: values,
        gradients: values,
        moments: 2 * values,
        averages: averages as u64 * values,
        activations: batch as u64 * F32 * kept_values(c, checkpoint_blocks),
    }
}

/// Memory of drawing `batch` images at once with guidance: the weights and one block's values.
pub fn sampling_memory(c: &ModelConfig, parameters: u64, batch: usize) -> u64 {
    let n = tokens_in(c, c.depth.saturating_sub(1));
    parameters * F32 + 2 * batch as u64 * F32 * block_values(c, n)
}

/// Values that a forward pass keeps for one image's backward pass.
fn kept_values(c: &ModelConfig, checkpoint_blocks: bool) -> u64 {
    let (d, n) = (c.hidden_size as u64, c.tokens() as u64);
    let narrow =
        c.bottleneck_dim as u64 * if c.patch_embed == PatchEmbedKind::Silu { 2 } else { 1 };
    let embed = n * (c.patch_dim() as u64 + narrow) + SINUSOID + 4 * d;
    let last = n * d + 2 * d;
    let blocks: u64 =
        (0..c.depth)
            .map(|i| {
                if checkpoint_blocks {
                    tokens_in(c, i) * d
                } else {
                    block_values(c, tokens_in(c, i))
                }
            })
            .sum();
    // The block at work is whole again when its turn comes to go backward.
    let at_work = if checkpoint_blocks { block_values(c, tokens_in(c, c.depth - 1)) } else { 0 };
    embed + blocks + at_work + last
}

/// Values that one block keeps: its input, the modulation, q k v, the attention's output before and
/// after the projection with its row sums, the middle of the residual stream, the MLP's hidden
/// layer and output.
fn block_values(c: &ModelConfig, n: u64) -> u64 {
    let d = c.hidden_size as u64;
    let hidden = match c.mlp {
        MlpKind::Swiglu => 2 * swiglu_width(d),
        MlpKind::Bottleneck => d / 2 + 4 * d,
    };
    n * (d + 3 * d + d + d + d + hidden + d) + c.num_heads as u64 * n + 6 * d
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Net;
    use crate::sampler::Method;

    /// One block of width 4 on 4 tokens and one class token: small enough to count by hand.
    fn tiny() -> ModelConfig {
        ModelConfig {
            image_size: 4,
            channels: 1,
            patch_size: 2,
            hidden_size: 12,
            depth: 2,
            num_heads: 3,
            bottleneck_dim: 5,
            num_classes: 2,
            in_context_len: 1,
            in_context_start: 1,
            ..ModelConfig::default()
        }
    }

    #[test]
    fn operations_match_a_count_by_hand() {
        // Patches 4 x 4 -> 5 -> 12; time 256 -> 12 -> 12.
        let embed = 4 * (4 * 5 + 5 * 12) + 256 * 12 + 12 * 12;
        // Modulation 12 -> 72; qkv 12 -> 36; scores and values n x n x 12; proj; 12 -> 64, 32 -> 12.
        let block = |n: u64| {
            12 * 72 + n * 12 * 36 + 2 * n * n * 12 + n * 12 * 12 + n * 12 * 64 + n * 32 * 12
        };
        // Modulation 12 -> 24; 12 -> 4.
        let last = 12 * 24 + 4 * 12 * 4;
        assert_eq!(forward_flops(&tiny()), 2 * (embed + block(4) + block(5) + last));
        let bottleneck = ModelConfig { mlp: MlpKind::Bottleneck, ..tiny() };
        // 12 -> 6 -> 48 -> 12 in place of 12 -> 64, 32 -> 12, on 9 tokens.
        let change = 9 * ((12 * 6 + 6 * 48 + 48 * 12) - (12 * 64 + 32 * 12));
        assert_eq!(forward_flops(&bottleneck) as i64, forward_flops(&tiny()) as i64 + 2 * change);
    }

    #[test]
    fn the_large_preset_costs_what_was_published() {
        // JiT-B/16 and JiT-B/32 have 25 G multiply-adds, JiT-L/16 has 88 G.
        for (name, giga) in [("JiT-B/16", 25.0), ("JiT-B/32", 26.0), ("JiT-L/16", 88.0)] {
            let have = forward_flops(&crate::presets::model(name).unwrap()) as f64 / 2e9;
            assert!((have / giga - 1.0).abs() < 0.03, "{name}: {have} G multiply-adds");
        }
    }

    #[test]
    fn a_training_step_is_three_passes_and_what_the_objective_adds() {
        let (c, plain) = (tiny(), ObjectiveConfig::default());
        let forward = forward_flops(&c);
        assert_eq!(training_flops(&c, &plain, false), 3 * forward);
        assert_eq!(training_flops(&c, &plain, true), 4 * forward);
        let rotation = ObjectiveConfig { auxiliary: Auxiliary::Rotation, ..plain.clone() };
        let head = 6 * (12 * 12 + 12 * 4);
        assert_eq!(training_flops(&c, &rotation, false), 6 * forward + head);
        let in_place = ObjectiveConfig { rotation: RotationKind::InPlace, ..rotation };
        assert_eq!(training_flops(&c, &in_place, false), 3 * forward + head);
    }

    #[test]
    fn guidance_is_paid_inside_its_interval_only() {
        let passes = |method, steps, cfg_scale, cfg_interval| {
            let config =
                SampleConfig { method, steps, cfg_scale, cfg_interval, ..SampleConfig::default() };
            sampling_passes(&tiny(), &config)
        };
        assert_eq!(passes(Method::Euler, 4, 1.0, [0.0, 1.0]), 4);
        assert_eq!(passes(Method::Euler, 4, 2.0, [0.0, 1.0]), 8);
        // Times 0, 1/4, 1/2, 3/4: the first lies outside (0.1, 1).
        assert_eq!(passes(Method::Euler, 4, 2.0, [0.1, 1.0]), 7);
        assert_eq!(passes(Method::Heun, 4, 1.0, [0.0, 1.0]), 7);
        assert_eq!(passes(Method::Ab2, 4, 1.0, [0.0, 1.0]), 5);
        assert_eq!(passes(Method::Dpmpp2m, 4, 2.0, [0.1, 1.0]), 7);
        let unconditional = ModelConfig { num_classes: 0, ..tiny() };
        assert_eq!(sampling_passes(&unconditional, &SampleConfig::default()), 99);
    }

    #[test]
    fn memory_matches_a_count_by_hand() {
        let c = tiny();
        // x 12, qkv 36, attention 12, projection 12, middle 12, hidden 64, mlp 12, sums 3 heads.
        let block = |n: u64| n * (12 + 36 + 12 + 12 + 12 + 64 + 12 + 3) + 72;
        let ends = 4 * (4 + 5) + 256 + 48 + (4 * 12 + 24);
        let m = training_memory(&c, 1000, 2, 3, false);
        assert_eq!(m.activations, 3 * 4 * (ends + block(4) + block(5)));
        assert_eq!((m.weights, m.gradients, m.moments, m.averages), (4000, 4000, 8000, 8000));
        assert_eq!(m.total(), 24_000 + m.activations);
        let m = training_memory(&c, 1000, 2, 3, true);
        assert_eq!(m.activations, 3 * 4 * (ends + 4 * 12 + 5 * 12 + block(5)));
    }

    #[test]
    fn every_parameter_belongs_to_a_part() {
        let net = Net::new(&tiny());
        let parts = parameters(net.registry());
        let sum: u64 = parts.iter().map(|(_, n)| n).sum();
        assert_eq!(sum, net.registry().numel() as u64);
        let part = |name: &str| parts.iter().find(|(p, _)| *p == name).unwrap().1;
        assert_eq!(part("final layer"), 12 + (12 * 24 + 24) + (12 * 4 + 4));
        assert_eq!(part("class table"), 3 * 12 + 12);
    }
}
