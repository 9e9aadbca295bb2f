//! Tokens and images: cut, joined, looked up, turned.

use crate::device::Gpu;
use crate::kernels::tokens;
use crate::launch::each;
use crate::tensor::GpuTensor;

impl Gpu {
    pub(super) fn cut(&self, x: &GpuTensor, patch: usize, channel_last: bool) -> GpuTensor {
        let (b, c, s) = x.images();
        let grid = s / patch;
        let out = self.unset(&[b, grid * grid, c * patch * patch]);
        let (count, dim) = each(x.len());
        let (from, to) = (x.arg(), out.arg());
        tokens::patchify::launch(&self.client, count, dim, from, to, c, s, patch, channel_last);
        out
    }

    /// `count` tokens of every image from the place of the one to that of the other.
    fn copy_tokens(&self, from: (&GpuTensor, usize), to: (&GpuTensor, usize), count: usize) {
        let ((b, from_tokens, d), (_, to_tokens, _)) = (from.0.tokens(), to.0.tokens());
        let total = b * count * d;
        let (grid, dim) = each(total);
        tokens::copy_tokens::launch(
            &self.client,
            grid,
            dim,
            from.0.arg(),
            to.0.arg(),
            total,
            count,
            d,
            from_tokens,
            from.1,
            to_tokens,
            to.1,
        );
    }

    pub(super) fn gathered(&self, table: &GpuTensor, indices: &[u32]) -> GpuTensor {
        let mut shape = table.shape.clone();
        let width = table.len() / shape[0];
        shape[0] = indices.len();
        let out = self.unset(&shape);
        let (count, dim) = each(out.len());
        let (table, indices) = (table.arg(), self.words(indices));
        tokens::gather_rows::launch(
            &self.client,
            count,
            dim,
            table,
            indices.arg(),
            out.arg(),
            width,
        );
        out
    }

    pub(super) fn gathered_grad(&self, dy: &GpuTensor, indices: &[u32], dtable: &mut GpuTensor) {
        let width = dtable.len() / dtable.shape[0];
        let (count, dim) = each(dy.len());
        tokens::gather_rows_grad::launch(
            &self.client,
            count,
            dim,
            dy.arg(),
            self.words(indices).arg(),
            dtable.arg(),
            width,
            indices.len(),
        );
    }

    pub(super) fn joined(&self, a: &GpuTensor, b: &GpuTensor) -> GpuTensor {
        let ((batch, n, d), (_, m, _)) = (a.tokens(), b.tokens());
        let out = self.unset(&[batch, n + m, d]);
        self.copy_tokens((a, 0), (&out, 0), n);
        self.copy_tokens((b, 0), (&out, n), m);
        out
    }

    pub(super) fn parted(&self, x: &GpuTensor, n: usize) -> (GpuTensor, GpuTensor) {
        let (batch, all, d) = x.tokens();
        let (first, rest) = (self.unset(&[batch, n, d]), self.unset(&[batch, all - n, d]));
        self.copy_tokens((x, 0), (&first, 0), n);
        self.copy_tokens((x, n), (&rest, 0), all - n);
        (first, rest)
    }

    pub(super) fn turned(&self, x: &GpuTensor, k: &[u8]) -> GpuTensor {
        let (_, channels, side) = x.images();
        let out = self.unset(&x.shape);
        let turns = self.words(&k.iter().map(|&k| u32::from(k)).collect::<Vec<_>>());
        let (count, dim) = each(x.len());
        let (from, to) = (x.arg(), out.arg());
        tokens::rot90::launch(&self.client, count, dim, from, turns.arg(), to, channels, side);
        out
    }

    pub(super) fn assembled(&self, x: &GpuTensor, channels: usize, patch: usize) -> GpuTensor {
        let (b, n, _) = x.tokens();
        let side = n.isqrt() * patch;
        let out = self.unset(&[b, channels, side, side]);
        let (count, dim) = each(x.len());
        let (from, to) = (x.arg(), out.arg());
        tokens::unpatchify::launch(&self.client, count, dim, from, to, channels, side, patch);
        out
    }
}
