//! The hand-written backward passes against finite differences of the loss, for every variant:
//! patch embedding × MLP × auxiliary loss (both rotation variants, both heads), the nine
//! output × loss combinations, dropout, recomputed blocks, and no labels.
//!
//! For each parameter tensor the derivative along one direction u (its normalised gradient plus a
//! random unit vector, so that an error in any component shows) is compared with ⟨g, u⟩. The
//! difference quotient is extrapolated from two step sizes; what remains is f32 rounding of the
//! loss, which the tolerance states.

use jit_core::rng::{Purpose, Stream};
use jit_model::config::{MlpKind, PatchEmbedKind};
use jit_model::denoiser::Batch;
use jit_model::dropout::DropoutKeys;
use jit_model::net::{Keep, Mode};
use jit_model::objective::{AuxHeadKind, Auxiliary, Draw, RotationKind, Space};
use jit_model::{Cpu, Denoiser, Device, Grads, ModelConfig, ObjectiveConfig, Params};

/// Deliberately odd: 3 × 3 patches of 2 × 2 pixels in two channels, heads of 12.
fn model() -> ModelConfig {
    ModelConfig {
        image_size: 6,
        channels: 2,
        patch_size: 2,
        hidden_size: 24,
        depth: 2,
        num_heads: 2,
        bottleneck_dim: 5,
        num_classes: 3,
        in_context_len: 2,
        in_context_start: 1,
        ..ModelConfig::default()
    }
}

const BATCH: usize = 4;

struct Case {
    denoiser: Denoiser<Cpu>,
    values: Vec<Vec<f32>>,
    x: Vec<f32>,
    draw: Draw,
    keep: Keep,
    dropout: Option<DropoutKeys>,
}

impl Case {
    fn new(model: &ModelConfig, objective: &ObjectiveConfig) -> Self {
        let denoiser = Denoiser::new(&Cpu::F32, model, objective);
        // Zero-initialised layers would hide their neighbours' gradients: everything is random.
        let value = |(i, numel): (usize, usize)| {
            let mut v = vec![0.0; numel];
            Stream::new(1, Purpose::Init, 0, i as u64).fill_normal(&mut v);
            v.iter_mut().for_each(|v| *v *= 0.2);
            v
        };
        let numels = denoiser.registry().specs().iter().map(|s| s.numel());
        let values = numels.enumerate().map(value).collect();
        let mut x = vec![0.0; BATCH * model.pixels()];
        Stream::new(2, Purpose::Noise, 0, 0).fill_uniform(-1.0, 1.0, &mut x);
        let labels: Vec<u32> =
            (0..BATCH as u32).map(|b| b % (model.num_classes as u32 + 1)).collect();
        let mut draw = Draw::new(objective, model, 3, 0, 0, &labels);
        draw.t[0] = 0.98; // beyond the t_eps clamp
        if !draw.rotation.is_empty() {
            draw.rotation = vec![1, 2, 3, 0];
        }
        Self { denoiser, values, x, draw, keep: Keep::Everything, dropout: None }
    }

    fn batch(&self) -> Batch<'_> {
        let d = &self.draw;
        Batch { x: &self.x, noise: d.noise(), t: &d.t, labels: &d.labels, rotation: &d.rotation }
    }

    fn mode(&self) -> Mode<'_> {
        Mode { dropout: self.dropout.as_ref(), keep: self.keep }
    }

    /// Unequal weights, as the last micro-batch of an accumulation may have.
    fn weights() -> Vec<f32> {
        (0..BATCH).map(|b| 0.1 + 0.1 * b as f32).collect()
    }

    fn gradients(&self) -> (f64, Vec<Vec<f32>>) {
        self.run(&self.values)
    }

    fn run(&self, values: &[Vec<f32>]) -> (f64, Vec<Vec<f32>>) {
        let registry = self.denoiser.registry();
        let params = Params::upload(&Cpu::F32, registry, values);
        let mut grads = Grads::zeros(&Cpu::F32, registry);
        let (batch, mode) = (self.batch(), self.mode());
        let losses = self.denoiser.losses_and_grads(
            &Cpu::F32,
            &params,
            &mut grads,
            batch,
            &Self::weights(),
            mode,
        );
        let weighted = |t: &<Cpu as Device>::Tensor| -> f64 {
            let losses = Cpu::F32.download(t);
            losses.iter().zip(Self::weights()).map(|(l, w)| f64::from(*l) * f64::from(w)).sum()
        };
        let lambda = f64::from(self.denoiser.objective().auxiliary_weight);
        let auxiliary = losses.auxiliary.map_or(0.0, |a| weighted(&a.loss));
        (weighted(&losses.diffusion) + lambda * auxiliary, grads.download(&Cpu::F32))
    }

    fn loss_along(&self, tensor: usize, direction: &[f64], step: f64) -> f64 {
        let mut values = self.values.clone();
        for (v, d) in values[tensor].iter_mut().zip(direction) {
            *v = (f64::from(*v) + step * d) as f32;
        }
        self.run(&values).0
    }

    /// Compares every trainable tensor's gradient; `name` says which variant failed.
    fn check(&self, name: &str) {
        let (loss, gradients) = self.gradients();
        assert!(loss.is_finite() && loss > 0.0, "{name}: loss {loss}");
        let specs = self.denoiser.registry().specs();
        for (tensor, (spec, g)) in specs.iter().zip(&gradients).enumerate() {
            if !spec.trainable {
                assert!(g.iter().all(|&v| v == 0.0), "{name}: {} is fixed", spec.name);
                continue;
            }
            let norm = g.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            let mut random = vec![0.0f32; g.len()];
            Stream::new(9, Purpose::Init, 1, tensor as u64).fill_normal(&mut random);
            let random_norm = random.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            let direction: Vec<f64> = g
                .iter()
                .zip(&random)
                .map(|(&g, &r)| f64::from(g) / norm.max(1e-12) + f64::from(r) / random_norm)
                .collect();
            let expected: f64 = g.iter().zip(&direction).map(|(&g, d)| f64::from(g) * d).sum();
            let quotient = |h: f64| {
                (self.loss_along(tensor, &direction, h) - self.loss_along(tensor, &direction, -h))
                    / (2.0 * h)
            };
            let h = 2e-2;
            let measured = (4.0 * quotient(h / 2.0) - quotient(h)) / 3.0;
            // Rounding: the loss carries about 1e-7 of itself, divided by the step.
            let tolerance = 3e-3 * expected.abs() + 2e-6 * loss / h;
            assert!(
                (measured - expected).abs() <= tolerance,
                "{name}: {} has derivative {measured:.6e}, its gradient says {expected:.6e}",
                spec.name
            );
        }
    }
}

#[test]
fn every_architecture_with_every_auxiliary_loss() {
    let auxiliaries = [
        (Auxiliary::None, RotationKind::SecondPass, AuxHeadKind::Mlp),
        (Auxiliary::Time, RotationKind::SecondPass, AuxHeadKind::Mlp),
        (Auxiliary::Time, RotationKind::SecondPass, AuxHeadKind::Linear),
        (Auxiliary::Rotation, RotationKind::SecondPass, AuxHeadKind::Mlp),
        (Auxiliary::Rotation, RotationKind::SecondPass, AuxHeadKind::Linear),
        (Auxiliary::Rotation, RotationKind::InPlace, AuxHeadKind::Mlp),
    ];
    for patch_embed in [PatchEmbedKind::Linear, PatchEmbedKind::Silu] {
        for mlp in [MlpKind::Swiglu, MlpKind::Bottleneck] {
            for (auxiliary, rotation, auxiliary_head) in auxiliaries {
                let model = ModelConfig { patch_embed, mlp, ..model() };
                let objective = ObjectiveConfig {
                    auxiliary,
                    rotation,
                    auxiliary_head,
                    auxiliary_weight: 0.7,
                    ..ObjectiveConfig::default()
                };
                let name = format!(
                    "{patch_embed:?} {mlp:?} {auxiliary:?} {rotation:?} {auxiliary_head:?}"
                );
                Case::new(&model, &objective).check(&name);
            }
        }
    }
}

#[test]
fn the_nine_output_and_loss_combinations() {
    for prediction in [Space::X, Space::Eps, Space::V] {
        for loss in [Space::X, Space::Eps, Space::V] {
            let objective = ObjectiveConfig { prediction, loss, ..ObjectiveConfig::default() };
            Case::new(&model(), &objective)
                .check(&format!("predicts {prediction:?}, loss in {loss:?}"));
        }
    }
}

#[test]
fn dropout_without_context_tokens_and_without_labels() {
    let dropping =
        ModelConfig { depth: 4, attention_dropout: 0.3, projection_dropout: 0.2, ..model() };
    let keys = |pass| DropoutKeys { seed: 4, step: 5, samples: vec![8, 9, 10, 11], pass };
    for mlp in [MlpKind::Swiglu, MlpKind::Bottleneck] {
        let model = ModelConfig { mlp, ..dropping.clone() };
        let objective =
            ObjectiveConfig { auxiliary: Auxiliary::Rotation, ..ObjectiveConfig::default() };
        let mut case = Case::new(&model, &objective);
        let without = case.gradients().0;
        case.dropout = Some(keys(0));
        let with = case.gradients().0;
        assert_ne!(without, with, "dropout must do something");
        case.check(&format!("dropout, {mlp:?}"));
    }
    let plain = ModelConfig { in_context_len: 0, num_classes: 0, ..model() };
    Case::new(&plain, &ObjectiveConfig::default()).check("no context tokens, no labels");
}

#[test]
fn recomputed_blocks_give_the_same_bits() {
    let model = ModelConfig { depth: 4, projection_dropout: 0.2, ..model() };
    let mut case = Case::new(&model, &ObjectiveConfig::default());
    case.dropout = Some(DropoutKeys { seed: 4, step: 5, samples: vec![0, 1, 2, 3], pass: 0 });
    let kept = case.gradients();
    case.keep = Keep::Input;
    assert_eq!(kept, case.gradients());
}

#[test]
fn micro_batches_add_up_to_the_whole_batch() {
    let case = Case::new(&model(), &ObjectiveConfig::default());
    let (_, whole) = case.gradients();
    let registry = case.denoiser.registry();
    let params = Params::upload(&Cpu::F32, registry, &case.values);
    let mut grads = Grads::zeros(&Cpu::F32, registry);
    let pixels = model().pixels();
    for range in [0..1, 1..4] {
        let d = &case.draw;
        let batch = Batch {
            x: &case.x[range.start * pixels..range.end * pixels],
            noise: d.noise().of(range.clone(), pixels),
            t: &d.t[range.clone()],
            labels: &d.labels[range.clone()],
            rotation: &[],
        };
        let weights = &Case::weights()[range];
        case.denoiser.losses_and_grads(
            &Cpu::F32,
            &params,
            &mut grads,
            batch,
            weights,
            Mode::default(),
        );
    }
    for ((spec, a), b) in registry.specs().iter().zip(&whole).zip(grads.download(&Cpu::F32)) {
        let largest = a.iter().fold(0f32, |m, v| m.max(v.abs()));
        let error = a.iter().zip(&b).fold(0f32, |e, (a, b)| e.max((a - b).abs()));
        // The order of additions differs: f32 rounding, nothing more.
        assert!(error <= 2e-6 * largest.max(1e-6), "{}: {error} of {largest}", spec.name);
    }
}

#[test]
fn what_is_said_to_be_final_is_final() {
    let with = |auxiliary, rotation| ObjectiveConfig {
        auxiliary,
        rotation,
        auxiliary_weight: 0.5,
        ..ObjectiveConfig::default()
    };
    for objective in [
        ObjectiveConfig::default(),
        with(Auxiliary::Time, RotationKind::InPlace),
        with(Auxiliary::Rotation, RotationKind::InPlace),
        with(Auxiliary::Rotation, RotationKind::SecondPass),
    ] {
        let case = Case::new(&model(), &objective);
        let registry = case.denoiser.registry();
        let params = Params::upload(&Cpu::F32, registry, &case.values);
        let mut grads = Grads::zeros(&Cpu::F32, registry);
        let mut said: Vec<(usize, Vec<Vec<f32>>)> = Vec::new();
        let (batch, mode, weights) = (case.batch(), case.mode(), Case::weights());
        let mut hear = |g: &Grads<Cpu>, first: usize| said.push((first, g.download(&Cpu::F32)));
        case.denoiser.losses_and_final_grads(
            &Cpu::F32,
            &params,
            &mut grads,
            batch,
            &weights,
            mode,
            &mut hear,
        );
        // After the final layer, each block, and the rest.
        let firsts: Vec<usize> = said.iter().map(|(first, _)| *first).collect();
        assert_eq!(firsts.len(), model().depth + 2);
        assert!(firsts.is_sorted_by(|a, b| a > b) && firsts.last() == Some(&0), "{firsts:?}");
        let end = grads.download(&Cpu::F32);
        assert_eq!(end, case.gradients().1, "listening changes nothing");
        for (first, then) in &said {
            assert!(then[*first..] == end[*first..], "{objective:?}: {first} was not final");
        }
    }
}
