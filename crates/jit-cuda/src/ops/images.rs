//! Images to tokens and back.

use crate::backend::Dtype;
use crate::device::Cuda;
use crate::tensor::CudaTensor;

impl Cuda {
    /// `[B, C, S, S] → [B, N, C·p·p]`, columns in the order of the kernel: `patchify` or `unpatchify_grad`. It feeds a
    /// product.
    pub(super) fn cut(&self, kernel: &str, x: &CudaTensor, patch: usize) -> CudaTensor {
        let (b, c, s) = x.images();
        let grid = s / patch;
        let mut out = self.unset(&[b, grid * grid, c * patch * patch], self.activations());
        let pitch = out.pitch;
        let call = self.kernel(format!("{kernel}{}", out.dtype.suffix())).read(x).write(&mut out);
        self.each(call.int(b).int(c).int(s).int(patch).int(pitch), x.len());
        out
    }

    /// `[B, N, p·p·C] → [B, C, S, S]` in f32
    pub(super) fn assembled(
        &self,
        tokens: &CudaTensor,
        channels: usize,
        patch: usize,
    ) -> CudaTensor {
        let tokens = self.in_dtype(tokens, Dtype::F32);
        let (b, n, _) = tokens.tokens();
        let side = n.isqrt() * patch;
        let mut out = self.unset(&[b, channels, side, side], Dtype::F32);
        let call = self.kernel("unpatchify").read(&tokens).write(&mut out);
        self.each(call.int(b).int(channels).int(side).int(patch), tokens.len());
        out
    }

    /// Image b turned by `k[b]·90°`
    pub(super) fn turned(&self, x: &CudaTensor, k: &[u8]) -> CudaTensor {
        let (b, c, s) = x.images();
        assert_eq!(b, k.len(), "rot90: images and turns");
        let turns = self.ints(k.iter().map(|&k| i32::from(k)));
        let mut out = self.unset_like(x);
        let call = self.kernel("rot90").read(x).block(&turns).write(&mut out);
        self.each(call.int(b).int(c).int(s), x.len());
        out
    }
}
