//! The matrix product as it is defined, with sums in f64: what the fast one is tested against.

use super::{MatRef, Store};

/// [`gemm`](super::gemm) by its definition.
pub fn gemm(a: MatRef<'_>, b: MatRef<'_>, c: &mut [f32], store: Store, bias: Option<&[f32]>) {
    for i in 0..a.rows() {
        for j in 0..b.cols() {
            let mut sum = bias.map_or(0.0, |bias| bias[j] as f64);
            for k in 0..a.cols() {
                sum += a.at(i, k) as f64 * b.at(k, j) as f64;
            }
            let c = &mut c[i * b.cols() + j];
            *c = if store == Store::Accumulate { (*c as f64 + sum) as f32 } else { sum as f32 };
        }
    }
}
