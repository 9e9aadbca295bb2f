//! The CPU device: the kernels of `jit-kernels` on recycled buffers.

mod tensor;

use jit_kernels::adamw::{self, AdamW};
use jit_kernels::attention::{AttentionDropout, AttentionShape, Rope};
use jit_kernels::buffer::Buffer;
use jit_kernels::cpu::{self, Isa};
use jit_kernels::gemm::Precision;
use jit_kernels::linear::{self, PackedWeight};
use jit_kernels::profile::{Kernel, timed};
use jit_kernels::{
    activation, attention, dropout, elementwise, embedding, losses, patchify, residual, rms_norm,
    rotate, swiglu,
};

use crate::device::{Attention, Device, Diffusion, Dropout, Modulation, NormGrads, clip};
use crate::objective::Space;
use tensor::map;
pub use tensor::{CpuTensor, CpuWeight};

/// The processor this program runs on, with all threads of rayon's global pool.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    precision: Precision,
}

impl Cpu {
    /// With matrix products of `f32` values.
    pub const F32: Cpu = Cpu::new(Precision::F32);

    /// With linear layers in `precision`; everything else computes in `f32`.
    pub const fn new(precision: Precision) -> Cpu {
        Cpu { precision }
    }

    /// What linear layers are fastest in: bfloat16 where the processor has a product of it.
    pub fn fastest_precision() -> Precision {
        match cpu::level().isa() {
            Isa::Avx512Bf16 => Precision::Bf16,
            _ => Precision::F32,
        }
    }
}

/// The kernel's view of a modulation: offsets in values instead of vectors.
fn modulation<'a>(m: Modulation<'a, CpuTensor>, d: usize) -> rms_norm::Modulation<'a> {
    let (_, stride) = m.vectors.rows_columns();
    rms_norm::Modulation { data: &m.vectors.data, stride, shift: m.shift * d, scale: m.scale * d }
}

fn attention_shape(qkv: &CpuTensor, heads: usize) -> AttentionShape {
    let (batch, tokens, width) = qkv.tokens();
    AttentionShape { batch, tokens, heads, head_dim: width / 3 / heads }
}

fn rope(table: &CpuTensor) -> Rope<'_> {
    let (cos, sin) = table.data.split_at(table.data.len() / 2);
    Rope { cos, sin }
}

fn mask<'a>(a: &Attention<'a, Cpu>) -> Option<AttentionDropout<'a>> {
    a.dropout.map(|d| AttentionDropout { rate: d.rate, streams: &d.streams })
}

fn space(space: Space) -> losses::Space {
    match space {
        Space::X => losses::Space::X,
        Space::Eps => losses::Space::Eps,
        Space::V => losses::Space::V,
    }
}

impl Device for Cpu {
    type Tensor = CpuTensor;
    type Weight = CpuWeight;
    type Norm = f64;
    type Coming = Vec<f32>;

    fn precision(&self) -> Precision {
        self.precision
    }

    fn uses_host_memory(&self) -> bool {
        true
    }

    fn upload(&self, data: &[f32], shape: &[usize]) -> CpuTensor {
        assert_eq!(data.len(), shape.iter().product::<usize>(), "upload: data against {shape:?}");
        CpuTensor { shape: shape.to_vec(), data: Buffer::from_slice(data) }
    }

    fn download(&self, x: &CpuTensor) -> Vec<f32> {
        x.data.to_vec()
    }

    fn start_read(&self, x: &CpuTensor) -> Vec<f32> {
        x.data.to_vec()
    }

    fn receive(&self, coming: &Vec<f32>) -> Vec<f32> {
        coming.clone()
    }

    fn zeros(&self, shape: &[usize]) -> CpuTensor {
        CpuTensor { shape: shape.to_vec(), data: Buffer::zeroed(shape.iter().product()) }
    }

    fn clear(&self, x: &mut CpuTensor) {
        timed(Kernel::Optimizer, 0, || elementwise::clear(&mut x.data));
    }

    fn shape<'a>(&self, x: &'a CpuTensor) -> &'a [usize] {
        &x.shape
    }

    fn reshape(&self, mut x: CpuTensor, shape: &[usize]) -> CpuTensor {
        assert_eq!(x.data.len(), shape.iter().product::<usize>(), "reshape to {shape:?}");
        x.shape = shape.to_vec();
        x
    }

    fn weight(&self, value: CpuTensor) -> CpuWeight {
        CpuWeight { value, packed: PackedWeight::new(self.precision) }
    }

    fn value<'a>(&self, w: &'a CpuWeight) -> &'a CpuTensor {
        &w.value
    }

    fn linear(&self, x: &CpuTensor, w: &CpuWeight, bias: Option<&CpuWeight>) -> CpuTensor {
        let (outputs, inputs) = w.outputs_inputs();
        let mut y = x.with_last(outputs);
        let weight = w.packed.with(&w.value.data, outputs, inputs);
        let bias = bias.map(|b| &b.value.data[..]);
        let flops = 2 * x.data.len() * outputs;
        timed(Kernel::Linear, flops, || linear::linear(&x.data, weight, bias, &mut y.data));
        y
    }

    fn linear_grad_input(&self, dy: &CpuTensor, w: &CpuWeight) -> CpuTensor {
        let (outputs, inputs) = w.outputs_inputs();
        let mut dx = dy.with_last(inputs);
        let weight = w.packed.with(&w.value.data, outputs, inputs);
        timed(Kernel::LinearGradInput, 2 * dy.data.len() * inputs, || {
            linear::linear_grad_input(&dy.data, weight, &mut dx.data, false);
        });
        dx
    }

    fn linear_grad_weight(
        &self,
        x: &CpuTensor,
        dy: &CpuTensor,
        dw: &mut CpuTensor,
        db: Option<&mut CpuTensor>,
    ) {
        let (rows, inputs) = x.rows_columns();
        let db = db.map(|db| &mut db.data[..]);
        timed(Kernel::LinearGradWeight, 2 * dy.data.len() * inputs, || {
            let (x, dy) = (&x.data, &dy.data);
            linear::linear_grad_weight(self.precision, x, dy, rows, &mut dw.data, db);
        });
    }

    fn rms_norm_modulate(
        &self,
        x: &CpuTensor,
        weight: &CpuWeight,
        m: Modulation<'_, CpuTensor>,
    ) -> CpuTensor {
        let (b, n, d) = x.tokens();
        timed(Kernel::Norm, 0, || {
            map(x, |x, y| {
                rms_norm::rms_norm_modulate(x, &weight.value.data, modulation(m, d), b, n, d, y);
            })
        })
    }

    fn rms_norm_modulate_grad(
        &self,
        x: &CpuTensor,
        weight: &CpuWeight,
        m: Modulation<'_, CpuTensor>,
        dy: &CpuTensor,
        dx: &mut CpuTensor,
        dweight: &mut CpuTensor,
        dmod: &mut CpuTensor,
    ) {
        let (b, n, d) = x.tokens();
        timed(Kernel::Norm, 0, || {
            rms_norm::rms_norm_modulate_grad(
                &x.data,
                &weight.value.data,
                modulation(m, d),
                &dy.data,
                b,
                n,
                d,
                &mut dx.data,
                &mut dweight.data,
                &mut dmod.data,
            );
        });
    }

    fn attention(&self, qkv: &CpuTensor, a: Attention<'_, Self>) -> (CpuTensor, CpuTensor) {
        let shape = attention_shape(qkv, a.heads);
        let mut out = qkv.with_last(shape.width());
        let mut lse = CpuTensor::unset(&[shape.batch, shape.heads, shape.tokens]);
        let (q, k) = (&a.q_norm.value.data, &a.k_norm.value.data);
        let rope = rope(a.rope);
        let (o, l) = (&mut out.data, &mut lse.data);
        timed(Kernel::Attention, 2 * shape.products(), || {
            attention::attention(self.precision, &qkv.data, q, k, rope, shape, mask(&a), o, l);
        });
        (out, lse)
    }

    fn attention_grad(
        &self,
        qkv: &CpuTensor,
        a: Attention<'_, Self>,
        out: &CpuTensor,
        lse: &CpuTensor,
        dout: &CpuTensor,
        dnorm: NormGrads<'_, CpuTensor>,
    ) -> CpuTensor {
        let shape = attention_shape(qkv, a.heads);
        let mut dqkv = CpuTensor::like(qkv);
        // The recomputed logits are not counted as work.
        timed(Kernel::AttentionGrad, 4 * shape.products(), || {
            attention::attention_grad(
                self.precision,
                &qkv.data,
                &a.q_norm.value.data,
                &a.k_norm.value.data,
                rope(a.rope),
                shape,
                mask(&a),
                &out.data,
                &lse.data,
                &dout.data,
                &mut dqkv.data,
                &mut dnorm.q_norm.data,
                &mut dnorm.k_norm.data,
            );
        });
        dqkv
    }

    fn swiglu(&self, h: &CpuTensor) -> CpuTensor {
        let (rows, columns) = h.rows_columns();
        let mut out = h.with_last(columns / 2);
        timed(Kernel::Activation, 0, || {
            swiglu::swiglu(&h.data, rows, columns / 2, &mut out.data);
        });
        out
    }

    fn swiglu_grad(&self, h: &CpuTensor, dy: &CpuTensor) -> (CpuTensor, CpuTensor) {
        let (rows, columns) = h.rows_columns();
        let (mut dh, mut out) = (CpuTensor::like(h), CpuTensor::like(dy));
        timed(Kernel::Activation, 0, || {
            let (dh, out) = (&mut dh.data, &mut out.data);
            swiglu::swiglu_grad(&h.data, &dy.data, rows, columns / 2, dh, out);
        });
        (dh, out)
    }

    fn silu(&self, x: &CpuTensor) -> CpuTensor {
        timed(Kernel::Activation, 0, || map(x, activation::silu))
    }

    fn silu_grad(&self, x: &CpuTensor, dy: &CpuTensor) -> CpuTensor {
        timed(Kernel::Activation, 0, || map(x, |x, dx| activation::silu_grad(x, &dy.data, dx)))
    }

    fn gelu(&self, x: &CpuTensor) -> CpuTensor {
        timed(Kernel::Activation, 0, || map(x, activation::gelu))
    }

    fn gelu_grad(&self, x: &CpuTensor, dy: &CpuTensor) -> CpuTensor {
        timed(Kernel::Activation, 0, || map(x, |x, dx| activation::gelu_grad(x, &dy.data, dx)))
    }

    fn gated_residual(
        &self,
        x: &CpuTensor,
        y: &CpuTensor,
        mods: &CpuTensor,
        index: usize,
    ) -> CpuTensor {
        let (b, n, d) = x.tokens();
        let (_, stride) = mods.rows_columns();
        timed(Kernel::Residual, 0, || {
            map(x, |x, out| {
                residual::gated_residual(x, &y.data, &mods.data, stride, index * d, b, n, d, out);
            })
        })
    }

    fn gated_residual_grad(
        &self,
        y: &CpuTensor,
        mods: &CpuTensor,
        index: usize,
        dout: &CpuTensor,
        dmod: &mut CpuTensor,
    ) -> CpuTensor {
        let (b, n, d) = y.tokens();
        let (_, stride) = mods.rows_columns();
        let (gate, offset) = (&mods.data, index * d);
        let (dout, dgate) = (&dout.data, &mut dmod.data);
        timed(Kernel::Residual, 0, || {
            map(y, |y, dy| {
                residual::gated_residual_grad(y, gate, stride, offset, dout, b, n, d, dy, dgate);
            })
        })
    }

    fn dropout(&self, x: CpuTensor, mask: &Dropout) -> CpuTensor {
        let per_image = x.data.len() / mask.streams.len();
        map(&x, |x, out| dropout::dropout(x, mask.rate, &mask.streams, per_image, out))
    }

    fn patchify(&self, x: &CpuTensor, patch: usize) -> CpuTensor {
        let (b, c, s) = x.images();
        let grid = s / patch;
        let mut out = CpuTensor::unset(&[b, grid * grid, c * patch * patch]);
        patchify::patchify_conv(&x.data, b, c, s, patch, &mut out.data);
        out
    }

    fn unpatchify(&self, tokens: &CpuTensor, channels: usize, patch: usize) -> CpuTensor {
        let (b, n, _) = tokens.tokens();
        let side = n.isqrt() * patch;
        let mut out = CpuTensor::unset(&[b, channels, side, side]);
        patchify::unpatchify(&tokens.data, b, channels, side, patch, &mut out.data);
        out
    }

    fn unpatchify_grad(&self, dx: &CpuTensor, patch: usize) -> CpuTensor {
        let (b, c, s) = dx.images();
        let grid = s / patch;
        let mut out = CpuTensor::unset(&[b, grid * grid, patch * patch * c]);
        patchify::unpatchify_grad(&dx.data, b, c, s, patch, &mut out.data);
        out
    }

    fn add_rows(&self, x: CpuTensor, rows: &CpuTensor) -> CpuTensor {
        map(&x, |x, out| elementwise::add_rows(x, &rows.data, out))
    }

    fn add_rows_grad(&self, dy: &CpuTensor, drows: &mut CpuTensor) {
        elementwise::add_rows_grad(&dy.data, &mut drows.data);
    }

    fn gather_rows(&self, table: &CpuTensor, indices: &[u32]) -> CpuTensor {
        let mut shape = table.shape.clone();
        shape[0] = indices.len();
        let mut out = CpuTensor::unset(&shape);
        embedding::gather_rows(&table.data, indices, &mut out.data);
        out
    }

    fn gather_rows_grad(&self, dy: &CpuTensor, indices: &[u32], dtable: &mut CpuTensor) {
        embedding::scatter_rows_add(&dy.data, indices, &mut dtable.data);
    }

    fn concat_tokens(&self, a: &CpuTensor, b: &CpuTensor) -> CpuTensor {
        let ((batch, n1, d), (_, n2, _)) = (a.tokens(), b.tokens());
        let mut out = CpuTensor::unset(&[batch, n1 + n2, d]);
        elementwise::concat_tokens(&a.data, &b.data, batch, n1, n2, d, &mut out.data);
        out
    }

    fn split_tokens(&self, x: &CpuTensor, n: usize) -> (CpuTensor, CpuTensor) {
        let (batch, all, d) = x.tokens();
        let mut first = CpuTensor::unset(&[batch, n, d]);
        let mut rest = CpuTensor::unset(&[batch, all - n, d]);
        let (a, b) = (&mut first.data, &mut rest.data);
        elementwise::split_tokens(&x.data, batch, n, all - n, d, a, b);
        (first, rest)
    }

    fn mean_tokens(&self, x: &CpuTensor) -> CpuTensor {
        let (b, n, d) = x.tokens();
        let mut out = CpuTensor::unset(&[b, d]);
        elementwise::mean_tokens(&x.data, b, n, d, 0, n, &mut out.data);
        out
    }

    fn mean_tokens_grad(&self, dy: &CpuTensor, dx: &mut CpuTensor) {
        let (b, n, d) = dx.tokens();
        elementwise::mean_tokens_grad_add(&dy.data, b, n, d, 0, n, &mut dx.data);
    }

    fn rot90(&self, x: &CpuTensor, k: &[u8]) -> CpuTensor {
        let (_, c, s) = x.images();
        map(x, |x, out| rotate::rot90(x, k, c, s, out))
    }

    fn add_assign(&self, x: &mut CpuTensor, y: &CpuTensor) {
        elementwise::add_assign(&mut x.data, &y.data);
    }

    fn axpby(&self, a: f32, x: &CpuTensor, b: f32, y: &CpuTensor) -> CpuTensor {
        map(x, |x, out| elementwise::axpby(a, x, b, &y.data, out))
    }

    fn norm(&self, tensors: &[&CpuTensor]) -> f64 {
        timed(Kernel::Optimizer, 0, || {
            tensors.iter().map(|x| adamw::sum_squares(&x.data)).sum::<f64>().sqrt()
        })
    }

    fn read_norm(&self, norm: &f64) -> f64 {
        *norm
    }

    fn interpolate(&self, x: &CpuTensor, noise: &CpuTensor, t: &[f32]) -> CpuTensor {
        map(x, |x, z| losses::interpolate(x, &noise.data, t, z))
    }

    fn convert(
        &self,
        prediction: &CpuTensor,
        z: &CpuTensor,
        t: &[f32],
        t_eps: f32,
        from: Space,
        to: Space,
    ) -> CpuTensor {
        let (from, to) = (space(from), space(to));
        map(prediction, |net, out| losses::convert(net, &z.data, t, t_eps, from, to, out))
    }

    fn diffusion_loss(&self, net: &CpuTensor, d: Diffusion<'_, CpuTensor>) -> CpuTensor {
        let mut per_image = CpuTensor::unset(&[d.t.len()]);
        losses::diffusion_loss(
            &net.data,
            &d.z.data,
            &d.x.data,
            &d.noise.data,
            d.t,
            d.t_eps,
            space(d.output),
            space(d.loss),
            &mut per_image.data,
        );
        per_image
    }

    fn diffusion_loss_grad(
        &self,
        net: &CpuTensor,
        d: Diffusion<'_, CpuTensor>,
        weight: &[f32],
    ) -> CpuTensor {
        map(net, |net, dnet| {
            losses::diffusion_loss_grad(
                net,
                &d.z.data,
                &d.x.data,
                &d.noise.data,
                d.t,
                d.t_eps,
                space(d.output),
                space(d.loss),
                weight,
                dnet,
            );
        })
    }

    fn squared_error(
        &self,
        prediction: &CpuTensor,
        target: &[f32],
        weight: &[f32],
    ) -> (CpuTensor, CpuTensor) {
        let mut loss = CpuTensor::unset(&[target.len()]);
        losses::mse(&prediction.data, target, &mut loss.data);
        let gradient = map(prediction, |p, dp| losses::mse_grad(p, target, weight, dp));
        (loss, gradient)
    }

    fn cross_entropy(
        &self,
        logits: &CpuTensor,
        class: &[u8],
        weight: &[f32],
    ) -> (CpuTensor, CpuTensor) {
        let mut loss = CpuTensor::unset(&[class.len()]);
        losses::cross_entropy(&logits.data, class, &mut loss.data);
        let gradient = map(logits, |l, dl| losses::cross_entropy_grad(l, class, weight, dl));
        (loss, gradient)
    }

    fn adamw(
        &self,
        w: &mut CpuWeight,
        grad: &CpuTensor,
        moments: (&mut CpuTensor, &mut CpuTensor),
        emas: &mut [(&mut CpuTensor, f64)],
        (norm, clip_norm): (&f64, f64),
        options: &AdamW,
    ) {
        let grad_scale = clip(*norm, clip_norm);
        let mut emas: Vec<(&mut [f32], f64)> =
            emas.iter_mut().map(|(e, decay)| (&mut e.data[..], *decay)).collect();
        let (m, v) = (&mut moments.0.data, &mut moments.1.data);
        let (w_values, grad) = (&mut w.value.data, &grad.data);
        timed(Kernel::Optimizer, 0, || {
            adamw::adamw_step(w_values, grad, m, v, &mut emas, grad_scale, options);
        });
        w.packed.invalidate();
    }
}
