//! Softmax over the rows of `[N, NR]`: one column per query, so that all sums run along the
//! vectors' lanes and none across.

use super::AttentionDropout;
use crate::{
    dropout::keep_scales,
    lanes::{load_at, store_at},
    simd::{Simd, math::exp, simd_kernel},
};

simd_kernel! {
    /// Replaces logits by `exp(logit − max)`, not yet divided by their sum: `panel` `[N, NR]`.
    /// Writes the inverse of each column's sum, and its log-sum-exp: `[NR]`.
    pub fn softmax(
        level; panel: &mut [f32], inverse_sums: &mut [f32], lse: &mut [f32],
    ) = softmax_kernel;

    /// The backward pass, all panels `[N, NR]`: replaces the logits by the weights of the values
    /// (softmax times `keep`), and `dweights`, the gradient of those weights, by that of the
    /// logits. `lse` and `delta = Σ_j weight·dweight` are `[NR]`.
    pub fn softmax_grad(
        level; logits: &mut [f32], dweights: &mut [f32], keep: Option<&[f32]>, lse: &[f32],
        delta: &[f32],
    ) = softmax_grad_kernel;
}

#[inline(always)]
fn softmax_kernel<S: Simd>(s: S, panel: &mut [f32], inverse_sums: &mut [f32], lse: &mut [f32]) {
    let nr = lse.len();
    for lane in (0..nr).step_by(S::LANES) {
        let mut max = s.splat(f32::NEG_INFINITY);
        for row in panel.chunks_exact(nr) {
            max = s.max(max, s.load(&row[lane..]));
        }
        let mut sum = s.splat(0.0);
        for row in panel.chunks_exact_mut(nr) {
            let weight = exp(s, s.sub(s.load(&row[lane..]), max));
            s.store(weight, &mut row[lane..]);
            sum = s.add(sum, weight);
        }
        store_at(s, s.div(s.splat(1.0), sum), inverse_sums, lane);
        store_at(s, max, lse, lane);
    }
    for (lse, inverse) in lse.iter_mut().zip(inverse_sums) {
        *lse -= inverse.ln();
    }
}

#[inline(always)]
fn softmax_grad_kernel<S: Simd>(
    s: S,
    logits: &mut [f32],
    dweights: &mut [f32],
    keep: Option<&[f32]>,
    lse: &[f32],
    delta: &[f32],
) {
    let nr = lse.len();
    for lane in (0..nr).step_by(S::LANES) {
        let (vlse, vdelta) = (load_at(s, lse, lane), load_at(s, delta, lane));
        let rows = logits.chunks_exact_mut(nr).zip(dweights.chunks_exact_mut(nr));
        for (j, (logits, dweights)) in rows.enumerate() {
            let softmax = exp(s, s.sub(s.load(&logits[lane..]), vlse));
            let mut weight = softmax;
            let mut dsoftmax = s.load(&dweights[lane..]);
            if let Some(keep) = keep {
                let keep = s.load(&keep[j * nr + lane..]);
                weight = s.mul(weight, keep);
                dsoftmax = s.mul(dsoftmax, keep);
            }
            s.store(weight, &mut logits[lane..]);
            s.store(s.mul(softmax, s.sub(dsoftmax, vdelta)), &mut dweights[lane..]);
        }
    }
}

/// Writes the dropout factors of the queries `first..first + queries` of a head as a panel
/// `[N, NR]`; columns beyond the queries are left as they are.
pub fn fill_keep(
    dropout: AttentionDropout<'_>,
    image: usize,
    head: usize,
    n: usize,
    first: usize,
    queries: usize,
    keep: &mut [f32],
) {
    let nr = keep.len() / n;
    let mut row = vec![0.0; n];
    for lane in 0..queries {
        let index = (head * n + first + lane) * n;
        keep_scales(&dropout.streams[image], dropout.rate, index as u32, &mut row);
        for (to, value) in keep.chunks_exact_mut(nr).zip(&row) {
            to[lane] = *value;
        }
    }
}
