//! Multi-head self-attention with everything between the qkv and the output projection: per-head
//! RMSNorm and rotary positions on queries and keys, softmax, dropout on the probabilities.
//!
//! No N×N tensor exists: both passes work on a block of rows at a time, and the backward pass
//! recomputes the probabilities from the saved log-sum-exp of each row (Dao et al. 2022,
//! "FlashAttention", without its online rescaling, since a row of logits fits the cache).

mod backward;
mod forward;
mod heads;
mod plain;
mod product;
mod softmax;
#[cfg(test)]
mod tests;

use jit_core::rng::Stream;

pub use plain::{attention_grad_plain, attention_plain};

use crate::{
    buffer::Buffer,
    cpu::{self, Level},
    disjoint::Disjoint,
    gemm::Precision,
    par,
};
use backward::head_backward;
use forward::head_forward;

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

    /// Floating-point operations of one product of queries and keys over all heads and images, two a
    /// multiply-add. The forward pass has two products of this size, the backward pass four more.
    pub fn products(&self) -> usize {
        2 * self.batch * self.heads * self.tokens * self.tokens * self.head_dim
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

/// What both passes read.
struct Inputs<'a> {
    qkv: &'a [f32],
    q_weight: &'a [f32],
    k_weight: &'a [f32],
    rope: Rope<'a>,
    shape: AttentionShape,
    dropout: Option<AttentionDropout<'a>>,
    precision: Precision,
}

impl<'a> Inputs<'a> {
    fn check(&self) {
        let AttentionShape { batch, tokens: n, heads, head_dim: h } = self.shape;
        assert!(n > 0 && h > 0 && h.is_multiple_of(2), "attention: {:?}", self.shape);
        assert_eq!(self.qkv.len(), batch * n * 3 * heads * h, "attention: bad qkv length");
        assert_eq!((self.q_weight.len(), self.k_weight.len()), (h, h), "attention: bad weights");
        let tables = (self.rope.cos.len(), self.rope.sin.len());
        assert_eq!(tables, (n * h, n * h), "attention: the rotary tables are not [N, h]");
        if let Some(dropout) = self.dropout {
            assert_eq!(dropout.streams.len(), batch, "attention: one dropout stream an image");
            let fits = u32::try_from(heads * n * n).is_ok();
            assert!(fits, "attention: an image's mask exceeds the range of a stream");
        }
    }

    /// Queries, keys and values of a head, each from its first value on.
    fn parts(&self, image: usize, head: usize) -> [&'a [f32]; 3] {
        [0, 1, 2].map(|part| &self.qkv[self.qkv_at(image, 0, part, head)..])
    }

    /// Distance of two tokens in `qkv`.
    fn token_stride(&self) -> usize {
        3 * self.shape.width()
    }

    /// Where a head's queries (part 0), keys (1) or values (2) of a token start in `qkv`.
    fn qkv_at(&self, image: usize, token: usize, part: usize, head: usize) -> usize {
        let AttentionShape { tokens, heads, head_dim, .. } = self.shape;
        (((image * tokens + token) * 3 + part) * heads + head) * head_dim
    }

    /// Where a head's values of a token start in the output.
    fn out_at(&self, image: usize, token: usize, head: usize) -> usize {
        let AttentionShape { tokens, heads, head_dim, .. } = self.shape;
        ((image * tokens + token) * heads + head) * head_dim
    }

    /// The factor of the logits, 1/√h, which is applied to the queries.
    fn scale(&self) -> f32 {
        1.0 / (self.shape.head_dim as f32).sqrt()
    }
}

/// The attention of `qkv` `[B, N, 3, H, h]`: `q_weight`, `k_weight` `[h]` are the norms' weights.
/// Overwrites `out` `[B, N, D]` and `lse` `[B, H, N]`, the log-sum-exp of each row of logits, which
/// [`attention_grad`] needs. The operands of its two products are rounded to `precision`: queries and
/// keys after norm and rotation, `exp` of the logits before they are divided by their sum, values.
pub fn attention(
    precision: Precision,
    qkv: &[f32],
    q_weight: &[f32],
    k_weight: &[f32],
    rope: Rope<'_>,
    shape: AttentionShape,
    dropout: Option<AttentionDropout<'_>>,
    out: &mut [f32],
    lse: &mut [f32],
) {
    let inputs = Inputs { qkv, q_weight, k_weight, rope, shape, dropout, precision };
    forward_at(cpu::level(), &inputs, out, lse);
}

fn forward_at(level: Level, inputs: &Inputs<'_>, out: &mut [f32], lse: &mut [f32]) {
    inputs.check();
    let AttentionShape { batch, tokens, heads, .. } = inputs.shape;
    let expected = (batch * tokens * inputs.shape.width(), batch * heads * tokens);
    assert_eq!((out.len(), lse.len()), expected, "attention: bad output lengths");
    let out = Disjoint::new(out);
    par::for_each_chunk(lse, tokens, inputs.shape.products(), |task, lse| {
        head_forward(level, inputs, task / heads, task % heads, out, lse);
    });
}

/// The backward pass of [`attention`]: overwrites `dqkv` and adds to `dq_weight` and `dk_weight`.
///
/// `out` and `lse` are what [`attention`] computed from the same inputs. Operands of products are
/// rounded to `precision` here too.
pub fn attention_grad(
    precision: Precision,
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
    let inputs = Inputs { qkv, q_weight, k_weight, rope, shape, dropout, precision };
    backward_at(cpu::level(), &inputs, out, lse, dout, dqkv, dq_weight, dk_weight);
}

fn backward_at(
    level: Level,
    inputs: &Inputs<'_>,
    out: &[f32],
    lse: &[f32],
    dout: &[f32],
    dqkv: &mut [f32],
    dq_weight: &mut [f32],
    dk_weight: &mut [f32],
) {
    inputs.check();
    let AttentionShape { batch, tokens, heads, head_dim: h } = inputs.shape;
    let expected = (batch * tokens * heads * h, batch * heads * tokens);
    assert_eq!((out.len(), lse.len()), expected, "attention_grad: bad out or lse length");
    let expected = (out.len(), inputs.qkv.len());
    assert_eq!((dout.len(), dqkv.len()), expected, "attention_grad: bad dout or dqkv length");
    assert_eq!((dq_weight.len(), dk_weight.len()), (h, h), "attention_grad: bad dweights");

    // Each head of each image sums its own gradients of the weights; these are added in order.
    let mut partial = Buffer::zeroed(batch * heads * 2 * h);
    let dqkv = Disjoint::new(dqkv);
    par::for_each_chunk(&mut partial, 2 * h, 2 * inputs.shape.products(), |task, dweights| {
        let lse = &lse[task * tokens..][..tokens];
        let (image, head) = (task / heads, task % heads);
        head_backward(level, inputs, image, head, out, lse, dout, dqkv, dweights);
    });
    for partial in partial.chunks_exact(2 * h) {
        let (dq, dk) = partial.split_at(h);
        for j in 0..h {
            dq_weight[j] += dq[j];
            dk_weight[j] += dk[j];
        }
    }
}
