//! The model's operations, each queued on the device.

mod attention;
mod images;
mod linear;
mod losses;
mod norm;
mod optimizer;
mod pointwise;
#[cfg(feature = "card")]
pub mod source;
mod tokens;

use jit_core::rng::Stream;
use jit_model::device::{
    AdamW, Attention, Device, Diffusion, Dropout, Fault, MemoryUse, Modulation, NormGrads,
    Precision,
};
use jit_model::objective::Space;

use crate::backend::Dtype;
use crate::device::Cuda;
use crate::readback::Readback;
use crate::tensor::{CudaTensor, CudaWeight};
pub use optimizer::Norm;

impl Device for Cuda {
    type Tensor = CudaTensor;
    type Weight = CudaWeight;
    type Norm = Norm;
    type Coming = Readback;

    fn precision(&self) -> Precision {
        self.precision
    }

    fn runs_ahead(&self) -> bool {
        true
    }

    fn wait(&self) {
        self.noting(self.backend().wait());
    }

    fn fault(&self) -> Option<Fault> {
        self.memory.fault()
    }

    fn memory(&self) -> Option<MemoryUse> {
        Some(self.memory.used())
    }

    fn upload(&self, data: &[f32], shape: &[usize]) -> CudaTensor {
        assert_eq!(data.len(), shape.iter().product::<usize>(), "upload: data against {shape:?}");
        let block = self.floats(data);
        let pitch = shape.last().copied().unwrap_or(1);
        CudaTensor { shape: shape.to_vec(), dtype: Dtype::F32, pitch, block }
    }

    fn download(&self, x: &CudaTensor) -> Vec<f32> {
        self.receive(&self.start_read(x))
    }

    fn start_read(&self, x: &CudaTensor) -> Readback {
        let copy = match self.memory.fault() {
            Some(fault) => Err(fault),
            None => self.backend().start_read(x.block.address(), x.held() * x.dtype.size()),
        };
        Readback::new(copy, x)
    }

    fn receive(&self, coming: &Readback) -> Vec<f32> {
        coming.values().unwrap_or_else(|fault| {
            self.memory.fail(fault);
            vec![f32::NAN; coming.len]
        })
    }

    fn assign(&self, x: &mut CudaTensor, data: &[f32]) {
        assert_eq!(data.len(), x.len(), "assign: data against {:?}", x.shape);
        let shape = x.shape.clone();
        *x = self.upload(data, &shape);
    }

    fn zeros(&self, shape: &[usize]) -> CudaTensor {
        let mut x = self.unset(shape, Dtype::F32);
        self.clear(&mut x);
        x
    }

    fn clear(&self, x: &mut CudaTensor) {
        self.set_to_zero(x);
    }

    fn shape<'a>(&self, x: &'a CudaTensor) -> &'a [usize] {
        &x.shape
    }

    fn reshape(&self, mut x: CudaTensor, shape: &[usize]) -> CudaTensor {
        assert_eq!(x.len(), shape.iter().product::<usize>(), "reshape to {shape:?}");
        if x.shape.last() != shape.last() {
            if !x.is_dense() {
                x = self.to_f32(x);
            }
            x.pitch = shape.last().copied().unwrap_or(1);
        }
        x.shape = shape.to_vec();
        x
    }

    fn weight(&self, value: CudaTensor) -> CudaWeight {
        self.new_weight(value)
    }

    fn value<'a>(&self, w: &'a CudaWeight) -> &'a CudaTensor {
        &w.value
    }

    fn linear(&self, x: &CudaTensor, w: &CudaWeight, bias: Option<&CudaWeight>) -> CudaTensor {
        self.linear_in(x, w, bias, self.dtype_of_rank(x))
    }

    fn linear_full(&self, x: &CudaTensor, w: &CudaWeight, bias: Option<&CudaWeight>) -> CudaTensor {
        self.linear_in(x, w, bias, Dtype::F32)
    }

    fn linear_grad_input(&self, dy: &CudaTensor, w: &CudaWeight) -> CudaTensor {
        self.grad_input(dy, w)
    }

    fn linear_grad_weight(
        &self,
        x: &CudaTensor,
        dy: &CudaTensor,
        dw: &mut CudaTensor,
        db: Option<&mut CudaTensor>,
    ) {
        self.grad_weight(x, dy, dw, db);
    }

    fn rms_norm_modulate(
        &self,
        x: &CudaTensor,
        weight: &CudaWeight,
        m: Modulation<'_, CudaTensor>,
    ) -> CudaTensor {
        self.normed(x, weight, &m)
    }

    fn rms_norm_modulate_grad(
        &self,
        x: &CudaTensor,
        weight: &CudaWeight,
        m: Modulation<'_, CudaTensor>,
        dy: &CudaTensor,
        dx: &mut CudaTensor,
        dweight: &mut CudaTensor,
        dmod: &mut CudaTensor,
    ) {
        self.normed_grad(x, weight, &m, dy, dx, dweight, dmod);
    }

    fn attention(&self, qkv: &CudaTensor, a: Attention<'_, Self>) -> (CudaTensor, CudaTensor) {
        self.attend(qkv, &a)
    }

    fn attention_grad(
        &self,
        qkv: &CudaTensor,
        a: Attention<'_, Self>,
        out: &CudaTensor,
        lse: &CudaTensor,
        dout: &CudaTensor,
        dnorm: NormGrads<'_, CudaTensor>,
    ) -> CudaTensor {
        self.attend_grad(qkv, &a, out, lse, dout, dnorm)
    }

    fn swiglu(&self, h: &CudaTensor) -> CudaTensor {
        self.gated(h)
    }

    fn swiglu_grad(&self, h: &CudaTensor, dy: &CudaTensor) -> (CudaTensor, CudaTensor) {
        self.gated_grad(h, dy)
    }

    fn silu(&self, x: &CudaTensor) -> CudaTensor {
        self.activation("silu", x)
    }

    fn silu_grad(&self, x: &CudaTensor, dy: &CudaTensor) -> CudaTensor {
        self.activation_grad("silu_grad", x, dy)
    }

    fn gelu(&self, x: &CudaTensor) -> CudaTensor {
        self.activation("gelu", x)
    }

    fn gelu_grad(&self, x: &CudaTensor, dy: &CudaTensor) -> CudaTensor {
        self.activation_grad("gelu_grad", x, dy)
    }

    fn gated_residual(
        &self,
        x: &CudaTensor,
        y: &CudaTensor,
        mods: &CudaTensor,
        index: usize,
    ) -> CudaTensor {
        self.residual(x, y, mods, index)
    }

    fn gated_residual_grad(
        &self,
        y: &CudaTensor,
        mods: &CudaTensor,
        index: usize,
        dout: &CudaTensor,
        dmod: &mut CudaTensor,
    ) -> CudaTensor {
        self.residual_grad(y, mods, index, dout, dmod)
    }

    fn dropout(&self, x: CudaTensor, dropout: &Dropout) -> CudaTensor {
        self.dropped(x, dropout)
    }

    fn patchify(&self, x: &CudaTensor, patch: usize) -> CudaTensor {
        self.cut("patchify", x, patch)
    }

    fn unpatchify(&self, tokens: &CudaTensor, channels: usize, patch: usize) -> CudaTensor {
        self.assembled(tokens, channels, patch)
    }

    fn unpatchify_grad(&self, dx: &CudaTensor, patch: usize) -> CudaTensor {
        self.cut("unpatchify_grad", dx, patch)
    }

    fn add_rows(&self, x: CudaTensor, rows: &CudaTensor) -> CudaTensor {
        self.with_rows(x, rows)
    }

    fn add_rows_grad(&self, dy: &CudaTensor, drows: &mut CudaTensor) {
        self.with_rows_grad(dy, drows);
    }

    fn gather_rows(&self, table: &CudaTensor, indices: &[u32]) -> CudaTensor {
        self.gathered(table, indices)
    }

    fn gather_rows_grad(&self, dy: &CudaTensor, indices: &[u32], dtable: &mut CudaTensor) {
        self.gathered_grad(dy, indices, dtable);
    }

    fn concat_tokens(&self, a: &CudaTensor, b: &CudaTensor) -> CudaTensor {
        self.joined(a, b)
    }

    fn split_tokens(&self, x: &CudaTensor, n: usize) -> (CudaTensor, CudaTensor) {
        self.parted(x, n)
    }

    fn mean_tokens(&self, x: &CudaTensor) -> CudaTensor {
        self.mean(x)
    }

    fn mean_tokens_grad(&self, dy: &CudaTensor, dx: &mut CudaTensor) {
        self.mean_grad(dy, dx);
    }

    fn rot90(&self, x: &CudaTensor, k: &[u8]) -> CudaTensor {
        self.turned(x, k)
    }

    fn add_assign(&self, x: &mut CudaTensor, y: &CudaTensor) {
        self.add(x, y);
    }

    fn axpby(&self, a: f32, x: &CudaTensor, b: f32, y: &CudaTensor) -> CudaTensor {
        self.weighted_sum(a, x, b, y)
    }

    fn norm(&self, tensors: &[&CudaTensor]) -> Norm {
        self.gradient_norm(tensors)
    }

    fn read_norm(&self, norm: &Norm) -> f64 {
        norm.value().unwrap_or_else(|fault| {
            self.memory.fail(fault);
            f64::NAN
        })
    }

    fn normal(&self, streams: &[Stream], scale: f32, shape: &[usize]) -> CudaTensor {
        self.normal_noise(streams, scale, shape)
    }

    fn interpolate(&self, x: &CudaTensor, noise: &CudaTensor, t: &[f32]) -> CudaTensor {
        self.noised(x, noise, t)
    }

    fn convert(
        &self,
        prediction: &CudaTensor,
        z: &CudaTensor,
        t: &[f32],
        t_eps: f32,
        from: Space,
        to: Space,
    ) -> CudaTensor {
        self.converted(prediction, z, t, t_eps, from, to)
    }

    fn diffusion_loss(&self, net: &CudaTensor, d: Diffusion<'_, CudaTensor>) -> CudaTensor {
        self.image_losses(net, &d)
    }

    fn diffusion_loss_grad(
        &self,
        net: &CudaTensor,
        d: Diffusion<'_, CudaTensor>,
        weight: &[f32],
    ) -> CudaTensor {
        self.image_losses_grad(net, &d, weight)
    }

    fn squared_error(
        &self,
        prediction: &CudaTensor,
        target: &[f32],
        weight: &[f32],
    ) -> (CudaTensor, CudaTensor) {
        self.squared_errors(prediction, target, weight)
    }

    fn cross_entropy(
        &self,
        logits: &CudaTensor,
        class: &[u8],
        weight: &[f32],
    ) -> (CudaTensor, CudaTensor) {
        self.cross_entropies(logits, class, weight)
    }

    fn adamw(
        &self,
        w: &mut CudaWeight,
        grad: &CudaTensor,
        moments: (&mut CudaTensor, &mut CudaTensor),
        emas: &mut [(&mut CudaTensor, f64)],
        clip: (&Norm, f64),
        options: &AdamW,
    ) {
        self.adamw_step(w, grad, moments, emas, clip, options);
    }
}
