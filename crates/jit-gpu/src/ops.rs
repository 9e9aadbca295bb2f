//! The model's operations, each queued on the device.

use jit_model::device::{
    AdamW, Attention, Device, Diffusion, Dropout, Fault, MemoryUse, Modulation, NormGrads,
    Precision,
};
use jit_model::objective::Space;

use crate::coming::Coming;
use crate::device::Gpu;
use crate::kernels::{adamw, elementwise, philox, reduce, tokens as token_kernels};
use crate::launch::{each, rows};
use crate::product::{Extents, Operand, Values};
use crate::tensor::{Block, GpuTensor, GpuWeight, Words};

mod attention;
mod losses;
mod norm;
mod tokens;

/// Rows that one unit sums of a column.
const SHARE: usize = 64;

/// Values of a tensor whose squares one cube sums.
const SQUARES: usize = 1 << 14;

impl Gpu {
    fn with_last(&self, x: &GpuTensor, last: usize) -> GpuTensor {
        let mut shape = x.shape.clone();
        if let Some(axis) = shape.last_mut() {
            *axis = last;
        }
        self.unset(&shape)
    }

    /// `out += Σ_r x[r]`, in groups of rows.
    fn add_column_sums(&self, x: &Block, rows: usize, columns: usize, out: &GpuTensor) {
        let groups = rows.div_ceil(SHARE);
        let partials = self.unset(&[groups, columns]);
        let (x, c) = (x.arg::<f32>(rows * columns), &self.client);
        let (count, dim) = each(groups * columns);
        reduce::column_sums::launch(c, count, dim, x, partials.arg(), rows, columns, SHARE);
        let (count, dim) = each(columns);
        reduce::column_sums_add::launch(c, count, dim, partials.arg(), out.arg(), groups);
    }

    fn streams(&self, dropout: &Dropout) -> Words {
        let words: Vec<u32> = dropout.streams.iter().flat_map(|s| s.words()).collect();
        self.words(&words)
    }
}

/// The smallest 24 random bits, as an integer, that keep an element.
fn threshold(rate: f32) -> u32 {
    (rate * (1u32 << 24) as f32).ceil() as u32
}

/// A gradient's norm: its square on the device, and on its way to the host.
pub struct Norm {
    squares: GpuTensor,
    coming: Coming,
}

impl Device for Gpu {
    type Tensor = GpuTensor;
    type Weight = GpuWeight;
    type Norm = Norm;
    type Coming = Coming;

    fn precision(&self) -> Precision {
        self.precision
    }

    fn runs_ahead(&self) -> bool {
        true
    }

    fn wait(&self) {
        self.settle();
    }

    fn fault(&self) -> Option<Fault> {
        self.first_fault()
    }

    fn memory(&self) -> Option<MemoryUse> {
        Some(MemoryUse { live: self.memory.live(), peak: self.memory.peak() })
    }

    fn upload(&self, data: &[f32], shape: &[usize]) -> GpuTensor {
        assert_eq!(data.len(), shape.iter().product::<usize>(), "upload: data against {shape:?}");
        self.values(data, shape)
    }

    fn download(&self, x: &GpuTensor) -> Vec<f32> {
        self.receive(&self.start_read(x))
    }

    fn start_read(&self, x: &GpuTensor) -> Coming {
        Coming::of(&self.client, x)
    }

    fn receive(&self, coming: &Coming) -> Vec<f32> {
        coming.values().unwrap_or_else(|error| {
            self.failed(&error);
            vec![f32::NAN; coming.len()]
        })
    }

    fn zeros(&self, shape: &[usize]) -> GpuTensor {
        let mut x = self.unset(shape);
        self.clear(&mut x);
        x
    }

    fn clear(&self, x: &mut GpuTensor) {
        let (count, dim) = each(x.len());
        elementwise::fill::launch(&self.client, count, dim, x.arg(), 0.0);
    }

    fn shape<'a>(&self, x: &'a GpuTensor) -> &'a [usize] {
        &x.shape
    }

    fn reshape(&self, mut x: GpuTensor, shape: &[usize]) -> GpuTensor {
        assert_eq!(x.len(), shape.iter().product::<usize>(), "reshape to {shape:?}");
        x.shape = shape.to_vec();
        x
    }

    fn weight(&self, value: GpuTensor) -> GpuWeight {
        // Vectors are never an operand.
        let matrix = value.shape.len() > 1;
        let half = (matrix && self.half.is_some()).then(|| self.rounded(&value));
        GpuWeight { value, half }
    }

    fn value<'a>(&self, w: &'a GpuWeight) -> &'a GpuTensor {
        &w.value
    }

    fn linear(&self, x: &GpuTensor, w: &GpuWeight, bias: Option<&GpuWeight>) -> GpuTensor {
        let ((rows, inputs), (outputs, _)) = (x.rows_columns(), w.outputs_inputs());
        let y = self.with_last(x, outputs);
        let a = Operand::along(self.operand(x), x.len(), 0);
        let b = Operand::along(self.weight_operand(w), w.value.len(), 0);
        let extents = Extents { matrices: 1, m: rows, n: outputs, k: inputs };
        self.multiply(&a, &b, bias.map(|b| &b.value), &y, false, extents);
        y
    }

    fn linear_grad_input(&self, dy: &GpuTensor, w: &GpuWeight) -> GpuTensor {
        let ((rows, _), (outputs, inputs)) = (dy.rows_columns(), w.outputs_inputs());
        let dx = self.with_last(dy, inputs);
        let a = Operand::along(self.operand(dy), dy.len(), 0);
        let b = Operand::across(self.weight_operand(w), w.value.len(), 0);
        let extents = Extents { matrices: 1, m: rows, n: inputs, k: outputs };
        self.multiply(&a, &b, None, &dx, false, extents);
        dx
    }

    fn linear_grad_weight(
        &self,
        x: &GpuTensor,
        dy: &GpuTensor,
        dw: &mut GpuTensor,
        db: Option<&mut GpuTensor>,
    ) {
        let ((rows, inputs), (_, outputs)) = (x.rows_columns(), dy.rows_columns());
        let a = Operand::across(self.operand(dy), dy.len(), 0);
        let b = Operand::across(self.operand(x), x.len(), 0);
        let extents = Extents { matrices: 1, m: outputs, n: inputs, k: rows };
        self.multiply(&a, &b, None, dw, true, extents);
        if let Some(db) = db {
            self.add_column_sums(&dy.block, rows, outputs, db);
        }
    }

    fn rms_norm_modulate(
        &self,
        x: &GpuTensor,
        weight: &GpuWeight,
        m: Modulation<'_, GpuTensor>,
    ) -> GpuTensor {
        self.normed(x, weight, &m)
    }

    fn rms_norm_modulate_grad(
        &self,
        x: &GpuTensor,
        weight: &GpuWeight,
        m: Modulation<'_, GpuTensor>,
        dy: &GpuTensor,
        dx: &mut GpuTensor,
        dweight: &mut GpuTensor,
        dmod: &mut GpuTensor,
    ) {
        self.normed_grad(x, weight, &m, dy, dx, dweight, dmod)
    }

    fn attention(&self, qkv: &GpuTensor, a: Attention<'_, Self>) -> (GpuTensor, GpuTensor) {
        self.attend(qkv, &a)
    }

    fn attention_grad(
        &self,
        qkv: &GpuTensor,
        a: Attention<'_, Self>,
        out: &GpuTensor,
        lse: &GpuTensor,
        dout: &GpuTensor,
        dnorm: NormGrads<'_, GpuTensor>,
    ) -> GpuTensor {
        self.attend_grad(qkv, &a, out, lse, dout, dnorm)
    }

    fn swiglu(&self, h: &GpuTensor) -> GpuTensor {
        let (_, columns) = h.rows_columns();
        let out = self.with_last(h, columns / 2);
        let (count, dim) = each(out.len());
        elementwise::swiglu::launch(&self.client, count, dim, h.arg(), out.arg(), columns / 2);
        out
    }

    fn swiglu_grad(&self, h: &GpuTensor, dy: &GpuTensor) -> (GpuTensor, GpuTensor) {
        let (_, m) = dy.rows_columns();
        let (dh, out) = (self.unset(&h.shape), self.unset(&dy.shape));
        let (count, dim) = each(out.len());
        let (h, dy) = (h.arg(), dy.arg());
        elementwise::swiglu_grad::launch(&self.client, count, dim, h, dy, dh.arg(), out.arg(), m);
        (dh, out)
    }

    fn silu(&self, x: &GpuTensor) -> GpuTensor {
        let y = self.unset(&x.shape);
        let (count, dim) = each(x.len());
        elementwise::silu::launch(&self.client, count, dim, x.arg(), y.arg());
        y
    }

    fn silu_grad(&self, x: &GpuTensor, dy: &GpuTensor) -> GpuTensor {
        let dx = self.unset(&x.shape);
        let (count, dim) = each(x.len());
        elementwise::silu_grad::launch(&self.client, count, dim, x.arg(), dy.arg(), dx.arg());
        dx
    }

    fn gelu(&self, x: &GpuTensor) -> GpuTensor {
        let y = self.unset(&x.shape);
        let (count, dim) = each(x.len());
        elementwise::gelu::launch(&self.client, count, dim, x.arg(), y.arg());
        y
    }

    fn gelu_grad(&self, x: &GpuTensor, dy: &GpuTensor) -> GpuTensor {
        let dx = self.unset(&x.shape);
        let (count, dim) = each(x.len());
        elementwise::gelu_grad::launch(&self.client, count, dim, x.arg(), dy.arg(), dx.arg());
        dx
    }

    fn gated_residual(
        &self,
        x: &GpuTensor,
        y: &GpuTensor,
        mods: &GpuTensor,
        index: usize,
    ) -> GpuTensor {
        let ((_, n, d), (_, stride)) = (x.tokens(), mods.rows_columns());
        let out = self.unset(&x.shape);
        let (count, dim) = each(x.len());
        elementwise::gated_residual::launch(
            &self.client,
            count,
            dim,
            x.arg(),
            y.arg(),
            mods.arg(),
            out.arg(),
            n,
            d,
            stride,
            index * d,
        );
        out
    }

    fn gated_residual_grad(
        &self,
        y: &GpuTensor,
        mods: &GpuTensor,
        index: usize,
        dout: &GpuTensor,
        dmod: &mut GpuTensor,
    ) -> GpuTensor {
        let ((b, n, d), (_, stride)) = (y.tokens(), mods.rows_columns());
        let dy = self.unset(&y.shape);
        let (count, dim) = each(b * d);
        elementwise::gated_residual_grad::launch(
            &self.client,
            count,
            dim,
            y.arg(),
            mods.arg(),
            dout.arg(),
            dy.arg(),
            dmod.arg(),
            b,
            n,
            d,
            stride,
            index * d,
        );
        dy
    }

    fn dropout(&self, x: GpuTensor, dropout: &Dropout) -> GpuTensor {
        let out = self.unset(&x.shape);
        let (count, dim) = each(x.len());
        philox::dropout::launch(
            &self.client,
            count,
            dim,
            x.arg(),
            self.streams(dropout).arg(),
            out.arg(),
            x.len() / dropout.streams.len(),
            threshold(dropout.rate),
            1.0 / (1.0 - dropout.rate),
        );
        out
    }

    fn patchify(&self, x: &GpuTensor, patch: usize) -> GpuTensor {
        self.cut(x, patch, false)
    }

    fn unpatchify(&self, x: &GpuTensor, channels: usize, patch: usize) -> GpuTensor {
        self.assembled(x, channels, patch)
    }

    fn unpatchify_grad(&self, dx: &GpuTensor, patch: usize) -> GpuTensor {
        self.cut(dx, patch, true)
    }

    fn add_rows(&self, x: GpuTensor, rows: &GpuTensor) -> GpuTensor {
        let (count, dim) = each(x.len());
        elementwise::add_rows_in_place::launch(&self.client, count, dim, x.arg(), rows.arg());
        x
    }

    fn add_rows_grad(&self, dy: &GpuTensor, drows: &mut GpuTensor) {
        let (count, dim) = each(drows.len());
        let images = dy.len() / drows.len();
        let (dy, drows) = (dy.arg(), drows.arg());
        reduce::column_sums_add::launch(&self.client, count, dim, dy, drows, images);
    }

    fn gather_rows(&self, table: &GpuTensor, indices: &[u32]) -> GpuTensor {
        self.gathered(table, indices)
    }

    fn gather_rows_grad(&self, dy: &GpuTensor, indices: &[u32], dtable: &mut GpuTensor) {
        self.gathered_grad(dy, indices, dtable)
    }

    fn concat_tokens(&self, a: &GpuTensor, b: &GpuTensor) -> GpuTensor {
        self.joined(a, b)
    }

    fn split_tokens(&self, x: &GpuTensor, n: usize) -> (GpuTensor, GpuTensor) {
        self.parted(x, n)
    }

    fn mean_tokens(&self, x: &GpuTensor) -> GpuTensor {
        let (b, n, d) = x.tokens();
        let out = self.unset(&[b, d]);
        let (count, dim) = each(b * d);
        token_kernels::mean_tokens::launch(&self.client, count, dim, x.arg(), out.arg(), n, d);
        out
    }

    fn mean_tokens_grad(&self, dy: &GpuTensor, dx: &mut GpuTensor) {
        let (_, n, d) = dx.tokens();
        let (count, dim) = each(dx.len());
        token_kernels::mean_tokens_grad::launch(&self.client, count, dim, dy.arg(), dx.arg(), n, d);
    }

    fn rot90(&self, x: &GpuTensor, k: &[u8]) -> GpuTensor {
        self.turned(x, k)
    }

    fn add_assign(&self, x: &mut GpuTensor, y: &GpuTensor) {
        let (count, dim) = each(x.len());
        elementwise::add_assign::launch(&self.client, count, dim, x.arg(), y.arg());
    }

    fn axpby(&self, a: f32, x: &GpuTensor, b: f32, y: &GpuTensor) -> GpuTensor {
        let out = self.unset(&x.shape);
        let (count, dim) = each(x.len());
        elementwise::axpby::launch(&self.client, count, dim, x.arg(), y.arg(), out.arg(), a, b);
        out
    }

    fn interpolate(&self, x: &GpuTensor, noise: &GpuTensor, t: &[f32]) -> GpuTensor {
        self.mixed(x, noise, t)
    }

    fn convert(
        &self,
        prediction: &GpuTensor,
        z: &GpuTensor,
        t: &[f32],
        t_eps: f32,
        from: Space,
        to: Space,
    ) -> GpuTensor {
        self.converted(prediction, z, t, t_eps, from, to)
    }

    fn diffusion_loss(&self, net: &GpuTensor, d: Diffusion<'_, GpuTensor>) -> GpuTensor {
        self.image_losses(net, d)
    }

    fn diffusion_loss_grad(
        &self,
        net: &GpuTensor,
        d: Diffusion<'_, GpuTensor>,
        weight: &[f32],
    ) -> GpuTensor {
        self.image_losses_grad(net, d, weight)
    }

    fn squared_error(
        &self,
        prediction: &GpuTensor,
        target: &[f32],
        weight: &[f32],
    ) -> (GpuTensor, GpuTensor) {
        self.squared_errors(prediction, target, weight)
    }

    fn cross_entropy(
        &self,
        logits: &GpuTensor,
        class: &[u8],
        weight: &[f32],
    ) -> (GpuTensor, GpuTensor) {
        self.cross_entropies(logits, class, weight)
    }

    fn norm(&self, tensors: &[&GpuTensor]) -> Norm {
        let shares = |x: &GpuTensor| x.len().div_ceil(SQUARES).max(1);
        let partials = self.unset(&[tensors.iter().map(|x| shares(x)).sum::<usize>().max(1)]);
        let mut first = 0;
        for x in tensors {
            let (count, dim) = rows(shares(x));
            let (from, to) = (x.arg(), partials.arg());
            reduce::square_sums::launch(&self.client, count, dim, from, to, SQUARES, first);
            first += shares(x);
        }
        let sum = self.unset(&[1]);
        let (count, dim) = rows(1);
        reduce::total::launch(&self.client, count, dim, partials.arg(), sum.arg());
        Norm { coming: self.start_read(&sum), squares: sum }
    }

    fn read_norm(&self, norm: &Norm) -> f64 {
        let squares = self.receive(&norm.coming);
        f64::from(squares.first().copied().unwrap_or(f32::NAN)).sqrt()
    }

    fn adamw(
        &self,
        w: &mut GpuWeight,
        grad: &GpuTensor,
        moments: (&mut GpuTensor, &mut GpuTensor),
        emas: &mut [(&mut GpuTensor, f64)],
        (norm, clip_norm): (&Norm, f64),
        options: &AdamW,
    ) {
        let step = adamw::StepLaunch::new(
            (1.0 - options.lr * options.weight_decay) as f32,
            options.beta1 as f32,
            (1.0 - options.beta1) as f32,
            options.beta2 as f32,
            (1.0 - options.beta2) as f32,
            (options.lr / options.bias1) as f32,
            (1.0 / options.bias2.sqrt()) as f32,
            options.eps as f32,
            clip_norm as f32,
        );
        let (c, len) = (&self.client, w.value.len());
        let (count, dim) = each(len);
        let (m, v) = (moments.0.arg(), moments.1.arg());
        adamw::adamw::launch(
            c,
            count,
            dim,
            w.value.arg(),
            grad.arg(),
            m,
            v,
            norm.squares.arg(),
            step,
        );
        for (ema, decay) in emas {
            let (count, dim) = each(len);
            let (p, rest) = (w.value.arg(), (1.0 - *decay) as f32);
            adamw::average::launch(c, count, dim, p, ema.arg(), *decay as f32, rest);
        }
        if w.half.is_some() {
            w.half = Some(self.rounded(&w.value));
        }
    }
}

impl Gpu {
    fn weight_operand<'a>(&self, w: &'a GpuWeight) -> Values<'a> {
        match &w.half {
            Some(half) => Values::Borrowed(half),
            None => self.operand(&w.value),
        }
    }
}
