//! Multi-head self-attention with everything between the qkv and the output projection: per-head
//! RMSNorm and rotary positions on queries and keys, softmax, dropout on the probabilities.
//!
//! No N×N tensor exists: both passes work on a block of rows at a time, and the backward pass
//! recomputes the probabilities from the saved log-sum-exp of each row (Dao et al. 2022,
//! "FlashAttention", without its online rescaling, since a row of logits fits the cache).

mod plain;

use jit_core::rng::Stream;

pub use plain::{attention_grad_plain, attention_plain};

/// Added to the mean square of a query or key before its root.
pub const EPS: f32 = 1e-6;

/// The sizes of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Images B.
    pub batch: usize,
    /// Tokens N of an image.
    pub tokens: usize,
    /// Heads H.
    pub heads: usize,
    /// Values h of a head: even, since rotations act on pairs.
    pub head_dim: usize,
}

impl AttentionShape {
    /// Values of a token, D = H·h.
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// Rotary position tables, each `[N, h]`.
///
/// The rotation is `x·cos + rotate_half(x)·sin` with `rotate_half` taking each interleaved pair
/// (x₀, x₁) to (−x₁, x₀).
#[derive(Clone, Copy, Debug)]
pub struct Rope<'a> {
    /// Cosines, 1 for a token without position.
    pub cos: &'a [f32],
    /// Sines, 0 for a token without position.
    pub sin: &'a [f32],
}

/// Dropout on the softmax probabilities. The mask is addressed, not stored: element
/// `(head·N + i)·N + j` of an image's stream decides on the weight of key j for query i.
#[derive(Clone, Copy, Debug)]
pub struct AttentionDropout<'a> {
    /// Probability of zeroing a weight, in [0, 1).
    pub rate: f32,
    /// One stream per image.
    pub streams: &'a [Stream],
}

/// The attention of `qkv` `[B, N, 3, H, h]`: `q_weight`, `k_weight` `[h]` are the norms' weights.
/// Overwrites `out` `[B, N, D]` and `lse` `[B, H, N]`, the log-sum-exp of each row of logits, which
/// [`attention_grad`] needs.
pub fn attention(
    qkv: &[f32],
    q_weight: &[f32],
    k_weight: &[f32],
    rope: Rope<'_>,
    shape: AttentionShape,
    dropout: Option<AttentionDropout<'_>>,
    out: &mut [f32],
    lse: &mut [f32],
) {
    attention_plain(qkv, q_weight, k_weight, rope, shape, dropout, out, lse);
}

/// The backward pass of [`attention`]: overwrites `dqkv` and adds to `dq_weight` and `dk_weight`.
///
/// `out` and `lse` are what [`attention`] computed from the same inputs.
pub fn attention_grad(
    qkv: &[f32],
    q_weight: &[f32],
    k_weight: &[f32],
    rope: Rope<'_>,
    shape: AttentionShape,
    dropout: Option<AttentionDropout<'_>>,
    out: &[f32],
    lse: &[f32],
    dout: &[f32],
    dqkv: &mut [f32],
    dq_weight: &mut [f32],
    dk_weight: &mut [f32],
) {
    assert_eq!((out.len(), lse.len()), (dout.len(), shape.batch * shape.heads * shape.tokens));
    attention_grad_plain(
        qkv, q_weight, k_weight, rope, shape, dropout, dout, dqkv, dq_weight, dk_weight,
    );
}
