//! The plain twins of the attention kernels: the formulas in f64, one whole N×N matrix per head.

use super::{AttentionDropout, AttentionShape, Rope};
use crate::rms_norm::EPS;

/// What one (image, head) pair goes through, kept for its backward pass.
struct Head {
    /// Queries and keys before and after norm and rotation, and values: each `[N, h]`.
    raw: [Vec<f64>; 3],
    query: Vec<f64>,
    key: Vec<f64>,
    /// Softmax of the logits, and the factor of each weight (0 or 1/(1−rate)): `[N, N]`.
    weights: Vec<f64>,
    keep: Vec<f64>,
    /// `[N]`
    lse: Vec<f64>,
}

/// The plain twin of [`attention`](super::attention).
pub fn attention_plain(
    qkv: &[f32],
    q_weight: &[f32],
    k_weight: &[f32],
    rope: Rope<'_>,
    shape: AttentionShape,
    dropout: Option<AttentionDropout<'_>>,
    out: &mut [f32],
    lse: &mut [f32],
) {
    let AttentionShape { batch, tokens: n, heads, head_dim: h } = shape;
    for (b, head) in (0..batch).flat_map(|b| (0..heads).map(move |head| (b, head))) {
        let state = forward(qkv, q_weight, k_weight, rope, shape, dropout, b, head);
        for i in 0..n {
            lse[(b * heads + head) * n + i] = state.lse[i] as f32;
            for c in 0..h {
                let sum: f64 = (0..n)
                    .map(|j| {
                        state.weights[i * n + j] * state.keep[i * n + j] * state.raw[2][j * h + c]
                    })
                    .sum();
                out[((b * n + i) * heads + head) * h + c] = sum as f32;
            }
        }
    }
}

/// The plain twin of [`attention_grad`](super::attention_grad): the chain rule, step by step.
pub fn attention_grad_plain(
    qkv: &[f32],
    q_weight: &[f32],
    k_weight: &[f32],
    rope: Rope<'_>,
    shape: AttentionShape,
    dropout: Option<AttentionDropout<'_>>,
    dout: &[f32],
    dqkv: &mut [f32],
    dq_weight: &mut [f32],
    dk_weight: &mut [f32],
) {
    let AttentionShape { batch, tokens: n, heads, head_dim: h } = shape;
    let scale = 1.0 / (h as f64).sqrt();
    for (b, head) in (0..batch).flat_map(|b| (0..heads).map(move |head| (b, head))) {
        let state = forward(qkv, q_weight, k_weight, rope, shape, dropout, b, head);
        let mut d = [vec![0.0; n * h], vec![0.0; n * h], vec![0.0; n * h]];
        for i in 0..n {
            let dout = |c: usize| f64::from(dout[((b * n + i) * heads + head) * h + c]);
            let dweight: Vec<f64> = (0..n)
                .map(|j| {
                    let dot: f64 = (0..h).map(|c| dout(c) * state.raw[2][j * h + c]).sum();
                    dot * state.keep[i * n + j]
                })
                .collect();
            let mean: f64 = (0..n).map(|j| state.weights[i * n + j] * dweight[j]).sum();
            for j in 0..n {
                let weight = state.weights[i * n + j];
                let dlogit = weight * (dweight[j] - mean) * scale;
                for c in 0..h {
                    d[0][i * h + c] += dlogit * state.key[j * h + c];
                    d[1][j * h + c] += dlogit * state.query[i * h + c];
                    d[2][j * h + c] += weight * state.keep[i * n + j] * dout(c);
                }
            }
        }
        let dq = rotate_and_norm_grad(&state.raw[0], q_weight, rope, &d[0], dq_weight);
        let dk = rotate_and_norm_grad(&state.raw[1], k_weight, rope, &d[1], dk_weight);
        for (part, d) in [dq, dk, d[2].clone()].into_iter().enumerate() {
            for i in 0..n {
                for c in 0..h {
                    dqkv[(((b * n + i) * 3 + part) * heads + head) * h + c] = d[i * h + c] as f32;
                }
            }
        }
    }
}

fn forward(
    qkv: &[f32],
    q_weight: &[f32],
    k_weight: &[f32],
    rope: Rope<'_>,
    shape: AttentionShape,
    dropout: Option<AttentionDropout<'_>>,
    b: usize,
    head: usize,
) -> Head {
    let AttentionShape { tokens: n, heads, head_dim: h, .. } = shape;
    let part = |part: usize| -> Vec<f64> {
        let at = |i: usize, c: usize| qkv[(((b * n + i) * 3 + part) * heads + head) * h + c];
        (0..n * h).map(|e| f64::from(at(e / h, e % h))).collect()
    };
    let raw = [part(0), part(1), part(2)];
    let query = norm_and_rotate(&raw[0], q_weight, rope);
    let key = norm_and_rotate(&raw[1], k_weight, rope);
    let mut weights = vec![0.0; n * n];
    let mut keep = vec![1.0; n * n];
    let mut lse = vec![0.0; n];
    for i in 0..n {
        for j in 0..n {
            let dot: f64 = (0..h).map(|c| query[i * h + c] * key[j * h + c]).sum();
            weights[i * n + j] = dot / (h as f64).sqrt();
            if let Some(AttentionDropout { rate, streams }) = dropout {
                let kept = streams[b].uniform(((head * n + i) * n + j) as u32) >= rate;
                keep[i * n + j] = if kept { 1.0 / (1.0 - f64::from(rate)) } else { 0.0 };
            }
        }
        let row = &mut weights[i * n..][..n];
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        lse[i] = max + row.iter().map(|l| (l - max).exp()).sum::<f64>().ln();
        row.iter_mut().for_each(|l| *l = (*l - lse[i]).exp());
    }
    Head { raw, query, key, weights, keep, lse }
}

fn inverse_rms(x: &[f64]) -> f64 {
    (x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64 + f64::from(EPS)).sqrt().recip()
}

fn norm_and_rotate(x: &[f64], weight: &[f32], rope: Rope<'_>) -> Vec<f64> {
    let h = weight.len();
    let mut out = vec![0.0; x.len()];
    for (i, x) in x.chunks_exact(h).enumerate() {
        let r = inverse_rms(x);
        let normed = |c: usize| x[c] * r * f64::from(weight[c]);
        for c in 0..h {
            let turned = if c % 2 == 0 { -normed(c + 1) } else { normed(c - 1) };
            let (cos, sin) = (f64::from(rope.cos[i * h + c]), f64::from(rope.sin[i * h + c]));
            out[i * h + c] = normed(c) * cos + turned * sin;
        }
    }
    out
}

fn rotate_and_norm_grad(
    x: &[f64],
    weight: &[f32],
    rope: Rope<'_>,
    dy: &[f64],
    dweight: &mut [f32],
) -> Vec<f64> {
    let h = weight.len();
    let mut dx = vec![0.0; x.len()];
    let mut dw = vec![0.0; h];
    for i in 0..x.len() / h {
        let (x, dy) = (&x[i * h..][..h], &dy[i * h..][..h]);
        let cos = |c: usize| f64::from(rope.cos[i * h + c]);
        let sin = |c: usize| f64::from(rope.sin[i * h + c]);
        // The transposed rotation: value c went to c with its cosine and to its partner with the
        // partner's sine.
        let dnormed: Vec<f64> = (0..h)
            .map(|c| {
                let partner =
                    if c % 2 == 0 { dy[c + 1] * sin(c + 1) } else { -dy[c - 1] * sin(c - 1) };
                dy[c] * cos(c) + partner
            })
            .collect();
        let r = inverse_rms(x);
        let dot: f64 = (0..h).map(|c| dnormed[c] * f64::from(weight[c]) * x[c] * r).sum();
        for c in 0..h {
            dw[c] += dnormed[c] * x[c] * r;
            dx[i * h + c] = r * (dnormed[c] * f64::from(weight[c]) - x[c] * r * dot / h as f64);
        }
    }
    for (total, dw) in dweight.iter_mut().zip(dw) {
        *total += dw as f32;
    }
    dx
}
