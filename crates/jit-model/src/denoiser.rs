//! The network with its objective: `L = L_diff + λ·L_aux` and its gradient (spec §2).

use std::ops::Range;

use jit_core::rng::Stream;

use crate::aux_head::AuxHead;
use crate::config::ModelConfig;
use crate::device::{Device, Diffusion};
use crate::dropout::DropoutKeys;
use crate::flow::Guided;
use crate::net::{Finished, Keep, Mode, Net, Rope};
use crate::objective::{Auxiliary, ObjectiveConfig, RotationKind};
use crate::params::{Grads, Params, Registry};
use crate::sampler::{SampleConfig, Sampler};

/// A network, its auxiliary head and its objective.
pub struct Denoiser<D: Device> {
    net: Net,
    head: Option<AuxHead>,
    objective: ObjectiveConfig,
    rope: Rope<D::Tensor>,
}

/// The noise of a micro-batch.
#[derive(Clone, Copy, Debug)]
pub enum Noise<'a> {
    /// Already scaled, `[B, C, S, S]`.
    Given(&'a [f32]),
    /// `scale` times what a stream for each image gives, `[B]`: drawn on the device.
    Drawn {
        /// One for each image.
        streams: &'a [Stream],
        /// Standard deviation.
        scale: f32,
    },
}

impl<'a> Noise<'a> {
    /// That of some images of a batch, `pixels` values each.
    pub fn of(self, images: Range<usize>, pixels: usize) -> Noise<'a> {
        match self {
            Noise::Given(x) => Noise::Given(&x[images.start * pixels..images.end * pixels]),
            Noise::Drawn { streams, scale } => Noise::Drawn { streams: &streams[images], scale },
        }
    }
}

/// One micro-batch.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Clean images in [-1, 1], `[B, C, S, S]`.
    pub x: &'a [f32],
    /// Noise ε.
    pub noise: Noise<'a>,
    /// Times in [0, 1], `[B]`.
    pub t: &'a [f32],
    /// Labels, the null class where dropped, `[B]`.
    pub labels: &'a [u32],
    /// Quarter turns of the rotation loss, `[B]`; empty where there is none.
    pub rotation: &'a [u8],
}

/// What a training pass computed. Everything stays on the device until it is asked for.
pub struct Losses<T> {
    /// Diffusion loss of each image, `[B]`.
    pub diffusion: T,
    /// The network's output, `[B, C, S, S]`.
    pub output: T,
    /// Noised images, `[B, C, S, S]`.
    pub z: T,
    /// The auxiliary loss, where there is one.
    pub auxiliary: Option<AuxLosses<T>>,
}

/// What the auxiliary loss computed.
pub struct AuxLosses<T> {
    /// Auxiliary loss of each image, `[B]`.
    pub loss: T,
    /// The head's output, `[B, 1]` or `[B, 4]`.
    pub prediction: T,
    /// The feature that it read, `[B, D]`.
    pub feature: T,
    /// The rotated z of the `second-pass` variant.
    pub z_rotated: Option<T>,
}

impl<D: Device> Denoiser<D> {
    /// Declares the network and, where the objective has one, its auxiliary head.
    pub fn new(dev: &D, model: &ModelConfig, objective: &ObjectiveConfig) -> Self {
        let mut net = Net::new(model);
        let (auxiliary, kind) = (objective.auxiliary, objective.auxiliary_head);
        let head = AuxHead::new(net.registry_mut(), model, auxiliary, kind);
        Self { rope: net.rope(dev), net, head, objective: objective.clone() }
    }

    /// The network alone.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// The rotary tables on the device.
    pub fn rope(&self) -> &Rope<D::Tensor> {
        &self.rope
    }

    /// The objective.
    pub fn objective(&self) -> &ObjectiveConfig {
        &self.objective
    }

    /// A sampler that draws with these parameters.
    pub fn sampler<'a>(
        &'a self,
        dev: &'a D,
        params: &'a Params<D>,
        config: &'a SampleConfig,
    ) -> Sampler<'a, D> {
        let (net, rope, objective) = (&self.net, &self.rope, &self.objective);
        let model = net.config();
        let noise_scale = objective.noise_scale(model);
        let flow = Box::new(Guided { dev, net, params, rope, objective, config });
        Sampler { dev, flow, model, noise_scale, config }
    }

    /// All parameters, the head's among them.
    pub fn registry(&self) -> &Registry {
        self.net.registry()
    }

    /// The losses of a micro-batch, without gradients.
    pub fn losses(&self, dev: &D, p: &Params<D>, batch: Batch<'_>) -> Losses<D::Tensor> {
        let mut none = Grads::zeros(dev, &Registry::default());
        let mode = Mode { keep: Keep::Nothing, ..Mode::default() };
        self.pass(dev, p, &mut none, batch, None, mode, &mut |_, _| {})
    }

    /// The losses of a micro-batch; adds the gradient of `Σ_b weight[b]·(L_diff,b + λ·L_aux,b)`.
    ///
    /// With `weight` = 1 / (global batch) for every image the gradients of all micro-batches add
    /// up to that of one large batch, whatever their sizes.
    pub fn losses_and_grads(
        &self,
        dev: &D,
        p: &Params<D>,
        g: &mut Grads<D>,
        batch: Batch<'_>,
        weight: &[f32],
        mode: Mode<'_>,
    ) -> Losses<D::Tensor> {
        self.pass(dev, p, g, batch, Some(weight), mode, &mut |_, _| {})
    }

    /// As [`Denoiser::losses_and_grads`] for the last micro-batch of a step: `finished` hears which
    /// gradients, the heads' among them, are final while those of earlier layers are still computed.
    pub fn losses_and_final_grads(
        &self,
        dev: &D,
        p: &Params<D>,
        g: &mut Grads<D>,
        batch: Batch<'_>,
        weight: &[f32],
        mode: Mode<'_>,
        finished: Finished<'_, D>,
    ) -> Losses<D::Tensor> {
        self.pass(dev, p, g, batch, Some(weight), mode, finished)
    }

    fn pass(
        &self,
        dev: &D,
        p: &Params<D>,
        g: &mut Grads<D>,
        batch: Batch<'_>,
        weight: Option<&[f32]>,
        mode: Mode<'_>,
        finished: Finished<'_, D>,
    ) -> Losses<D::Tensor> {
        let c = self.net.config();
        let shape = [batch.t.len(), c.channels, c.image_size, c.image_size];
        let mut x = dev.upload(batch.x, &shape);
        let rotation =
            (self.objective.auxiliary == Auxiliary::Rotation).then_some(self.objective.rotation);
        if rotation == Some(RotationKind::InPlace) {
            x = dev.rot90(&x, batch.rotation);
        }
        let noise = match batch.noise {
            Noise::Given(noise) => dev.upload(noise, &shape),
            Noise::Drawn { streams, scale } => dev.normal(streams, scale, &shape),
        };
        let z = dev.interpolate(&x, &noise, batch.t);
        let (output, saved) = self.net.forward(dev, p, &self.rope, &z, batch.t, batch.labels, mode);

        let terms = Diffusion {
            z: &z,
            x: &x,
            noise: &noise,
            t: batch.t,
            t_eps: self.objective.t_eps,
            output: self.objective.prediction,
            loss: self.objective.loss,
        };
        let diffusion = dev.diffusion_loss(&output, terms);
        let doutput = weight.map(|w| dev.diffusion_loss_grad(&output, terms, w));

        let shares_pass = rotation != Some(RotationKind::SecondPass);
        let head = self.head.as_ref();
        let mut auxiliary = head.filter(|_| shares_pass).map(|head| {
            let feature = self.net.feature(dev, &saved);
            self.auxiliary(dev, p, g, head, feature, batch, weight)
        });
        if let Some(doutput) = &doutput {
            let dfeature = auxiliary.as_ref().and_then(|(_, d)| d.as_ref());
            // With a second pass nothing is final before that one adds its part.
            let mut not_yet = |_: &Grads<D>, _| {};
            let finished: Finished<'_, D> =
                if head.is_none() || shares_pass { &mut *finished } else { &mut not_yet };
            self.net.backward(dev, p, g, &self.rope, saved, Some(doutput), dfeature, finished);
        }
        if let (Some(head), false) = (head, shares_pass) {
            auxiliary = Some(self.second_pass(dev, p, g, head, &z, batch, weight, mode, finished));
        }
        let auxiliary = auxiliary.map(|(losses, _)| losses);
        Losses { diffusion, output, z, auxiliary }
    }

    /// The head's loss on a feature and, when training, the gradient of that feature.
    fn auxiliary(
        &self,
        dev: &D,
        p: &Params<D>,
        g: &mut Grads<D>,
        head: &AuxHead,
        feature: D::Tensor,
        batch: Batch<'_>,
        weight: Option<&[f32]>,
    ) -> (AuxLosses<D::Tensor>, Option<D::Tensor>) {
        let lambda = self.objective.auxiliary_weight;
        let weight = weight.map(|w| w.iter().map(|w| w * lambda).collect::<Vec<_>>());
        let zeros = vec![0.0; batch.t.len()];
        let scale = weight.as_deref().unwrap_or(&zeros);
        let (prediction, saved) = head.forward(dev, p, feature);
        let (loss, dprediction) = match self.objective.auxiliary {
            Auxiliary::Rotation => dev.cross_entropy(&prediction, batch.rotation, scale),
            Auxiliary::Time | Auxiliary::None => dev.squared_error(&prediction, batch.t, scale),
        };
        let dfeature = weight.is_some().then(|| head.backward(dev, p, g, &saved, &dprediction));
        let feature = AuxHead::feature(saved);
        (AuxLosses { loss, prediction, feature, z_rotated: None }, dfeature)
    }

    /// The network on the rotated z, seen by the auxiliary loss alone.
    fn second_pass(
        &self,
        dev: &D,
        p: &Params<D>,
        g: &mut Grads<D>,
        head: &AuxHead,
        z: &D::Tensor,
        batch: Batch<'_>,
        weight: Option<&[f32]>,
        mode: Mode<'_>,
        finished: Finished<'_, D>,
    ) -> (AuxLosses<D::Tensor>, Option<D::Tensor>) {
        let z_rotated = dev.rot90(z, batch.rotation);
        let keys = mode.dropout.map(|keys| DropoutKeys { pass: 1, ..keys.clone() });
        let mode = Mode { dropout: keys.as_ref(), ..mode };
        let (t, labels) = (batch.t, batch.labels);
        let (_, saved) = self.net.forward(dev, p, &self.rope, &z_rotated, t, labels, mode);
        let feature = self.net.feature(dev, &saved);
        let (losses, dfeature) = self.auxiliary(dev, p, g, head, feature, batch, weight);
        if let Some(dfeature) = &dfeature {
            self.net.backward(dev, p, g, &self.rope, saved, None, Some(dfeature), finished);
        }
        (AuxLosses { z_rotated: Some(z_rotated), ..losses }, dfeature)
    }
}
