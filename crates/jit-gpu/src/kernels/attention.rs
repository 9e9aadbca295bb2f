//! What surrounds the products of an attention. All of it works on `pairs` consecutive (image, head)
//! pairs from `first` on, so that the N×N matrices of only so many exist at a time.

use cubecl::prelude::*;

use super::philox::keep_scale;
use super::reduce::{cube_max, cube_sum};

/// Added to the mean square of the per-head norms before its root.
const EPS: f32 = 1e-6;

/// The shape of an attention, and which of its pairs are meant.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct Heads {
    /// First pair, `image·H + head`.
    pub first: usize,
    /// Tokens N.
    pub tokens: usize,
    /// Heads H.
    pub heads: usize,
    /// Values h of a head.
    pub dim: usize,
}

/// Where the values of `part` (0 queries, 1 keys, 2 values) of a row of the pairs start in qkv
/// `[B, N, 3, H, h]`.
#[cube]
fn qkv_at(row: usize, part: usize, a: &Heads) -> usize {
    let pair = a.first + row / a.tokens;
    let (image, head) = (pair / a.heads, pair % a.heads);
    (((image * a.tokens + row % a.tokens) * 3 + part) * a.heads + head) * a.dim
}

/// Where a row of the pairs starts in a tensor `[B, N, H, h]`.
#[cube]
fn out_at(row: usize, a: &Heads) -> usize {
    let pair = a.first + row / a.tokens;
    let (image, head) = (pair / a.heads, pair % a.heads);
    ((image * a.tokens + row % a.tokens) * a.heads + head) * a.dim
}

#[cube]
fn inverse_rms(x: &Tensor<f32>, at: usize, dim: usize) -> f32 {
    let mut squares = 0.0f32;
    for c in 0..dim {
        let v = x[at + c];
        squares += v * v;
    }
    1.0f32 / f32::sqrt(squares / dim as f32 + EPS)
}

/// One unit a row of one part: queries and keys normed, rotated (and the queries scaled), values
/// copied, each to `[pairs, N, h]`. The rotary table holds the cosines, then the sines.
#[cube(launch)]
pub fn split_heads<E: Float>(
    qkv: &Tensor<f32>,
    q_weight: &Tensor<f32>,
    k_weight: &Tensor<f32>,
    rope: &Tensor<f32>,
    q: &mut Tensor<E>,
    k: &mut Tensor<E>,
    v: &mut Tensor<E>,
    a: Heads,
    rows: usize,
    scale: f32,
) {
    if ABSOLUTE_POS < 3 * rows {
        let (row, part) = (ABSOLUTE_POS / 3, ABSOLUTE_POS % 3);
        let from = qkv_at(row, part, &a);
        let to = row * a.dim;
        if part == 2 {
            for c in 0..a.dim {
                v[to + c] = E::cast_from(qkv[from + c]);
            }
        } else {
            let r = inverse_rms(qkv, from, a.dim);
            let angles = row % a.tokens * a.dim;
            let sines = a.tokens * a.dim;
            for pair in 0..a.dim / 2 {
                let c = 2 * pair;
                let (cos0, sin0) = (rope[angles + c], rope[sines + angles + c]);
                let (cos1, sin1) = (rope[angles + c + 1], rope[sines + angles + c + 1]);
                if part == 0 {
                    let x0 = qkv[from + c] * r * q_weight[c] * scale;
                    let x1 = qkv[from + c + 1] * r * q_weight[c + 1] * scale;
                    q[to + c] = E::cast_from(x0 * cos0 - x1 * sin0);
                    q[to + c + 1] = E::cast_from(x1 * cos1 + x0 * sin1);
                } else {
                    let x0 = qkv[from + c] * r * k_weight[c];
                    let x1 = qkv[from + c + 1] * r * k_weight[c + 1];
                    k[to + c] = E::cast_from(x0 * cos0 - x1 * sin0);
                    k[to + c + 1] = E::cast_from(x1 * cos1 + x0 * sin1);
                }
            }
        }
    }
}

/// One cube a row of logits `[pairs, N, N]`: their softmax, with dropout, to `weights`, and the
/// logarithm of the sum of their exponentials to lse `[B, H, N]`.
#[cube(launch)]
pub fn softmax<E: Float>(
    logits: &Tensor<f32>,
    streams: &Tensor<u32>,
    weights: &mut Tensor<E>,
    lse: &mut Tensor<f32>,
    a: Heads,
    rows: usize,
    threshold: u32,
    keep: f32,
    #[comptime] dropout: bool,
) {
    if CUBE_POS >= rows {
        terminate!();
    }
    let mut scratch = Shared::<[f32]>::new_slice(128usize);
    let at = CUBE_POS * a.tokens;
    let mut largest = logits[at];
    for j in range_stepped(UNIT_POS as usize, a.tokens, 128usize) {
        largest = f32::max(largest, logits[at + j]);
    }
    let largest = cube_max(largest, &mut scratch);
    let mut sum = 0.0f32;
    for j in range_stepped(UNIT_POS as usize, a.tokens, 128usize) {
        sum += f32::exp(logits[at + j] - largest);
    }
    let sum = cube_sum(sum, &mut scratch);
    for j in range_stepped(UNIT_POS as usize, a.tokens, 128usize) {
        let mut weight = f32::exp(logits[at + j] - largest) / sum;
        if comptime!(dropout) {
            weight *= keep_of(streams, &a, CUBE_POS, j, threshold, keep);
        }
        weights[at + j] = E::cast_from(weight);
    }
    if UNIT_POS == 0 {
        lse[a.first * a.tokens + CUBE_POS] = largest + f32::ln(sum);
    }
}

/// The factor of the weight of key `j` in a row of the pairs: element (head·N + i)·N + j of its
/// image's stream.
#[cube]
fn keep_of(
    streams: &Tensor<u32>,
    a: &Heads,
    row: usize,
    j: usize,
    threshold: u32,
    keep: f32,
) -> f32 {
    let pair = a.first + row / a.tokens;
    let (image, head) = (pair / a.heads, pair % a.heads);
    let index = (head * a.tokens + row % a.tokens) * a.tokens + j;
    keep_scale(streams, image, index as u32, threshold, keep)
}

/// One unit a value: x `[pairs, N, h]` to its place in out `[B, N, H, h]`.
#[cube(launch)]
pub fn join(x: &Tensor<f32>, out: &mut Tensor<f32>, a: Heads, count: usize) {
    if ABSOLUTE_POS < count {
        out[out_at(ABSOLUTE_POS / a.dim, &a) + ABSOLUTE_POS % a.dim] = x[ABSOLUTE_POS];
    }
}

/// One unit a row: the output's gradient to `[pairs, N, h]`, and its product with the output,
/// `Σ_c dout·out`, to `[pairs, N]`.
#[cube(launch)]
pub fn heads_of_grad<E: Float>(
    dout: &Tensor<f32>,
    out: &Tensor<f32>,
    d: &mut Tensor<E>,
    dot: &mut Tensor<f32>,
    a: Heads,
) {
    if ABSOLUTE_POS < dot.len() {
        let from = out_at(ABSOLUTE_POS, &a);
        let mut sum = 0.0f32;
        for c in 0..a.dim {
            let g = dout[from + c];
            sum += g * out[from + c];
            d[ABSOLUTE_POS * a.dim + c] = E::cast_from(g);
        }
        dot[ABSOLUTE_POS] = sum;
    }
}

/// One unit a logit: from the logits and `dout·vᵀ`, both `[pairs, N, N]`, the weights again (with
/// dropout) and the logits' gradient `p·(dweight·keep − dot)`.
#[cube(launch)]
pub fn softmax_grad<E: Float>(
    logits: &Tensor<f32>,
    dweights: &Tensor<f32>,
    streams: &Tensor<u32>,
    lse: &Tensor<f32>,
    dot: &Tensor<f32>,
    weights: &mut Tensor<E>,
    dlogits: &mut Tensor<E>,
    a: Heads,
    threshold: u32,
    keep: f32,
    #[comptime] dropout: bool,
) {
    if ABSOLUTE_POS < weights.len() {
        let row = ABSOLUTE_POS / a.tokens;
        let p = f32::exp(logits[ABSOLUTE_POS] - lse[a.first * a.tokens + row]);
        let mut factor = 1.0f32;
        if comptime!(dropout) {
            factor = keep_of(streams, &a, row, ABSOLUTE_POS % a.tokens, threshold, keep);
        }
        weights[ABSOLUTE_POS] = E::cast_from(p * factor);
        dlogits[ABSOLUTE_POS] = E::cast_from(p * (dweights[ABSOLUTE_POS] * factor - dot[row]));
    }
}

/// One unit a row of one part: the way back through rotation and norm. dq, dk, dv `[pairs, N, h]` to
/// dqkv; what the row adds to the gradients of the two norms' weights, each `[pairs·N, h]`.
#[cube(launch)]
pub fn heads_grad(
    qkv: &Tensor<f32>,
    q_weight: &Tensor<f32>,
    k_weight: &Tensor<f32>,
    rope: &Tensor<f32>,
    dq: &Tensor<f32>,
    dk: &Tensor<f32>,
    dv: &Tensor<f32>,
    dqkv: &mut Tensor<f32>,
    dq_weight: &mut Tensor<f32>,
    dk_weight: &mut Tensor<f32>,
    a: Heads,
    rows: usize,
    scale: f32,
) {
    if ABSOLUTE_POS < 3 * rows {
        let (row, part) = (ABSOLUTE_POS / 3, ABSOLUTE_POS % 3);
        let to = qkv_at(row, part, &a);
        let from = row * a.dim;
        if part == 2 {
            for c in 0..a.dim {
                dqkv[to + c] = dv[from + c];
            }
        } else if part == 0 {
            unnorm(qkv, q_weight, rope, dq, dqkv, dq_weight, &a, row, to, scale);
        } else {
            unnorm(qkv, k_weight, rope, dk, dqkv, dk_weight, &a, row, to, 1.0f32);
        }
    }
}

/// One row back through rotation and norm. The turned gradient is kept in the row of `dweight` until
/// its product with the input is known.
#[cube]
fn unnorm(
    x: &Tensor<f32>,
    weight: &Tensor<f32>,
    rope: &Tensor<f32>,
    d: &Tensor<f32>,
    dx: &mut Tensor<f32>,
    dweight: &mut Tensor<f32>,
    a: &Heads,
    row: usize,
    at: usize,
    scale: f32,
) {
    let r = inverse_rms(x, at, a.dim);
    let from = row * a.dim;
    let angles = row % a.tokens * a.dim;
    let sines = a.tokens * a.dim;
    let mut dot = 0.0f32;
    for pair in 0..a.dim / 2 {
        let c = 2 * pair;
        // The transposed rotation.
        let (d0, d1) = (d[from + c] * scale, d[from + c + 1] * scale);
        let n0 = d0 * rope[angles + c] + d1 * rope[sines + angles + c + 1];
        let n1 = d1 * rope[angles + c + 1] - d0 * rope[sines + angles + c];
        dot += n0 * weight[c] * x[at + c] + n1 * weight[c + 1] * x[at + c + 1];
        dweight[from + c] = n0;
        dweight[from + c + 1] = n1;
    }
    let dot = dot * r * r / a.dim as f32;
    for c in 0..a.dim {
        let n = dweight[from + c];
        dx[at + c] = r * (n * weight[c] - x[at + c] * dot);
        dweight[from + c] = n * x[at + c] * r;
    }
}
