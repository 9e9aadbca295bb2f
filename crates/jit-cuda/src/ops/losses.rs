//! The objective.

use jit_core::rng::Stream;
use jit_model::device::Diffusion;
use jit_model::objective::Space;

use crate::backend::Dtype;
use crate::device::Cuda;
use crate::launch::Call;
use crate::tensor::CudaTensor;

/// Values of an image whose errors a block sums.
const VALUES: usize = 1 << 14;

/// As the kernels number them.
fn number(space: Space) -> usize {
    match space {
        Space::X => 0,
        Space::Eps => 1,
        Space::V => 2,
    }
}

impl Cuda {
    /// `scale` times standard normal numbers, those of a stream for each image: `shape` is `[B, …]`.
    pub(super) fn normal_noise(
        &self,
        streams: &[Stream],
        scale: f32,
        shape: &[usize],
    ) -> CudaTensor {
        assert_eq!(shape.first(), Some(&streams.len()), "a stream for each image");
        let words = self.streams(streams);
        let mut out = self.unset(shape, Dtype::F32);
        let n = out.len();
        let call = self.kernel("normal_noise").write(&mut out).block(&words).float(scale);
        self.each(call.long(n / streams.len().max(1)).long(n), n);
        out
    }

    /// `t·x + (1 − t)·ε`
    pub(super) fn noised(&self, x: &CudaTensor, noise: &CudaTensor, t: &[f32]) -> CudaTensor {
        let (n, t, mut z) = (x.len(), self.floats(t), self.unset_like(x));
        let per_image = n / x.shape[0].max(1);
        let call = self.kernel("interpolate").read(x).read(noise).block(&t).write(&mut z);
        self.each(call.long(per_image).long(n), n);
        z
    }

    /// A prediction in another space
    pub(super) fn converted(
        &self,
        prediction: &CudaTensor,
        z: &CudaTensor,
        t: &[f32],
        t_eps: f32,
        from: Space,
        to: Space,
    ) -> CudaTensor {
        let prediction = self.in_dtype(prediction, Dtype::F32);
        let (n, times, mut out) = (prediction.len(), self.floats(t), self.unset_like(&prediction));
        let call =
            self.kernel("convert_space").read(&prediction).read(z).block(&times).float(t_eps);
        let call = call.int(number(from)).int(number(to)).write(&mut out);
        self.each(call.long(n / t.len().max(1)).long(n), n);
        out
    }

    /// `[B]`
    pub(super) fn image_losses(
        &self,
        net: &CudaTensor,
        d: &Diffusion<'_, CudaTensor>,
    ) -> CudaTensor {
        let net = self.in_dtype(net, Dtype::F32);
        let batch = d.t.len();
        let per_image = net.len() / batch.max(1);
        let chunks = per_image.div_ceil(VALUES);
        let t = self.floats(d.t);
        let mut partial = self.unset(&[batch, chunks], Dtype::F32);
        let call = self.kernel("diffusion_loss").read(&net).read(d.z).read(d.x).read(d.noise);
        let call = call.block(&t).float(d.t_eps).int(number(d.output)).int(number(d.loss));
        call.write(&mut partial).long(per_image).grid([chunks, batch, 1]).run();
        let mut out = self.unset(&[batch], Dtype::F32);
        let call = self.kernel("diffusion_loss_finish").read(&partial).write(&mut out);
        let call = call.int(batch).int(chunks).float(1.0 / per_image as f32);
        call.grid([batch.div_ceil(256), 1, 1]).run();
        out
    }

    /// Of `Σ_b weight[b]·loss_b`
    pub(super) fn image_losses_grad(
        &self,
        net: &CudaTensor,
        d: &Diffusion<'_, CudaTensor>,
        weight: &[f32],
    ) -> CudaTensor {
        let net = self.in_dtype(net, Dtype::F32);
        let (n, t, weight) = (net.len(), self.floats(d.t), self.floats(weight));
        let mut dnet = self.unset_like(&net);
        let call = self.kernel("diffusion_loss_grad").read(&net).read(d.z).read(d.x).read(d.noise);
        let call = call.block(&t).float(d.t_eps).int(number(d.output)).int(number(d.loss));
        let call = call.block(&weight).write(&mut dnet);
        self.each(call.long(n / d.t.len().max(1)).long(n), n);
        dnet
    }

    /// `[B, 1]` against `[B]`
    pub(super) fn squared_errors(
        &self,
        prediction: &CudaTensor,
        target: &[f32],
        weight: &[f32],
    ) -> (CudaTensor, CudaTensor) {
        let batch = target.len();
        let prediction = self.in_dtype(prediction, Dtype::F32);
        let target = self.floats(target);
        self.loss_and_gradient(&prediction, batch, |loss, grad| {
            let weight = self.floats(weight);
            let call = self.kernel("squared_error").read(&prediction).block(&target).block(&weight);
            self.each(call.write(loss).write(grad).int(batch), batch);
        })
    }

    /// Logits `[B, K]`
    pub(super) fn cross_entropies(
        &self,
        logits: &CudaTensor,
        class: &[u8],
        weight: &[f32],
    ) -> (CudaTensor, CudaTensor) {
        let logits = self.in_dtype(logits, Dtype::F32);
        let (batch, classes) = logits.rows_columns();
        assert!(class.iter().all(|&k| usize::from(k) < classes), "a class beyond {classes}");
        let target = self.ints(class.iter().map(|&k| i32::from(k)));
        self.loss_and_gradient(&logits, batch, |loss, grad| {
            let weight = self.floats(weight);
            let call: Call<'_> = self.kernel("cross_entropy").read(&logits).block(&target);
            let call = call.block(&weight).write(loss).write(grad).int(batch).int(classes);
            call.grid([batch.div_ceil(8), 1, 1]).run();
        })
    }

    fn loss_and_gradient(
        &self,
        prediction: &CudaTensor,
        batch: usize,
        launch: impl FnOnce(&mut CudaTensor, &mut CudaTensor),
    ) -> (CudaTensor, CudaTensor) {
        let mut loss = self.unset(&[batch], Dtype::F32);
        let mut grad = self.unset_like(prediction);
        launch(&mut loss, &mut grad);
        (loss, grad)
    }
}
