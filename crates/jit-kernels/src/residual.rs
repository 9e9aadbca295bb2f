//! The gated residual connection of adaLN-Zero: `out = x + gate_b · y`, one gate vector per image.

use rayon::prelude::*;

/// `out = x + gate_b · y` for `x`, `y`, `out` `[B, N, D]`; the gate of image b is the D values at
/// `gate[b·stride + offset]`.
pub fn gated_residual(
    x: &[f32],
    y: &[f32],
    gate: &[f32],
    stride: usize,
    offset: usize,
    b: usize,
    n: usize,
    d: usize,
    out: &mut [f32],
) {
    assert_eq!((x.len(), y.len(), out.len()), (b * n * d, b * n * d, b * n * d), "gated_residual");
    check_gate(gate.len(), stride, offset, b, d);
    let inputs = x.par_chunks(d).zip(y.par_chunks(d));
    out.par_chunks_mut(d).zip(inputs).enumerate().with_min_len(16).for_each(
        |(row, (out, (x, y)))| {
            let gate = &gate[row / n * stride + offset..][..d];
            for (((o, x), y), g) in out.iter_mut().zip(x).zip(y).zip(gate) {
                *o = x + g * y;
            }
        },
    );
}

/// The backward pass of [`gated_residual`]: overwrites `dy` with `gate_b · dout` and adds
/// `Σ_n dout · y` to `dgate` `[B, stride]` at `offset`. The gradient of `x` is `dout` itself.
pub fn gated_residual_grad(
    y: &[f32],
    gate: &[f32],
    stride: usize,
    offset: usize,
    dout: &[f32],
    b: usize,
    n: usize,
    d: usize,
    dy: &mut [f32],
    dgate: &mut [f32],
) {
    let len = b * n * d;
    assert_eq!((y.len(), dout.len(), dy.len()), (len, len, len), "gated_residual_grad");
    check_gate(gate.len(), stride, offset, b, d);
    check_gate(dgate.len(), stride, offset, b, d);
    let images = y.par_chunks(n * d).zip(dout.par_chunks(n * d));
    let outputs = dy.par_chunks_mut(n * d).zip(dgate.par_chunks_mut(stride));
    outputs.zip(images).zip(gate.par_chunks(stride)).for_each(
        |(((dy, dgate), (y, dout)), gate)| {
            let (gate, dgate) = (&gate[offset..][..d], &mut dgate[offset..][..d]);
            let rows = y.chunks_exact(d).zip(dout.chunks_exact(d));
            for (dy, (y, dout)) in dy.chunks_exact_mut(d).zip(rows) {
                for ((dy, dout), g) in dy.iter_mut().zip(dout).zip(gate) {
                    *dy = g * dout;
                }
                for ((dg, y), dout) in dgate.iter_mut().zip(y).zip(dout) {
                    *dg += dout * y;
                }
            }
        },
    );
}

fn check_gate(len: usize, stride: usize, offset: usize, b: usize, d: usize) {
    assert_eq!(len, b * stride, "gated_residual: the gate tensor is not [B, stride]");
    assert!(offset + d <= stride, "gated_residual: the gate vector overruns its row");
}
