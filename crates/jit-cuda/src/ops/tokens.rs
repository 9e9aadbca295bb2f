//! Rows and tokens.

use crate::backend::Dtype;
use crate::device::Cuda;
use crate::tensor::CudaTensor;

impl Cuda {
    /// `x + rows` for every image, in f32
    pub(super) fn with_rows(&self, x: CudaTensor, rows: &CudaTensor) -> CudaTensor {
        let mut x = self.to_f32(x);
        let n = x.len();
        assert_eq!(n % rows.len().max(1), 0, "add_rows: {:?} and {:?}", x.shape, rows.shape);
        let call = self.kernel("add_rows").read(&x).read(rows).write(&mut x);
        self.each(call.long(n).long(rows.len()), n);
        x
    }

    /// `drows += Σ_B dy`
    pub(super) fn with_rows_grad(&self, dy: &CudaTensor, drows: &mut CudaTensor) {
        let dy = self.in_dtype(dy, Dtype::F32);
        let period = drows.len();
        let batch = dy.len() / period.max(1);
        let call = self.kernel("add_rows_grad").read(&dy).write(drows);
        self.each(call.int(batch).long(period), period);
    }

    /// `[R, …]`, indices `[n]` → `[n, …]`
    pub(super) fn gathered(&self, table: &CudaTensor, indices: &[u32]) -> CudaTensor {
        let (rows, width) = table_shape(table);
        let mut shape = table.shape.clone();
        shape[0] = indices.len();
        let index = self.indices(indices, rows);
        let mut out = self.unset(&shape, Dtype::F32);
        let call = self.kernel("gather_rows").read(table).block(&index).write(&mut out);
        self.each(call.int(indices.len()).int(width), indices.len() * width);
        out
    }

    /// Its gradient, added into `dtable`
    pub(super) fn gathered_grad(&self, dy: &CudaTensor, indices: &[u32], dtable: &mut CudaTensor) {
        let dy = self.in_dtype(dy, Dtype::F32);
        let (rows, width) = table_shape(dtable);
        let index = self.indices(indices, rows);
        self.kernel("gather_rows_grad")
            .read(&dy)
            .block(&index)
            .write(dtable)
            .int(indices.len())
            .int(rows)
            .int(width)
            .grid([width.div_ceil(256), rows, 1])
            .run();
    }

    fn indices(&self, indices: &[u32], rows: usize) -> crate::memory::Block {
        assert!(indices.iter().all(|&i| (i as usize) < rows), "an index is beyond {rows} rows");
        self.ints(indices.iter().map(|i| i.cast_signed()))
    }

    /// `[B, n, D]` and `[B, m, D]` → `[B, n + m, D]` in f32
    pub(super) fn joined(&self, a: &CudaTensor, b: &CudaTensor) -> CudaTensor {
        let (a, b) = (self.in_dtype(a, Dtype::F32), self.in_dtype(b, Dtype::F32));
        let ((batch, n1, d), (_, n2, _)) = (a.tokens(), b.tokens());
        let mut out = self.unset(&[batch, n1 + n2, d], Dtype::F32);
        let n = out.len();
        let call = self.kernel("concat_tokens").read(&a).read(&b).write(&mut out);
        self.each(call.int(batch).int(n1).int(n2).int(d), n);
        out
    }

    /// The first `n` tokens and the rest, in f32
    pub(super) fn parted(&self, x: &CudaTensor, n: usize) -> (CudaTensor, CudaTensor) {
        let x = self.in_dtype(x, Dtype::F32);
        let (batch, all, d) = x.tokens();
        let mut first = self.unset(&[batch, n, d], Dtype::F32);
        let mut rest = self.unset(&[batch, all - n, d], Dtype::F32);
        let call = self.kernel("split_tokens").read(&x).write(&mut first).write(&mut rest);
        self.each(call.int(batch).int(n).int(all - n).int(d), x.len());
        (first, rest)
    }

    /// `[B, N, D] → [B, D]`
    pub(super) fn mean(&self, x: &CudaTensor) -> CudaTensor {
        let x = self.in_dtype(x, Dtype::F32);
        let (b, n, d) = x.tokens();
        let mut out = self.unset(&[b, d], Dtype::F32);
        let call = self.kernel("mean_tokens").read(&x).write(&mut out);
        call.int(b).int(n).int(d).grid([d.div_ceil(32), b, 1]).run();
        out
    }

    /// Its gradient, added into `dx`
    pub(super) fn mean_grad(&self, dy: &CudaTensor, dx: &mut CudaTensor) {
        let (b, n, d) = dx.tokens();
        assert_eq!(dx.dtype, Dtype::F32, "the residual stream is f32");
        let call = self.kernel("mean_tokens_grad").read(dy).write(dx);
        self.each(call.int(b).int(n).int(d), b * n * d);
    }
}

/// `(rows, values of a row)`
fn table_shape(table: &CudaTensor) -> (usize, usize) {
    let rows = table.shape.first().copied().unwrap_or(1);
    (rows, table.len() / rows.max(1))
}
