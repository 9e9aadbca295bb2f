//! The model's operations, each queued on the device.

use jit_model::device::{
    AdamW, Attention, Device, Diffusion, Dropout, Fault, MemoryUse, Modulation, NormGrads,
    Precision,
};
use jit_model::objective::Space;

use crate::coming::Coming;
use crate::device::Gpu;
use crate::kernels::{adamw, elementwise, losses, norm, philox, reduce, tokens};
use crate::launch::{each, rows};
use crate::product::{Extents, Operand, Values};
use crate::tensor::{Block, GpuTensor, GpuWeight, Words};

mod attention;

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

    fn place(m: &Modulation<'_, GpuTensor>, dim: usize) -> norm::PlaceLaunch {
        let (_, stride) = m.vectors.rows_columns();
        norm::PlaceLaunch::new(stride, m.shift * dim, m.scale * dim)
    }

    /// What a loss compares: the target of the space, and how the output and the target come to it.
    fn errors<'a>(&self, d: &Diffusion<'a, GpuTensor>) -> (&'a GpuTensor, GpuTensor, GpuTensor) {
        let by = self.conversions(d.output, d.loss, d.t, d.t_eps);
        let (target, space) = match d.loss {
            Space::X => (d.x, Space::X),
            Space::Eps => (d.noise, Space::Eps),
            Space::V => (d.x, Space::X),
        };
        (target, by, self.conversions(space, d.loss, d.t, d.t_eps))
    }

    fn conversions(&self, from: Space, to: Space, t: &[f32], t_eps: f32) -> GpuTensor {
        let rows: Vec<f32> = t.iter().flat_map(|&t| conversion(from, to, t, t_eps)).collect();
        self.values(&rows, &[t.len(), 3])
    }
}

/// A conversion between spaces, `(a·net + b·z)/divisor`, with both denominators kept at or above
/// `t_eps` (the table of Li & He 2025).
fn conversion(from: Space, to: Space, t: f32, t_eps: f32) -> [f32; 3] {
    let d = (1.0 - t).max(t_eps);
    match (from, to) {
        (Space::X, Space::X) | (Space::Eps, Space::Eps) | (Space::V, Space::V) => [1.0, 0.0, 1.0],
        (Space::X, Space::Eps) => [-t, 1.0, d],
        (Space::X, Space::V) => [1.0, -1.0, d],
        (Space::Eps, Space::X) => [-(1.0 - t), 1.0, t.max(t_eps)],
        (Space::Eps, Space::V) => [-1.0, 1.0, t.max(t_eps)],
        (Space::V, Space::X) => [1.0 - t, 1.0, 1.0],
        (Space::V, Space::Eps) => [-t, 1.0, 1.0],
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
        self.precision_of_products()
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
        let (b, n, d) = x.tokens();
        let y = self.unset(&x.shape);
        let (count, dim) = rows(b * n);
        norm::rms_norm_modulate::launch(
            &self.client,
            count,
            dim,
            x.arg(),
            weight.value.arg(),
            m.vectors.arg(),
            y.arg(),
            n,
            d,
            Self::place(&m, d),
        );
        y
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
        let (b, n, d) = x.tokens();
        let (c, w, mods) = (&self.client, &weight.value, m.vectors);
        let inverse = self.unset(&[b, n]);
        let (count, dim) = rows(b * n);
        norm::rms_norm_modulate_dx::launch(
            c,
            count,
            dim,
            x.arg(),
            w.arg(),
            mods.arg(),
            dy.arg(),
            dx.arg(),
            inverse.arg(),
            n,
            d,
            Self::place(&m, d),
        );
        let per_image = self.unset(&[b, d]);
        let (count, dim) = each(b * d);
        norm::rms_norm_modulate_dmod::launch(
            c,
            count,
            dim,
            x.arg(),
            w.arg(),
            mods.arg(),
            dy.arg(),
            inverse.arg(),
            dmod.arg(),
            per_image.arg(),
            n,
            d,
            Self::place(&m, d),
        );
        self.add_column_sums(&per_image.block, b, d, dweight);
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
        let (b, n, _) = x.tokens();
        let side = n.isqrt() * patch;
        let out = self.unset(&[b, channels, side, side]);
        let (count, dim) = each(x.len());
        let (from, to) = (x.arg(), out.arg());
        tokens::unpatchify::launch(&self.client, count, dim, from, to, channels, side, patch);
        out
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

    fn gather_rows_grad(&self, dy: &GpuTensor, indices: &[u32], dtable: &mut GpuTensor) {
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

    fn concat_tokens(&self, a: &GpuTensor, b: &GpuTensor) -> GpuTensor {
        let ((batch, n, d), (_, m, _)) = (a.tokens(), b.tokens());
        let out = self.unset(&[batch, n + m, d]);
        self.copy_tokens((a, 0), (&out, 0), n);
        self.copy_tokens((b, 0), (&out, n), m);
        out
    }

    fn split_tokens(&self, x: &GpuTensor, n: usize) -> (GpuTensor, GpuTensor) {
        let (batch, all, d) = x.tokens();
        let (first, rest) = (self.unset(&[batch, n, d]), self.unset(&[batch, all - n, d]));
        self.copy_tokens((x, 0), (&first, 0), n);
        self.copy_tokens((x, n), (&rest, 0), all - n);
        (first, rest)
    }

    fn mean_tokens(&self, x: &GpuTensor) -> GpuTensor {
        let (b, n, d) = x.tokens();
        let out = self.unset(&[b, d]);
        let (count, dim) = each(b * d);
        tokens::mean_tokens::launch(&self.client, count, dim, x.arg(), out.arg(), n, d);
        out
    }

    fn mean_tokens_grad(&self, dy: &GpuTensor, dx: &mut GpuTensor) {
        let (_, n, d) = dx.tokens();
        let (count, dim) = each(dx.len());
        tokens::mean_tokens_grad::launch(&self.client, count, dim, dy.arg(), dx.arg(), n, d);
    }

    fn rot90(&self, x: &GpuTensor, k: &[u8]) -> GpuTensor {
        let (_, channels, side) = x.images();
        let out = self.unset(&x.shape);
        let turns = self.words(&k.iter().map(|&k| u32::from(k)).collect::<Vec<_>>());
        let (count, dim) = each(x.len());
        let (from, to) = (x.arg(), out.arg());
        tokens::rot90::launch(&self.client, count, dim, from, turns.arg(), to, channels, side);
        out
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
        let z = self.unset(&x.shape);
        let (count, dim) = each(x.len());
        let (times, pixels) = (self.values(t, &[t.len()]), x.len() / t.len());
        let (x, noise) = (x.arg(), noise.arg());
        losses::interpolate::launch(
            &self.client,
            count,
            dim,
            x,
            noise,
            times.arg(),
            z.arg(),
            pixels,
        );
        z
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
        let out = self.unset(&prediction.shape);
        let (count, dim) = each(out.len());
        let (rows, pixels) = (self.conversions(from, to, t, t_eps), out.len() / t.len());
        let (net, z) = (prediction.arg(), z.arg());
        losses::convert::launch(&self.client, count, dim, net, z, rows.arg(), out.arg(), pixels);
        out
    }

    fn diffusion_loss(&self, net: &GpuTensor, d: Diffusion<'_, GpuTensor>) -> GpuTensor {
        let (target, by, target_by) = self.errors(&d);
        let loss = self.unset(&[d.t.len()]);
        let (count, dim) = rows(d.t.len());
        losses::diffusion_loss::launch(
            &self.client,
            count,
            dim,
            net.arg(),
            d.z.arg(),
            target.arg(),
            by.arg(),
            target_by.arg(),
            loss.arg(),
            net.len() / d.t.len(),
        );
        loss
    }

    fn diffusion_loss_grad(
        &self,
        net: &GpuTensor,
        d: Diffusion<'_, GpuTensor>,
        weight: &[f32],
    ) -> GpuTensor {
        let (target, by, target_by) = self.errors(&d);
        let pixels = net.len() / d.t.len();
        let factor = |(&t, &weight): (&f32, &f32)| {
            let [a, _, divisor] = conversion(d.output, d.loss, t, d.t_eps);
            2.0 * weight / pixels as f32 * a / divisor
        };
        let factors: Vec<f32> = d.t.iter().zip(weight).map(factor).collect();
        let dnet = self.unset(&net.shape);
        let (count, dim) = each(net.len());
        losses::diffusion_loss_grad::launch(
            &self.client,
            count,
            dim,
            net.arg(),
            d.z.arg(),
            target.arg(),
            by.arg(),
            target_by.arg(),
            self.values(&factors, &[factors.len()]).arg(),
            dnet.arg(),
            pixels,
        );
        dnet
    }

    fn squared_error(
        &self,
        prediction: &GpuTensor,
        target: &[f32],
        weight: &[f32],
    ) -> (GpuTensor, GpuTensor) {
        let b = target.len();
        let (loss, gradient) = (self.unset(&[b]), self.unset(&prediction.shape));
        let (count, dim) = each(b);
        losses::squared_error::launch(
            &self.client,
            count,
            dim,
            prediction.arg(),
            self.values(target, &[b]).arg(),
            self.values(weight, &[b]).arg(),
            loss.arg(),
            gradient.arg(),
        );
        (loss, gradient)
    }

    fn cross_entropy(
        &self,
        logits: &GpuTensor,
        class: &[u8],
        weight: &[f32],
    ) -> (GpuTensor, GpuTensor) {
        let b = class.len();
        let (loss, gradient) = (self.unset(&[b]), self.unset(&logits.shape));
        let truth = self.words(&class.iter().map(|&c| u32::from(c)).collect::<Vec<_>>());
        let (count, dim) = each(b);
        losses::cross_entropy::launch(
            &self.client,
            count,
            dim,
            logits.arg(),
            truth.arg(),
            self.values(weight, &[b]).arg(),
            loss.arg(),
            gradient.arg(),
            logits.len() / b,
        );
        (loss, gradient)
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

    fn cut(&self, x: &GpuTensor, patch: usize, channel_last: bool) -> GpuTensor {
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
}
