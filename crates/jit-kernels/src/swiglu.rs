//! SwiGLU (Shazeer 2020), the gate between the two linear layers of the MLP: `silu(a)·b`.

use crate::{
    cpu::{self, Level},
    lanes::{load_at, store_at},
    par,
    simd::{Simd, math::sigmoid, simd_kernel},
};

/// Rows a task handles.
const ROWS: usize = 8;
/// Rough cost of an element in scalar operations: an exponential and a division.
const OPS: usize = 16;

/// `out = silu(a)·b`: `h12` `[R, 2m]` with a in the first m columns and b in the last, `out`
/// `[R, m]`.
pub fn swiglu(h12: &[f32], rows: usize, m: usize, out: &mut [f32]) {
    swiglu_at(cpu::level(), h12, rows, m, out);
}

fn swiglu_at(level: Level, h12: &[f32], rows: usize, m: usize, out: &mut [f32]) {
    assert_eq!((h12.len(), out.len()), (rows * 2 * m, rows * m), "swiglu: bad lengths");
    par::for_each_chunk(out, ROWS * m, OPS * rows * m, |chunk, out| {
        let h12 = &h12[chunk * ROWS * 2 * m..][..2 * out.len()];
        forward(level, h12, m, out);
    });
}

/// The backward pass of [`swiglu`]; `dh12` `[R, 2m]` and `out` `[R, m]`, the output of the forward
/// pass again, are overwritten: the gate that the gradient needs gives it almost for nothing.
pub fn swiglu_grad(
    h12: &[f32],
    dout: &[f32],
    rows: usize,
    m: usize,
    dh12: &mut [f32],
    out: &mut [f32],
) {
    swiglu_grad_at(cpu::level(), h12, dout, rows, m, dh12, out);
}

fn swiglu_grad_at(
    level: Level,
    h12: &[f32],
    dout: &[f32],
    rows: usize,
    m: usize,
    dh12: &mut [f32],
    out: &mut [f32],
) {
    assert_eq!((h12.len(), dout.len()), (rows * 2 * m, rows * m), "swiglu_grad: bad inputs");
    assert_eq!((dh12.len(), out.len()), (rows * 2 * m, rows * m), "swiglu_grad: bad outputs");
    let (dh12, out) = ((dh12, ROWS * 2 * m), (out, ROWS * m));
    par::for_each_chunk2(dh12, out, OPS * rows * m, |chunk, dh12, out| {
        let h12 = &h12[chunk * ROWS * 2 * m..][..dh12.len()];
        let dout = &dout[chunk * ROWS * m..][..out.len()];
        backward(level, h12, dout, m, dh12, out);
    });
}

simd_kernel! {
    fn forward(level; h12: &[f32], m: usize, out: &mut [f32]) = forward_kernel;
    fn backward(level; h12: &[f32], dout: &[f32], m: usize, dh12: &mut [f32], out: &mut [f32])
        = backward_kernel;
}

#[inline(always)]
fn forward_kernel<S: Simd>(s: S, h12: &[f32], m: usize, out: &mut [f32]) {
    for (h, out) in h12.chunks_exact(2 * m).zip(out.chunks_exact_mut(m)) {
        let (a, b) = h.split_at(m);
        for j in (0..m).step_by(S::LANES) {
            let (va, vb) = (load_at(s, a, j), load_at(s, b, j));
            store_at(s, s.mul(s.mul(va, sigmoid(s, va)), vb), out, j);
        }
    }
}

#[inline(always)]
fn backward_kernel<S: Simd>(
    s: S,
    h12: &[f32],
    dout: &[f32],
    m: usize,
    dh12: &mut [f32],
    out: &mut [f32],
) {
    let one = s.splat(1.0);
    let inputs = h12.chunks_exact(2 * m).zip(dout.chunks_exact(m));
    let outputs = dh12.chunks_exact_mut(2 * m).zip(out.chunks_exact_mut(m));
    for ((h, dout), (dh, out)) in inputs.zip(outputs) {
        let (a, b) = h.split_at(m);
        let (da, db) = dh.split_at_mut(m);
        for j in (0..m).step_by(S::LANES) {
            let (va, vb, vd) = (load_at(s, a, j), load_at(s, b, j), load_at(s, dout, j));
            let gate = sigmoid(s, va);
            let silu = s.mul(va, gate);
            // d silu/da = σ(a)·(1 + a·(1 − σ(a)))
            let slope = s.mul(gate, s.fma(va, s.sub(one, gate), one));
            store_at(s, s.mul(s.mul(vd, vb), slope), da, j);
            store_at(s, s.mul(vd, silu), db, j);
            store_at(s, s.mul(silu, vb), out, j);
        }
    }
}

/// The plain twin of [`swiglu`].
pub fn swiglu_plain(h12: &[f32], rows: usize, m: usize, out: &mut [f32]) {
    assert_eq!((h12.len(), out.len()), (rows * 2 * m, rows * m), "swiglu: bad lengths");
    for (h, out) in h12.chunks_exact(2 * m).zip(out.chunks_exact_mut(m)) {
        for j in 0..m {
            let (a, b) = (h[j], h[m + j]);
            out[j] = a / (1.0 + (-a).exp()) * b;
        }
    }
}

/// The plain twin of [`swiglu_grad`].
pub fn swiglu_grad_plain(h12: &[f32], dout: &[f32], rows: usize, m: usize, dh12: &mut [f32]) {
    assert_eq!((h12.len(), dout.len()), (rows * 2 * m, rows * m), "swiglu_grad: bad inputs");
    assert_eq!(dh12.len(), rows * 2 * m, "swiglu_grad: bad output length");
    let inputs = h12.chunks_exact(2 * m).zip(dout.chunks_exact(m));
    for ((h, dout), dh) in inputs.zip(dh12.chunks_exact_mut(2 * m)) {
        for j in 0..m {
            let (a, b) = (h[j], h[m + j]);
            let s = 1.0 / (1.0 + (-a).exp());
            dh[j] = dout[j] * b * s * (1.0 + a * (1.0 - s));
            dh[m + j] = dout[j] * a * s;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, assert_gradient, dot, random};
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        // silu(1) = 0.731058…, silu(−2) = −0.238405…
        let mut out = [0.0; 2];
        swiglu(&[1.0, 3.0, 2.0, 4.0], 1, 2, &mut out);
        assert_close(&out, &[1.462_117_2, 11.430_889], 1e-6);
        swiglu(&[-2.0, 10.0], 1, 1, &mut out[..1]);
        assert_close(&out[..1], &[-2.384_058_4], 1e-6);
    }

    #[test]
    fn extreme_gates_neither_overflow_nor_turn_into_nan() {
        let (mut out, mut dh, mut again) = ([1.0; 2], [1.0; 4], [1.0; 2]);
        swiglu(&[-1e4, 1e4, 1.0, 1.0], 1, 2, &mut out);
        assert_eq!(out, [0.0, 1e4]);
        swiglu_grad(&[-1e4, 1e4, 1.0, 1.0], &[1.0; 2], 1, 2, &mut dh, &mut again);
        assert_eq!((dh, again), ([0.0, 1.0, 0.0, 1e4], out));
    }

    proptest! {
        #[test]
        fn the_fast_kernels_match_their_plain_twins(
            rows in 1usize..20, m in 1usize..70, seed: u64,
        ) {
            let (h12, dout) = (random(seed, rows * 2 * m), random(seed ^ 1, rows * m));
            let (mut plain, mut dplain) = (vec![0.0; rows * m], vec![0.0; rows * 2 * m]);
            swiglu_plain(&h12, rows, m, &mut plain);
            swiglu_grad_plain(&h12, &dout, rows, m, &mut dplain);
            for level in Level::all() {
                let (mut fast, mut dfast) = (vec![9.0; rows * m], vec![9.0; rows * 2 * m]);
                swiglu_at(level, &h12, rows, m, &mut fast);
                let mut again = vec![9.0; rows * m];
                swiglu_grad_at(level, &h12, &dout, rows, m, &mut dfast, &mut again);
                assert_close(&fast, &plain, 1e-6);
                assert_eq!(&again, &fast, "the same bits in both passes");
                assert_close(&dfast, &dplain, 1e-6);
            }
        }
    }

    #[test]
    fn the_gradient_is_the_derivative() {
        let (rows, m) = (3, 11);
        let (h12, dout) = (random(1, rows * 2 * m), random(2, rows * m));
        let mut dh12 = vec![9.0; h12.len()];
        let mut again = vec![0.0; dout.len()];
        swiglu_grad(&h12, &dout, rows, m, &mut dh12, &mut again);
        let f = |h12: &[f32]| {
            let mut out = vec![0.0; rows * m];
            swiglu(h12, rows, m, &mut out);
            dot(&out, &dout)
        };
        assert_gradient(f, &h12, &dh12, 2e-5);
    }
}
