//! SwiGLU (Shazeer 2020), the gate between the two linear layers of the MLP: `silu(a)·b`.

/// `out = silu(a)·b`: `h12` `[R, 2m]` with a in the first m columns and b in the last, `out`
/// `[R, m]`.
pub fn swiglu(h12: &[f32], rows: usize, m: usize, out: &mut [f32]) {
    swiglu_plain(h12, rows, m, out);
}

/// The backward pass of [`swiglu`]; `dh12` `[R, 2m]` is overwritten.
pub fn swiglu_grad(h12: &[f32], dout: &[f32], rows: usize, m: usize, dh12: &mut [f32]) {
    swiglu_grad_plain(h12, dout, rows, m, dh12);
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
    assert_eq!((h12.len(), dout.len()), (rows * 2 * m, rows * m), "swiglu_grad: bad lengths");
    assert_eq!(dh12.len(), rows * 2 * m, "swiglu_grad: bad lengths");
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
