//! Pointwise non-linearities: SiLU, and GELU in its exact form (with the error function).

use crate::{
    cpu::{self, Level},
    lanes::{load_at, store_at},
    par,
    simd::{
        Simd,
        math::{erf, exp, sigmoid},
        simd_kernel,
    },
};

/// Elements a task handles.
const CHUNK: usize = 1 << 13;
/// Rough cost of an element in scalar operations.
const OPS: usize = 16;

/// `y = x·sigmoid(x)`.
pub fn silu(x: &[f32], y: &mut [f32]) {
    map(cpu::level(), silu_chunk, x, y);
}

/// The backward pass of [`silu`]; `dx` is overwritten.
pub fn silu_grad(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    map_grad(cpu::level(), silu_grad_chunk, x, dy, dx);
}

/// `y = x·Φ(x)`, Φ the standard normal distribution function.
pub fn gelu(x: &[f32], y: &mut [f32]) {
    map(cpu::level(), gelu_chunk, x, y);
}

/// The backward pass of [`gelu`]; `dx` is overwritten.
pub fn gelu_grad(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    map_grad(cpu::level(), gelu_grad_chunk, x, dy, dx);
}

fn map(level: Level, f: fn(Level, &[f32], &mut [f32]), x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "activation: lengths differ");
    par::for_each_chunk(y, CHUNK, OPS * x.len(), |chunk, y| {
        f(level, &x[chunk * CHUNK..][..y.len()], y);
    });
}

fn map_grad(
    level: Level,
    f: fn(Level, &[f32], &[f32], &mut [f32]),
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
) {
    assert_eq!((dy.len(), dx.len()), (x.len(), x.len()), "activation gradient: lengths differ");
    par::for_each_chunk(dx, CHUNK, OPS * x.len(), |chunk, dx| {
        let here = chunk * CHUNK..chunk * CHUNK + dx.len();
        f(level, &x[here.clone()], &dy[here], dx);
    });
}

simd_kernel! {
    fn silu_chunk(level; x: &[f32], y: &mut [f32]) = silu_kernel;
    fn silu_grad_chunk(level; x: &[f32], dy: &[f32], dx: &mut [f32]) = silu_grad_kernel;
    fn gelu_chunk(level; x: &[f32], y: &mut [f32]) = gelu_kernel;
    fn gelu_grad_chunk(level; x: &[f32], dy: &[f32], dx: &mut [f32]) = gelu_grad_kernel;
}

#[inline(always)]
fn silu_kernel<S: Simd>(s: S, x: &[f32], y: &mut [f32]) {
    for j in (0..x.len()).step_by(S::LANES) {
        let v = load_at(s, x, j);
        store_at(s, s.mul(v, sigmoid(s, v)), y, j);
    }
}

#[inline(always)]
fn silu_grad_kernel<S: Simd>(s: S, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    let one = s.splat(1.0);
    for j in (0..x.len()).step_by(S::LANES) {
        let v = load_at(s, x, j);
        let gate = sigmoid(s, v);
        let slope = s.mul(gate, s.fma(v, s.sub(one, gate), one));
        store_at(s, s.mul(load_at(s, dy, j), slope), dx, j);
    }
}

/// Φ(x) = (1 + erf(x/√2))/2
#[inline(always)]
fn normal_cdf_vector<S: Simd>(s: S, x: S::V) -> S::V {
    let half = s.splat(0.5);
    s.fma(half, erf(s, s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2))), half)
}

#[inline(always)]
fn gelu_kernel<S: Simd>(s: S, x: &[f32], y: &mut [f32]) {
    for j in (0..x.len()).step_by(S::LANES) {
        let v = load_at(s, x, j);
        store_at(s, s.mul(v, normal_cdf_vector(s, v)), y, j);
    }
}

#[inline(always)]
fn gelu_grad_kernel<S: Simd>(s: S, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    // 1/√2π
    let norm = s.splat(0.398_942_3);
    for j in (0..x.len()).step_by(S::LANES) {
        let v = load_at(s, x, j);
        let density = s.mul(norm, exp(s, s.mul(s.mul(v, v), s.splat(-0.5))));
        let slope = s.fma(v, density, normal_cdf_vector(s, v));
        store_at(s, s.mul(load_at(s, dy, j), slope), dx, j);
    }
}

/// The plain twin of [`silu`].
pub fn silu_plain(x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "silu: lengths differ");
    for (y, x) in y.iter_mut().zip(x) {
        *y = x / (1.0 + (-x).exp());
    }
}

/// The plain twin of [`silu_grad`].
pub fn silu_grad_plain(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert_eq!((dy.len(), dx.len()), (x.len(), x.len()), "silu_grad: lengths differ");
    for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
        let s = 1.0 / (1.0 + (-x).exp());
        *dx = dy * s * (1.0 + x * (1.0 - s));
    }
}

/// The plain twin of [`gelu`].
pub fn gelu_plain(x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "gelu: lengths differ");
    for (y, &x) in y.iter_mut().zip(x) {
        *y = (f64::from(x) * normal_cdf(f64::from(x))) as f32;
    }
}

/// The plain twin of [`gelu_grad`].
pub fn gelu_grad_plain(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert_eq!((dy.len(), dx.len()), (x.len(), x.len()), "gelu_grad: lengths differ");
    for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
        let x = f64::from(x);
        let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
        *dx = (f64::from(dy) * (normal_cdf(x) + x * density)) as f32;
    }
}

/// Φ(x) to about 1e-15: the series of erf near zero, where it converges fast, and the continued
/// fraction of erfc elsewhere (Abramowitz & Stegun 7.1.6 and 7.1.14).
fn normal_cdf(x: f64) -> f64 {
    let z = x.abs() / std::f64::consts::SQRT_2;
    let upper = if z < 2.5 {
        let (mut term, mut sum) = (z, z);
        for n in 1..100 {
            term *= 2.0 * z * z / (2 * n + 1) as f64;
            sum += term;
        }
        0.5 - (-z * z).exp() / std::f64::consts::PI.sqrt() * sum
    } else {
        let fraction = (1..100).rev().fold(z, |f, k| z + 0.5 * k as f64 / f);
        0.5 * (-z * z).exp() / (std::f64::consts::PI.sqrt() * fraction)
    };
    if x > 0.0 { 1.0 - upper } else { upper }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, assert_gradient, dot, random};
    use proptest::prelude::*;

    type Forward = fn(&[f32], &mut [f32]);
    type Backward = fn(&[f32], &[f32], &mut [f32]);

    #[test]
    fn the_plain_twins_match_tabulated_values() {
        // Φ(0.5), Φ(1.96), Φ(−4): standard tables.
        for (x, phi) in [(0.5, 0.691_462_461), (1.96, 0.975_002_105), (-4.0, 3.167_124e-5)] {
            assert!((normal_cdf(x) - phi).abs() < 1e-9, "Φ({x}) = {}", normal_cdf(x));
        }
        let mut y = [0.0; 2];
        silu_plain(&[1.0, -2.0], &mut y);
        assert_close(&y, &[0.731_058_6, -0.238_405_84], 1e-6);
    }

    proptest! {
        #[test]
        fn the_fast_kernels_match_their_plain_twins(len in 1usize..300, seed: u64) {
            let x: Vec<f32> = random(seed, len).iter().map(|v| 3.0 * v).collect();
            let dy = random(seed ^ 1, len);
            let (mut plain, mut fast) = (vec![0.0; len], vec![9.0; len]);
            for level in Level::all() {
                silu_plain(&x, &mut plain);
                map(level, silu_chunk, &x, &mut fast);
                assert_close(&fast, &plain, 1e-6);
                gelu_plain(&x, &mut plain);
                map(level, gelu_chunk, &x, &mut fast);
                assert_close(&fast, &plain, 1e-6);
                silu_grad_plain(&x, &dy, &mut plain);
                map_grad(level, silu_grad_chunk, &x, &dy, &mut fast);
                assert_close(&fast, &plain, 1e-6);
                gelu_grad_plain(&x, &dy, &mut plain);
                map_grad(level, gelu_grad_chunk, &x, &dy, &mut fast);
                assert_close(&fast, &plain, 1e-6);
            }
        }
    }

    #[test]
    fn the_gradients_are_the_derivatives() {
        let (x, dy) = (random(1, 37), random(2, 37));
        let pairs: [(Forward, Backward); 2] = [(silu, silu_grad), (gelu, gelu_grad)];
        for (forward, backward) in pairs {
            let mut dx = vec![9.0; x.len()];
            backward(&x, &dy, &mut dx);
            let f = |x: &[f32]| {
                let mut y = vec![0.0; x.len()];
                forward(x, &mut y);
                dot(&y, &dy)
            };
            assert_gradient(f, &x, &dx, 2e-5);
        }
    }

    #[test]
    fn chunks_join_without_a_seam() {
        let x = random(1, 2 * CHUNK + 5);
        let (mut plain, mut fast) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        silu_plain(&x, &mut plain);
        silu(&x, &mut fast);
        assert_close(&fast, &plain, 1e-6);
    }
}
