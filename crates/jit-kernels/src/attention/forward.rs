//! The forward pass of one head.
//!
//! Everything is transposed, a column per query: `K·Qᵀ` gives the logits of a panel of NR queries
//! as `[N, NR]`, whose softmax is the right operand of `Vᵀ·P`, their outputs as `[h, NR]`.

use super::{
    Inputs,
    heads::{gather, norm_and_rotate},
    product::Tiles,
    softmax::{fill_keep, softmax},
};
use crate::{buffer::Buffer, cpu::Level, disjoint::Disjoint, gemm::tile::MAX_NR};

/// Computes head `head` of image `image` into its parts of `out` `[B, N, H, h]` and `lse`
/// `[B, H, N]`.
pub fn head_forward(
    level: Level,
    inputs: &Inputs<'_>,
    image: usize,
    head: usize,
    out: Disjoint<'_>,
    lse: &mut [f32],
) {
    let (n, h) = (inputs.shape.tokens, inputs.shape.head_dim);
    let tiles = Tiles::of(level, inputs.precision);
    let nr = tiles.nr;
    let [q, k, v] =
        inputs.parts(image, head).map(|part| gather(level, part, inputs.token_stride(), n, h));

    let mut rows = Buffer::take(n * h);
    norm_and_rotate(level, &q, inputs.q_weight, inputs.rope, inputs.scale(), &mut rows);
    let queries = tiles.right_transposed(&rows, n, h);
    norm_and_rotate(level, &k, inputs.k_weight, inputs.rope, 1.0, &mut rows);
    let keys = tiles.left(&rows, n, h);
    let values = tiles.left_transposed(&v, n, h);

    let mut weights = Buffer::take(n.next_multiple_of(tiles.mr) * nr);
    let mut result = Buffer::take(h.next_multiple_of(tiles.mr) * nr);
    let mut outputs = Buffer::take(nr * h);
    let mut keep = inputs.dropout.map(|_| Buffer::zeroed(n * nr));
    let (mut inverse_sums, mut panel_lse) = ([0.0; MAX_NR], [0.0; MAX_NR]);
    for (panel, queries) in queries.chunks_exact(tiles.slots(h) * nr).enumerate() {
        let first = panel * nr;
        let count = nr.min(n - first);
        tiles.multiply(&keys, queries, &mut weights, nr, false);
        let weights = &mut weights[..n * nr];
        softmax(level, weights, &mut inverse_sums[..nr], &mut panel_lse[..nr]);
        lse[first..first + count].copy_from_slice(&panel_lse[..count]);
        if let (Some(dropout), Some(keep)) = (inputs.dropout, &mut keep) {
            fill_keep(dropout, image, head, n, first, count, keep);
            for (weight, keep) in weights.iter_mut().zip(keep.iter()) {
                *weight *= keep;
            }
        }
        tiles.multiply(&values, tiles.panel(weights), &mut result, nr, false);
        tiles.transpose(&result, h, &mut outputs, h);
        for (lane, inverse) in inverse_sums[..count].iter().enumerate() {
            // SAFETY: the values of one head of one token: no other task, and no other iteration.
            let out = unsafe { out.part(inputs.out_at(image, first + lane, head), h) };
            for (o, value) in out.iter_mut().zip(&outputs[lane * h..]) {
                *o = value * inverse;
            }
        }
    }
}
