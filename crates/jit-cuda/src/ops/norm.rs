//! The norm with its modulation, and the gated residual.

use jit_model::device::Modulation;

use super::pointwise::Operand;
use crate::backend::Dtype;
use crate::device::Cuda;
use crate::tensor::{CudaTensor, CudaWeight};

/// Tokens of an image whose column sums a block forms.
const TOKENS: usize = 64;
/// Shared memory of a block, at most, so that several run at once.
const SHARED: usize = 56 << 10;
/// Warps of a block, each a row at a time.
const WARPS: usize = 8;

impl Cuda {
    /// `RMSNorm(x)·(1 + scale) + shift`
    pub(super) fn normed(
        &self,
        x: &CudaTensor,
        weight: &CudaWeight,
        m: &Modulation<'_, CudaTensor>,
    ) -> CudaTensor {
        let ((b, n, d), (_, stride)) = (x.tokens(), m.vectors.rows_columns());
        let x = self.in_dtype(x, Dtype::F32);
        let mut y = self.unset(&x.shape, self.activations());
        let (rows, pitch) = (b * n, y.pitch);
        self.kernel(format!("rms_norm_modulate{}", y.dtype.suffix()))
            .read(&x)
            .weight(weight)
            .read(m.vectors)
            .write(&mut y)
            .int(rows)
            .int(n)
            .int(d)
            .int(pitch)
            .int(stride)
            .int(m.shift)
            .int(m.scale)
            .grid([rows.div_ceil(WARPS), 1, 1])
            .run();
        y
    }

    /// Gradient of [`Cuda::normed`]
    pub(super) fn normed_grad(
        &self,
        x: &CudaTensor,
        weight: &CudaWeight,
        m: &Modulation<'_, CudaTensor>,
        dy: &CudaTensor,
        dx: &mut CudaTensor,
        dweight: &mut CudaTensor,
        dmod: &mut CudaTensor,
    ) {
        let ((b, n, d), (_, stride)) = (x.tokens(), m.vectors.rows_columns());
        let x = self.in_dtype(x, Dtype::F32);
        assert_eq!(dx.dtype, Dtype::F32, "the residual stream is f32");
        let chunks = n.div_ceil(TOKENS);
        // Every warp has its own column sums.
        let bytes = |warps: usize| warps * 2 * d * 4;
        let mut warps = WARPS;
        while warps > 1 && bytes(warps) > SHARED {
            warps /= 2;
        }
        let mut partial = self.unset(&[b, chunks, 2, d], Dtype::F32);
        self.kernel(format!("rms_norm_modulate_grad{}", dy.dtype.suffix()))
            .read(&x)
            .weight(weight)
            .read(m.vectors)
            .read(dy)
            .write(dx)
            .write(&mut partial)
            .int(n)
            .int(d)
            .int(dy.pitch)
            .int(stride)
            .int(m.shift)
            .int(m.scale)
            .grid([chunks, b, 1])
            .threads(32 * warps as u32)
            .shared(bytes(warps))
            .run();
        let mut by_image = self.unset(&[b, d], Dtype::F32);
        self.kernel("rms_norm_modulate_grad_finish")
            .read(&partial)
            .weight(weight)
            .read(m.vectors)
            .write(dmod)
            .write(&mut by_image)
            .int(b)
            .int(chunks)
            .int(d)
            .int(stride)
            .int(m.shift)
            .int(m.scale)
            .grid([d.div_ceil(256), b, 1])
            .run();
        self.add_column_sums(&by_image, dweight);
    }

    /// `x + gate·y`
    pub(super) fn residual(
        &self,
        x: &CudaTensor,
        y: &CudaTensor,
        mods: &CudaTensor,
        index: usize,
    ) -> CudaTensor {
        let ((b, n, d), (_, stride)) = (x.tokens(), mods.rows_columns());
        let x = self.in_dtype(x, Dtype::F32);
        let mut out = self.unset_like(&x);
        let call = self.kernel(format!("gated_residual{}", y.dtype.suffix()));
        let call = call.read(&x).read(y).read(mods).write(&mut out);
        let call = call.int(b * n).int(n).int(d).int(y.pitch).int(stride).int(index);
        self.each(call, b * n * d);
        out
    }

    /// `gate·dout`; the gate's gradient is added into `dmod`.
    pub(super) fn residual_grad(
        &self,
        y: &CudaTensor,
        mods: &CudaTensor,
        index: usize,
        dout: &CudaTensor,
        dmod: &mut CudaTensor,
    ) -> CudaTensor {
        let ((b, n, d), (_, stride)) = (y.tokens(), mods.rows_columns());
        let dout: Operand<'_> = self.in_dtype(dout, Dtype::F32);
        let chunks = n.div_ceil(TOKENS);
        let (mut dy, mut partial) = (self.unset_like(y), self.unset(&[b, chunks, d], Dtype::F32));
        self.kernel(format!("gated_residual_grad{}", y.dtype.suffix()))
            .read(y)
            .read(mods)
            .read(&dout)
            .write(&mut dy)
            .write(&mut partial)
            .int(n)
            .int(d)
            .int(y.pitch)
            .int(stride)
            .int(index)
            .grid([d.div_ceil(128), chunks, b])
            .run();
        self.kernel("gated_residual_grad_finish")
            .read(&partial)
            .write(dmod)
            .int(b)
            .int(chunks)
            .int(d)
            .int(stride)
            .int(index)
            .grid([d.div_ceil(256), b, 1])
            .run();
        dy
    }
}
