//! The linear layer by its definition, with sums in f64.

use crate::gemm::{MatRef, Store, plain::gemm};

/// [`linear`](super::linear) of `rows` rows.
pub fn linear(x: &[f32], w: &[f32], bias: Option<&[f32]>, rows: usize, y: &mut [f32]) {
    let (inputs, outputs) = (x.len() / rows, y.len() / rows);
    let w = MatRef::row_major(w, outputs, inputs).transposed();
    gemm(MatRef::row_major(x, rows, inputs), w, y, Store::Overwrite, bias);
}

/// [`linear_grad_input`](super::linear_grad_input) of `rows` rows, overwriting `dx`.
pub fn linear_grad_input(dy: &[f32], w: &[f32], rows: usize, dx: &mut [f32]) {
    let (inputs, outputs) = (dx.len() / rows, dy.len() / rows);
    let w = MatRef::row_major(w, outputs, inputs);
    gemm(MatRef::row_major(dy, rows, outputs), w, dx, Store::Overwrite, None);
}

/// [`linear_grad_weight`](super::linear_grad_weight).
pub fn linear_grad_weight(
    x: &[f32],
    dy: &[f32],
    rows: usize,
    dw: &mut [f32],
    db: Option<&mut [f32]>,
) {
    let (inputs, outputs) = (x.len() / rows, dy.len() / rows);
    let dy_matrix = MatRef::row_major(dy, rows, outputs);
    let x = MatRef::row_major(x, rows, inputs);
    gemm(dy_matrix.transposed(), x, dw, Store::Accumulate, None);
    for (j, db) in db.into_iter().flatten().enumerate() {
        let sum: f64 = dy.chunks(outputs).map(|row| f64::from(row[j])).sum();
        *db = (f64::from(*db) + sum) as f32;
    }
}
