//! The backward pass of one head, from probabilities recomputed with the saved log-sum-exp.
//!
//! As in the forward pass a column is a query; each step below is named by its formula in the usual
//! orientation, with P the softmax, M the dropout factors and S the logits:
//!
//! ```text
//! dP = M∘(dO·Vᵀ)        dS = P∘(dP − delta),  delta = rowsum(P∘dP) = rowsum(dO∘O)
//! dV = (M∘P)ᵀ·dO        dQ = dS·K             dK = dSᵀ·Q
//! ```

use super::{
    Inputs,
    heads::{gather, norm_and_rotate, norm_and_rotate_grad},
    product::Tiles,
    softmax::{fill_keep, softmax_grad},
};
use crate::{buffer::Buffer, cpu::Level, disjoint::Disjoint, gemm::tile::MAX_NR};

/// Queries whose gradients reach dK and dV in one product: enough for the sums to stay in registers
/// for a while, few enough for their panels to stay in the second-level cache.
const QUERIES: usize = 64;

/// Computes the part of head `head` of image `image` of `dqkv` `[B, N, 3, H, h]`, and adds to
/// `dweights` `[2, h]`, the gradients of the norms' weights of queries and keys.
pub fn head_backward(
    level: Level,
    inputs: &Inputs<'_>,
    image: usize,
    head: usize,
    out: &[f32],
    lse: &[f32],
    dout: &[f32],
    dqkv: Disjoint<'_>,
    dweights: &mut [f32],
) {
    let (n, h) = (inputs.shape.tokens, inputs.shape.head_dim);
    let tiles = Tiles::of(level, inputs.precision);
    let nr = tiles.nr;
    let (padded_n, padded_h) = (n.next_multiple_of(tiles.mr), h.next_multiple_of(nr));
    let [q, k, v] =
        inputs.parts(image, head).map(|part| gather(level, part, inputs.token_stride(), n, h));
    let [out, dout] = {
        let start = inputs.out_at(image, 0, head);
        [out, dout].map(|x| gather(level, &x[start..], inputs.shape.width(), n, h))
    };

    let mut rows = Buffer::take(n * h);
    norm_and_rotate(level, &q, inputs.q_weight, inputs.rope, inputs.scale(), &mut rows);
    let (queries, queries_right) = (tiles.right_transposed(&rows, n, h), tiles.right(&rows, n, h));
    norm_and_rotate(level, &k, inputs.k_weight, inputs.rope, 1.0, &mut rows);
    let (keys, keys_transposed) = (tiles.left(&rows, n, h), tiles.left_transposed(&rows, n, h));
    let values = tiles.left(&v, n, h);
    let (douts, douts_right) = (tiles.right_transposed(&dout, n, h), tiles.right(&dout, n, h));

    let panels = (QUERIES / nr).max(1);
    let area = padded_n * nr;
    let mut weights = Buffer::take(area);
    let mut dlogits = Buffer::take(area);
    let mut weights_left = Buffer::take(panels * area);
    let mut dlogits_left = Buffer::take(panels * area);
    let mut keep = inputs.dropout.map(|_| Buffer::zeroed(n * nr));
    let mut dq_transposed = Buffer::take(h.next_multiple_of(tiles.mr) * nr);
    let mut dq_rows = Buffer::take(nr * h);
    let [mut dq, mut dk, mut dv] = [(); 3].map(|()| Buffer::take(padded_n * padded_h));
    for block in (0..n).step_by(panels * nr) {
        let depth = (panels * nr).min(n - block);
        for first in (block..block + depth).step_by(nr) {
            let count = nr.min(n - first);
            let packed = first * tiles.slots(h)..(first + nr) * tiles.slots(h);
            tiles.multiply(&keys, &queries[packed.clone()], &mut weights, nr, false);
            tiles.multiply(&values, &douts[packed], &mut dlogits, nr, false);

            let (mut panel_lse, mut delta) = ([0.0; MAX_NR], [0.0; MAX_NR]);
            panel_lse[..count].copy_from_slice(&lse[first..first + count]);
            for (i, delta) in (first..first + count).zip(&mut delta) {
                let (out, dout) = (&out[i * h..][..h], &dout[i * h..][..h]);
                *delta = out.iter().zip(dout).map(|(o, d)| o * d).sum();
            }
            if let (Some(dropout), Some(keep)) = (inputs.dropout, &mut keep) {
                fill_keep(dropout, image, head, n, first, count, keep);
            }
            let (logits, dpanel) = (&mut weights[..n * nr], &mut dlogits[..n * nr]);
            let (panel_lse, delta) = (&panel_lse[..nr], &delta[..nr]);
            softmax_grad(level, logits, dpanel, keep.as_deref(), panel_lse, delta);

            let slots = tiles.slots(depth);
            tiles.fill_left(&weights, count, first - block, slots, &mut weights_left);
            tiles.fill_left(&dlogits, count, first - block, slots, &mut dlogits_left);
            let dpanel = tiles.panel(&mut dlogits[..n * nr]);
            tiles.multiply(&keys_transposed, dpanel, &mut dq_transposed, nr, false);
            tiles.transpose(&dq_transposed, h, &mut dq_rows, h);
            for (lane, row) in dq_rows.chunks_exact(h).take(count).enumerate() {
                dq[(first + lane) * padded_h..][..h].copy_from_slice(row);
            }
        }
        let slots = tiles.slots(depth);
        let (weights, dlogits) =
            (&weights_left[..padded_n * slots], &dlogits_left[..padded_n * slots]);
        for column in (0..padded_h).step_by(nr) {
            let start = column * tiles.slots(n) + tiles.slots(block) * nr;
            let packed = start..start + slots * nr;
            let (dout, query) = (&douts_right[packed.clone()], &queries_right[packed]);
            let add = block > 0;
            tiles.multiply(weights, dout, &mut dv[column..], padded_h, add);
            tiles.multiply(dlogits, query, &mut dk[column..], padded_h, add);
        }
    }

    let (dq_weight, dk_weight) = dweights.split_at_mut(h);
    let (rope, scale) = (inputs.rope, inputs.scale());
    norm_and_rotate_grad(level, &q, inputs.q_weight, rope, scale, &mut dq, padded_h, dq_weight);
    norm_and_rotate_grad(level, &k, inputs.k_weight, rope, 1.0, &mut dk, padded_h, dk_weight);
    for (part, d) in [dq, dk, dv].into_iter().enumerate() {
        for (i, d) in d.chunks_exact(padded_h).take(n).enumerate() {
            // SAFETY: the values of one head of one token: no other task, and no other iteration.
            let to = unsafe { dqkv.part(inputs.qkv_at(image, i, part, head), h) };
            to.copy_from_slice(&d[..h]);
        }
    }
}
