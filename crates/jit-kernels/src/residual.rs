//! The gated residual connection of adaLN-Zero: `out = x + gate_b · y`, one gate vector per image.

use crate::par;

/// Rows a task handles.
const ROWS: usize = 16;

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
    par::for_each_chunk(out, ROWS * d, b * n * d, |chunk, out| {
        for (i, out) in out.chunks_exact_mut(d).enumerate() {
            let row = chunk * ROWS + i;
            let gate = &gate[row / n * stride + offset..][..d];
            let (x, y) = (&x[row * d..][..d], &y[row * d..][..d]);
            for (((o, x), y), g) in out.iter_mut().zip(x).zip(y).zip(gate) {
                *o = x + g * y;
            }
        }
    });
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
    par::for_each_chunk2((dy, n * d), (dgate, stride), b * n * d, |image, dy, dgate| {
        let here = image * n * d..(image + 1) * n * d;
        let rows = y[here.clone()].chunks_exact(d).zip(dout[here].chunks_exact(d));
        let gate = &gate[image * stride + offset..][..d];
        let dgate = &mut dgate[offset..][..d];
        for (dy, (y, dout)) in dy.chunks_exact_mut(d).zip(rows) {
            for ((dy, dout), g) in dy.iter_mut().zip(dout).zip(gate) {
                *dy = g * dout;
            }
            for ((dg, y), dout) in dgate.iter_mut().zip(y).zip(dout) {
                *dg += dout * y;
            }
        }
    });
}

fn check_gate(len: usize, stride: usize, offset: usize, b: usize, d: usize) {
    assert_eq!(len, b * stride, "gated_residual: the gate tensor is not [B, stride]");
    assert!(offset + d <= stride, "gated_residual: the gate vector overruns its row");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_gradient, dot, on_one_and_two_threads, random};

    const B: usize = 2;
    const N: usize = 19;
    const D: usize = 5;
    const STRIDE: usize = 13;
    const OFFSET: usize = 7;

    fn forward(x: &[f32], y: &[f32], gate: &[f32]) -> Vec<f32> {
        let mut out = vec![9.0; B * N * D];
        gated_residual(x, y, gate, STRIDE, OFFSET, B, N, D, &mut out);
        out
    }

    #[test]
    fn each_image_has_its_own_gate() {
        let (x, y) = (random(1, B * N * D), random(2, B * N * D));
        let gate = random(3, B * STRIDE);
        for (i, out) in forward(&x, &y, &gate).into_iter().enumerate() {
            let (image, column) = (i / (N * D), i % D);
            assert_eq!(out, x[i] + gate[image * STRIDE + OFFSET + column] * y[i]);
        }
    }

    #[test]
    fn the_gradients_are_the_derivatives() {
        let (x, y) = (random(1, B * N * D), random(2, B * N * D));
        let (gate, dout) = (random(3, B * STRIDE), random(4, B * N * D));
        let [[dy, dgate], two] = on_one_and_two_threads(|| {
            let (mut dy, mut dgate) = (vec![9.0; B * N * D], vec![1.0; B * STRIDE]);
            gated_residual_grad(&y, &gate, STRIDE, OFFSET, &dout, B, N, D, &mut dy, &mut dgate);
            [dy, dgate]
        });
        assert_eq!([&dy, &dgate], [&two[0], &two[1]]);
        let dgate: Vec<f32> = dgate.iter().map(|v| v - 1.0).collect();
        assert_gradient(|y| dot(&forward(&x, y, &gate), &dout), &y, &dy, 1e-5);
        assert_gradient(|gate| dot(&forward(&x, &y, gate), &dout), &gate, &dgate, 1e-5);
        assert_gradient(|x| dot(&forward(x, &y, &gate), &dout), &x, &dout, 1e-5);
    }
}
