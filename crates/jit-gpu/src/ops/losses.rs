//! The objective: what is noised, converted, and compared.

use jit_model::device::Diffusion;
use jit_model::objective::Space;

use crate::device::Gpu;
use crate::kernels::losses;
use crate::launch::{each, rows};
use crate::tensor::GpuTensor;

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

impl Gpu {
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

    pub(super) fn mixed(&self, x: &GpuTensor, noise: &GpuTensor, t: &[f32]) -> GpuTensor {
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

    pub(super) fn converted(
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

    pub(super) fn image_losses(&self, net: &GpuTensor, d: Diffusion<'_, GpuTensor>) -> GpuTensor {
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

    pub(super) fn image_losses_grad(
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

    pub(super) fn squared_errors(
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

    pub(super) fn cross_entropies(
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
}
