//! Attention, some (image, head) pairs at a time: products of matrices with a softmax between them.
//! The N×N matrices live for one such chunk only, and the backward pass computes them again.

use cubecl::prelude::*;
use half::{bf16, f16};
use jit_model::device::{Attention, NormGrads};

use super::threshold;
use crate::device::Gpu;
use crate::kernels::attention as kernels;
use crate::launch::{each, rows};
use crate::product::{Extents, HalfKind, Operand, Values};
use crate::tensor::{Block, GpuTensor, Words};

/// The most bytes of logits that a chunk holds, unless a single head has more: half of what the least
/// able drivers bind to a kernel.
const CHUNK: usize = 64 << 20;

/// The most matrices of a product: one layer of cubes each, and every runtime takes so many.
const MATRICES: usize = 65_535;

/// An attention's shape and mask, while its chunks are queued.
struct Shape<'a> {
    batch: usize,
    tokens: usize,
    heads: usize,
    dim: usize,
    streams: Option<(Words, u32, f32)>,
    q_norm: &'a GpuTensor,
    k_norm: &'a GpuTensor,
    rope: &'a GpuTensor,
}

/// (first, number) of the pairs of each chunk.
fn chunks(pairs: usize, tokens: usize) -> impl Iterator<Item = (usize, usize)> {
    let at_once = (CHUNK / (4 * tokens * tokens)).clamp(1, MATRICES);
    (0..pairs).step_by(at_once).map(move |first| (first, at_once.min(pairs - first)))
}

impl Shape<'_> {
    fn heads(&self, first: usize) -> kernels::HeadsLaunch {
        kernels::HeadsLaunch::new(first, self.tokens, self.heads, self.dim)
    }

    /// 1/√h
    fn scale(&self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }
}

/// Queries, keys and values of a chunk, each `[pairs, N, h]`.
struct Parts {
    q: Block,
    k: Block,
    v: Block,
}

impl Gpu {
    fn shape_of<'a>(&self, qkv: &GpuTensor, a: &Attention<'a, Self>) -> Shape<'a> {
        let (batch, tokens, width) = qkv.tokens();
        let mask = a.dropout.map(|d| (self.streams(d), threshold(d.rate), 1.0 / (1.0 - d.rate)));
        Shape {
            batch,
            tokens,
            heads: a.heads,
            dim: width / 3 / a.heads,
            streams: mask,
            q_norm: &a.q_norm.value,
            k_norm: &a.k_norm.value,
            rope: a.rope,
        }
    }

    pub(super) fn attend(
        &self,
        qkv: &GpuTensor,
        a: &Attention<'_, Self>,
    ) -> (GpuTensor, GpuTensor) {
        let s = self.shape_of(qkv, a);
        let out = self.unset(&[s.batch, s.tokens, s.heads * s.dim]);
        let lse = self.unset(&[s.batch, s.heads, s.tokens]);
        for (first, pairs) in chunks(s.batch * s.heads, s.tokens) {
            match self.half {
                None => self.attend_chunk::<f32>(qkv, &s, first, pairs, &out, &lse),
                Some(HalfKind::Bf16) => {
                    self.attend_chunk::<bf16>(qkv, &s, first, pairs, &out, &lse);
                }
                Some(HalfKind::F16) => {
                    self.attend_chunk::<f16>(qkv, &s, first, pairs, &out, &lse);
                }
            }
        }
        (out, lse)
    }

    fn attend_chunk<E: Float + Scalar>(
        &self,
        qkv: &GpuTensor,
        s: &Shape<'_>,
        first: usize,
        pairs: usize,
        out: &GpuTensor,
        lse: &GpuTensor,
    ) {
        let (n, h) = (s.tokens, s.dim);
        let parts = self.parts::<E>(qkv, s, first, pairs);
        let logits = self.logits(&parts, s, pairs);
        let weights = self.block(pairs * n * n * size_of::<E>());
        let (count, dim) = rows(pairs * n);
        let (streams, threshold, keep) = self.mask(s);
        kernels::softmax::launch::<E>(
            &self.client,
            count,
            dim,
            logits.arg(),
            streams.arg(),
            weights.arg::<E>(pairs * n * n),
            lse.arg(),
            s.heads(first),
            pairs * n,
            threshold,
            keep,
            s.streams.is_some(),
        );
        drop(logits);
        let joined = self.unset(&[pairs, n, h]);
        let a = Operand::along(Values::Own(weights), pairs * n * n, n * n);
        let b = Operand::across(Values::Own(parts.v), pairs * n * h, n * h);
        let extents = Extents { matrices: pairs, m: n, n: h, k: n };
        self.multiply(&a, &b, None, &joined, false, extents);
        let (count, dim) = each(joined.len());
        let (heads, len) = (s.heads(first), joined.len());
        kernels::join::launch(&self.client, count, dim, joined.arg(), out.arg(), heads, len);
    }

    fn parts<E: Float + Scalar>(
        &self,
        qkv: &GpuTensor,
        s: &Shape<'_>,
        first: usize,
        pairs: usize,
    ) -> Parts {
        let len = pairs * s.tokens * s.dim;
        let [q, k, v] = [(); 3].map(|()| self.block(len * size_of::<E>()));
        let (count, dim) = each(3 * pairs * s.tokens);
        kernels::split_heads::launch::<E>(
            &self.client,
            count,
            dim,
            qkv.arg(),
            s.q_norm.arg(),
            s.k_norm.arg(),
            s.rope.arg(),
            q.arg::<E>(len),
            k.arg::<E>(len),
            v.arg::<E>(len),
            s.heads(first),
            pairs * s.tokens,
            s.scale(),
        );
        Parts { q, k, v }
    }

    /// `q·kᵀ`, `[pairs, N, N]`
    fn logits(&self, parts: &Parts, s: &Shape<'_>, pairs: usize) -> GpuTensor {
        let (n, h) = (s.tokens, s.dim);
        let logits = self.unset(&[pairs, n, n]);
        let q = Operand::along(Values::Borrowed(&parts.q), pairs * n * h, n * h);
        let k = Operand::along(Values::Borrowed(&parts.k), pairs * n * h, n * h);
        let extents = Extents { matrices: pairs, m: n, n, k: h };
        self.multiply(&q, &k, None, &logits, false, extents);
        logits
    }

    fn mask<'a>(&'a self, s: &'a Shape<'_>) -> (&'a Words, u32, f32) {
        match &s.streams {
            Some((streams, threshold, keep)) => (streams, *threshold, *keep),
            None => (&self.no_words, 0, 1.0),
        }
    }

    pub(super) fn attend_grad(
        &self,
        qkv: &GpuTensor,
        a: &Attention<'_, Self>,
        out: &GpuTensor,
        lse: &GpuTensor,
        dout: &GpuTensor,
        dnorm: NormGrads<'_, GpuTensor>,
    ) -> GpuTensor {
        let s = self.shape_of(qkv, a);
        let dqkv = self.unset(&qkv.shape);
        for (first, pairs) in chunks(s.batch * s.heads, s.tokens) {
            let saved = (out, lse);
            let into = (&dqkv, &*dnorm.q_norm, &*dnorm.k_norm);
            match self.half {
                None => self.attend_grad_chunk::<f32>(qkv, &s, first, pairs, saved, dout, into),
                Some(HalfKind::Bf16) => {
                    self.attend_grad_chunk::<bf16>(qkv, &s, first, pairs, saved, dout, into);
                }
                Some(HalfKind::F16) => {
                    self.attend_grad_chunk::<f16>(qkv, &s, first, pairs, saved, dout, into);
                }
            }
        }
        dqkv
    }

    fn attend_grad_chunk<E: Float + Scalar>(
        &self,
        qkv: &GpuTensor,
        s: &Shape<'_>,
        first: usize,
        pairs: usize,
        (out, lse): (&GpuTensor, &GpuTensor),
        dout: &GpuTensor,
        (dqkv, dq_norm, dk_norm): (&GpuTensor, &GpuTensor, &GpuTensor),
    ) {
        let (c, n, h) = (&self.client, s.tokens, s.dim);
        let (len, square) = (pairs * n * h, pairs * n * n);
        let parts = self.parts::<E>(qkv, s, first, pairs);
        let d = self.block(len * size_of::<E>());
        let dot = self.unset(&[pairs, n]);
        let (count, dim) = each(pairs * n);
        let (dout, out, heads) = (dout.arg(), out.arg(), s.heads(first));
        kernels::heads_of_grad::launch::<E>(
            c,
            count,
            dim,
            dout,
            out,
            d.arg::<E>(len),
            dot.arg(),
            heads,
        );

        let logits = self.logits(&parts, s, pairs);
        let dweights = self.unset(&[pairs, n, n]);
        let to_values = Extents { matrices: pairs, m: n, n, k: h };
        let v = Operand::along(Values::Borrowed(&parts.v), len, n * h);
        let rows_of_d = Operand::along(Values::Borrowed(&d), len, n * h);
        self.multiply(&rows_of_d, &v, None, &dweights, false, to_values);

        let [weights, dlogits] = [(); 2].map(|()| self.block(square * size_of::<E>()));
        let (count, dim) = each(square);
        let (streams, threshold, keep) = self.mask(s);
        kernels::softmax_grad::launch::<E>(
            c,
            count,
            dim,
            logits.arg(),
            dweights.arg(),
            streams.arg(),
            lse.arg(),
            dot.arg(),
            weights.arg::<E>(square),
            dlogits.arg::<E>(square),
            s.heads(first),
            threshold,
            keep,
            s.streams.is_some(),
        );
        drop((logits, dweights));

        let [dq, dk, dv] = [(); 3].map(|()| self.unset(&[pairs, n, h]));
        let e = Extents { matrices: pairs, m: n, n: h, k: n };
        let across = |block| Operand::across(Values::Borrowed(block), len, n * h);
        let transposed = |block| Operand::across(Values::Borrowed(block), square, n * n);
        let plain = Operand::along(Values::Borrowed(&dlogits), square, n * n);
        self.multiply(&transposed(&weights), &across(&d), None, &dv, false, e);
        self.multiply(&plain, &across(&parts.k), None, &dq, false, e);
        self.multiply(&transposed(&dlogits), &across(&parts.q), None, &dk, false, e);

        let [dq_rows, dk_rows] = [(); 2].map(|()| self.unset(&[pairs * n, h]));
        let (count, dim) = each(3 * pairs * n);
        kernels::heads_grad::launch(
            c,
            count,
            dim,
            qkv.arg(),
            s.q_norm.arg(),
            s.k_norm.arg(),
            s.rope.arg(),
            dq.arg(),
            dk.arg(),
            dv.arg(),
            dqkv.arg(),
            dq_rows.arg(),
            dk_rows.arg(),
            s.heads(first),
            pairs * n,
            s.scale(),
        );
        self.add_column_sums(&dq_rows.block, pairs * n, h, dq_norm);
        self.add_column_sums(&dk_rows.block, pairs * n, h, dk_norm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_all_pairs_and_none_is_too_large() {
        for (pairs, tokens) in [(1, 1), (70_000, 2), (768, 256), (200_000, 17), (3, 10_000)] {
            let mut next = 0;
            for (first, count) in chunks(pairs, tokens) {
                assert_eq!(first, next);
                assert!((1..=MATRICES).contains(&count));
                assert!(count == 1 || 4 * count * tokens * tokens <= CHUNK);
                next = first + count;
            }
            assert_eq!(next, pairs);
        }
    }
}
