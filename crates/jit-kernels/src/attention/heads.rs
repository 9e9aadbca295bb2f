//! What happens to the queries and keys of one head before they meet: RMSNorm over the h values of
//! a token, then the rotation by its position.

use super::Rope;
use crate::{
    buffer::Buffer,
    cpu::Level,
    lanes::{load_at, store_at},
    rms_norm::inverse_rms,
    simd::{MAX_LANES, Simd, simd_kernel},
};

/// Copies the `h` values of a head of every token, `stride` apart in `x`, to a matrix `[N, h]`.
pub fn gather(level: Level, x: &[f32], stride: usize, n: usize, h: usize) -> Buffer {
    let mut rows = Buffer::take(n * h);
    gather_rows(level, x, stride, h, &mut rows);
    rows
}

simd_kernel! {
    fn gather_rows(level; x: &[f32], stride: usize, h: usize, rows: &mut [f32])
        = gather_rows_kernel;

    /// `out = gain·rotate(norm(x))`, `x` and `out` `[N, h]`.
    pub fn norm_and_rotate(
        level; x: &[f32], weight: &[f32], rope: Rope<'_>, gain: f32,
        out: &mut [f32],
    ) = norm_and_rotate_kernel;

    /// The backward pass: turns the gradient of the output in `d`, N rows of h values
    /// `d_stride` apart, into that of `x`, and adds that of the weight to `dweight` `[h]`.
    pub fn norm_and_rotate_grad(
        level; x: &[f32], weight: &[f32], rope: Rope<'_>, gain: f32,
        d: &mut [f32], d_stride: usize, dweight: &mut [f32],
    ) = norm_and_rotate_grad_kernel;
}

/// Values in a cache line.
const CACHE_LINE: usize = 16;

/// The signs of sines in `rotate_half`: a vector starts at an even value.
const SIGNS: [f32; MAX_LANES] = {
    let mut signs = [1.0; MAX_LANES];
    let mut i = 0;
    while i < MAX_LANES {
        signs[i] = -1.0;
        i += 2;
    }
    signs
};

/// Tokens whose values are asked for before they are copied: far apart in memory, they are slow to
/// arrive, and no machine guesses where the next ones are.
const TOKENS_AHEAD: usize = 12;

#[inline(always)]
fn gather_rows_kernel<S: Simd>(s: S, x: &[f32], stride: usize, h: usize, rows: &mut [f32]) {
    for (i, row) in rows.chunks_exact_mut(h).enumerate() {
        for line in (0..h).step_by(CACHE_LINE) {
            s.prefetch(x.as_ptr().wrapping_add((i + TOKENS_AHEAD) * stride + line));
        }
        let values = &x[i * stride..][..h];
        for c in (0..h).step_by(S::LANES) {
            store_at(s, load_at(s, values, c), row, c);
        }
    }
}

#[inline(always)]
fn norm_and_rotate_kernel<S: Simd>(
    s: S,
    x: &[f32],
    weight: &[f32],
    rope: Rope<'_>,
    gain: f32,
    out: &mut [f32],
) {
    let h = weight.len();
    let signs = s.load(&SIGNS);
    for (i, (out, x)) in out.chunks_exact_mut(h).zip(x.chunks_exact(h)).enumerate() {
        let factor = s.splat(gain * inverse_rms(s, x));
        for c in (0..h).step_by(S::LANES) {
            let normed = s.mul(s.mul(load_at(s, x, c), factor), load_at(s, weight, c));
            store_at(s, normed, out, c);
        }
        let (cos, sin) = (&rope.cos[i * h..][..h], &rope.sin[i * h..][..h]);
        for c in (0..h).step_by(S::LANES) {
            // (x₀, x₁) to (x₀·cos₀ − x₁·sin₀, x₁·cos₁ + x₀·sin₁)
            let (x, sin) = (load_at(s, out, c), s.mul(load_at(s, sin, c), signs));
            let rotated = s.fma(s.swap_pairs(x), sin, s.mul(x, load_at(s, cos, c)));
            store_at(s, rotated, out, c);
        }
    }
}

#[inline(always)]
fn norm_and_rotate_grad_kernel<S: Simd>(
    s: S,
    x: &[f32],
    weight: &[f32],
    rope: Rope<'_>,
    gain: f32,
    d: &mut [f32],
    d_stride: usize,
    dweight: &mut [f32],
) {
    let h = weight.len();
    let (vgain, signs) = (s.splat(gain), s.load(&SIGNS));
    for (i, x) in x.chunks_exact(h).enumerate() {
        let d = &mut d[i * d_stride..][..h];
        // The transposed rotation.
        let (cos, sin) = (&rope.cos[i * h..][..h], &rope.sin[i * h..][..h]);
        for c in (0..h).step_by(S::LANES) {
            // (d₀, d₁) to (d₀·cos₀ + d₁·sin₁, d₁·cos₁ − d₀·sin₀)
            let (v, sin) = (load_at(s, d, c), s.mul(load_at(s, sin, c), signs));
            let rotated = s.fma(s.swap_pairs(v), s.swap_pairs(sin), s.mul(v, load_at(s, cos, c)));
            store_at(s, rotated, d, c);
        }
        // With u = x·r: du = gain·weight·d, and dx = r·(du − u·mean(u·du)).
        let r = inverse_rms(s, x);
        let vr = s.splat(r);
        let mut dot = s.splat(0.0);
        for c in (0..h).step_by(S::LANES) {
            let u = s.mul(load_at(s, x, c), vr);
            let vd = s.mul(load_at(s, d, c), vgain);
            store_at(s, s.fma(vd, u, load_at(s, dweight, c)), dweight, c);
            let du = s.mul(vd, load_at(s, weight, c));
            store_at(s, du, d, c);
            dot = s.fma(du, u, dot);
        }
        let minus_mean = s.splat(-s.sum(dot) / h as f32);
        for c in (0..h).step_by(S::LANES) {
            let u = s.mul(load_at(s, x, c), vr);
            let dx = s.mul(vr, s.fma(u, minus_mean, load_at(s, d, c)));
            store_at(s, dx, d, c);
        }
    }
}
