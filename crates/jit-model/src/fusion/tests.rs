//! Fused sampling against its parents, and against what can be worked out by hand.

use std::cell::RefCell;

use super::{Fusion, FusionMode, Mismatch, Parent, compatible};
use crate::config::{MlpKind, PatchEmbedKind};
use crate::flow::Flow;
use crate::init::initial_values;
use crate::objective::Space;
use crate::sampler::{Method, initial_noise};
use crate::{Cpu, Denoiser, Device, ModelConfig, ObjectiveConfig, Params, SampleConfig, Sampler};

fn fusion(mode: FusionMode, weight: &str) -> Fusion {
    Fusion { mode, weight: weight.parse().unwrap() }
}

fn blend(weight: &str) -> Fusion {
    fusion(FusionMode::Blend, weight)
}

/// A network that predicts more than zeros.
struct Network {
    denoiser: Denoiser<Cpu>,
    params: Params<Cpu>,
}

impl Network {
    fn new(model: &ModelConfig, prediction: Space, seed: u64) -> Self {
        let objective = ObjectiveConfig { prediction, ..ObjectiveConfig::default() };
        let denoiser = Denoiser::new(&Cpu::F32, model, &objective);
        let mut values = initial_values(denoiser.registry(), seed);
        for (i, value) in values.iter_mut().flatten().enumerate().filter(|(_, v)| **v == 0.0) {
            *value = 0.05 * (i as f32 * 0.7).sin();
        }
        let params = Params::upload(&Cpu::F32, denoiser.registry(), &values);
        Self { denoiser, params }
    }

    fn sampler<'a>(&'a self, config: &'a SampleConfig) -> Sampler<'a, Cpu> {
        self.denoiser.sampler(&Cpu::F32, &self.params, config)
    }
}

fn shape() -> ModelConfig {
    ModelConfig {
        image_size: 8,
        channels: 1,
        patch_size: 4,
        hidden_size: 16,
        depth: 2,
        num_heads: 2,
        bottleneck_dim: 8,
        num_classes: 3,
        in_context_len: 2,
        in_context_start: 1,
        ..ModelConfig::default()
    }
}

/// Another MLP, embedding, width, depth and patch.
fn other_shape() -> ModelConfig {
    ModelConfig {
        patch_size: 2,
        hidden_size: 24,
        depth: 3,
        in_context_len: 0,
        mlp: MlpKind::Bottleneck,
        patch_embed: PatchEmbedKind::Silu,
        ..shape()
    }
}

fn steps(method: Method, steps: usize) -> SampleConfig {
    let (cfg_scale, cfg_interval) = (2.0, [0.1, 0.9]);
    SampleConfig { method, steps, cfg_scale, cfg_interval, ..SampleConfig::default() }
}

/// The images `first..` with these labels, from noise that depends on their index.
fn draw(sampler: &Sampler<'_, Cpu>, first: u64, labels: &[u32]) -> Vec<f32> {
    let model = sampler.model;
    let streams: Vec<_> = (first..).take(labels.len()).map(|i| initial_noise(5, i)).collect();
    let shape = [labels.len(), model.channels, 8, 8];
    let z0 = Cpu::F32.normal(&streams, sampler.noise_scale, &shape);
    Cpu::F32.download(&sampler.sample(z0, labels, |_| {}))
}

#[test]
fn at_its_ends_a_blend_is_a_parent_to_the_bit() {
    for predictions in [[Space::X, Space::X], [Space::Eps, Space::V]] {
        let a = Network::new(&shape(), predictions[0], 1);
        let b = Network::new(&other_shape(), predictions[1], 2);
        let config = steps(Method::Heun, 5);
        let alone = [&a, &b].map(|network| draw(&network.sampler(&config), 0, &[0, 1, 2, 3]));
        let fused = |fusion: Fusion| {
            draw(&fusion.sampler(a.sampler(&config), b.sampler(&config)), 0, &[0, 1, 2, 3])
        };
        assert_eq!(fused(blend("0")), alone[0]);
        assert_eq!(fused(blend("1")), alone[1]);
        assert_eq!(fused(fusion(FusionMode::Guide, "0")), alone[0]);
        assert_eq!(fused(fusion(FusionMode::Guide, "-1")), alone[1]);
        assert_eq!(fused(blend("0..1@1")), alone[0], "no step sets out from t = 1");
        let half = fused(blend("0.5"));
        assert!(alone.iter().all(|alone| *alone != half));
        assert!(half.iter().all(|v| v.is_finite()));
    }
}

#[test]
fn a_network_fused_with_itself_is_itself() {
    // (1 − w)·v + w·v rounds: to 1e-6 of v in each of ten evaluations. Whatever it predicts: each
    // network is brought to v by its own objective.
    for prediction in [Space::X, Space::Eps, Space::V] {
        let a = Network::new(&shape(), prediction, 1);
        let config = steps(Method::Heun, 30);
        let alone = draw(&a.sampler(&config), 0, &[0, 1]);
        let largest = alone.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for fusion in [blend("0.3"), fusion(FusionMode::Guide, "1.5..0.5")] {
            let fused = draw(&fusion.sampler(a.sampler(&config), a.sampler(&config)), 0, &[0, 1]);
            for (a, f) in alone.iter().zip(&fused) {
                assert!((a - f).abs() < 1e-4 * largest, "{prediction:?}: {a} and {f}");
            }
        }
    }
}

#[test]
fn an_image_does_not_depend_on_its_batch() {
    let a = Network::new(&shape(), Space::X, 1);
    let b = Network::new(&other_shape(), Space::X, 2);
    let config = steps(Method::Euler, 4);
    let sampler = blend("0.2..0.8").sampler(a.sampler(&config), b.sampler(&config));
    let labels = [0, 1, 2, 3, 1];
    let whole = draw(&sampler, 0, &labels);
    let parts = [draw(&sampler, 0, &labels[..2]), draw(&sampler, 2, &labels[2..])].concat();
    assert_eq!(whole, parts);
}

/// A field that is known, and counts its evaluations by time.
struct Known<'a> {
    velocity: fn(z: f32, t: f32) -> f32,
    asked: &'a RefCell<Vec<f32>>,
}

impl Flow<Cpu> for Known<'_> {
    fn velocity(&self, z: &<Cpu as Device>::Tensor, t: f32, _: &[u32]) -> <Cpu as Device>::Tensor {
        self.asked.borrow_mut().push(t);
        let v: Vec<f32> = Cpu::F32.download(z).iter().map(|&z| (self.velocity)(z, t)).collect();
        Cpu::F32.upload(&v, Cpu::F32.shape(z))
    }
}

/// What two known fields draw from these values, and when each was evaluated.
fn known(
    fusion: Fusion,
    fields: [fn(f32, f32) -> f32; 2],
    config: &SampleConfig,
    z0: &[f32],
) -> (Vec<f32>, [Vec<f32>; 2]) {
    let model = ModelConfig { image_size: 1, patch_size: 1, ..shape() };
    let asked = [RefCell::default(), RefCell::default()];
    let sampler = |i: usize| Sampler {
        dev: &Cpu::F32,
        flow: Box::new(Known { velocity: fields[i], asked: &asked[i] }),
        model: &model,
        noise_scale: 1.0,
        config,
    };
    let z0_tensor = Cpu::F32.upload(z0, &[z0.len(), 1, 1, 1]);
    let fused = fusion.sampler(sampler(0), sampler(1));
    let drawn = Cpu::F32.download(&fused.sample(z0_tensor, &vec![0; z0.len()], |_| {}));
    drop(fused);
    (drawn, asked.map(RefCell::into_inner))
}

#[test]
fn known_predictions_end_where_they_must() {
    // Networks that always see the same clean images a = 0.25 and b = −0.75: v = (x̂ − z)/(1 − t).
    // With the clamp out of reach the last Euler step lands on x̂, whatever the noise.
    let fields: [fn(f32, f32) -> f32; 2] =
        [|z, t| (0.25 - z) / (1.0 - t), |z, t| (-0.75 - z) / (1.0 - t)];
    let cases = [
        (blend("0.25"), 0.0),
        (blend("0.5"), -0.25),
        (fusion(FusionMode::Guide, "1"), 1.25),
        (fusion(FusionMode::Guide, "0.5"), 0.75),
        // The last step sets out from t = 3/4.
        (blend("0..1"), -0.5),
        (blend("0..1@0.75"), -0.75),
        (blend("0..1@0.8"), 0.25),
    ];
    // Those whose last step ends at x̂.
    for method in [Method::Euler, Method::Heun, Method::Dpmpp2m] {
        for (fusion, expected) in cases {
            let (drawn, _) = known(fusion, fields, &steps(method, 4), &[1.5, -0.5, 0.0]);
            for value in drawn {
                assert!((value - expected).abs() < 1e-6, "{fusion:?} {method:?}: {value}");
            }
        }
    }
}

#[test]
fn a_linear_field_grows_by_the_power_of_its_mean_rate() {
    // dz/dt = α·z and β·z: n Euler steps multiply z by (1 + ((1 − w)·α + w·β)/n)ⁿ.
    let fields: [fn(f32, f32) -> f32; 2] = [|z, _| 2.0 * z, |z, _| -z];
    let euler = steps(Method::Euler, 8);
    for (fusion, rate) in [(blend("0.5"), 0.5), (fusion(FusionMode::Guide, "1"), 5.0f64)] {
        let expected = 3.0 * (1.0 + rate / 8.0).powi(8);
        let (drawn, _) = known(fusion, fields, &euler, &[3.0]);
        assert!((f64::from(drawn[0]) / expected - 1.0).abs() < 1e-6, "{drawn:?} not {expected}");
    }
    // Under a ramp each step has its own rate, at its beginning.
    let expected: f64 = (0..8).map(|k| 1.0 + (2.0 - 3.0 * f64::from(k) / 8.0) / 8.0).product();
    let (drawn, _) = known(blend("0..1"), fields, &euler, &[1.0]);
    assert!((f64::from(drawn[0]) / expected - 1.0).abs() < 1e-6, "{drawn:?} not {expected}");
}

#[test]
fn a_network_without_weight_is_not_run() {
    let fields: [fn(f32, f32) -> f32; 2] = [|_, _| 1.0, |_, _| f32::NAN];
    let asked = |fusion, method| known(fusion, fields, &steps(method, 4), &[0.0]);
    let (drawn, [first, second]) = asked(blend("0"), Method::Euler);
    assert_eq!((drawn, first, second), (vec![1.0], vec![0.0, 0.25, 0.5, 0.75], vec![]));
    let (_, [first, second]) = asked(blend("1"), Method::Heun);
    assert_eq!((first.len(), second.len()), (0, 7));
    // Two evaluations a step, but for the last: at its beginning and at its end.
    let (_, [first, second]) = asked(blend("0..1@0.5"), Method::Heun);
    assert_eq!(first, [0.0, 0.25, 0.25]);
    assert_eq!(second, [0.5, 0.5, 0.75, 0.75]);
    let (_, [first, second]) = asked(blend("0..0.5"), Method::Euler);
    assert_eq!((first.len(), second), (4, vec![0.25, 0.5, 0.75]));
    let (_, [first, second]) = asked(fusion(FusionMode::Guide, "2..0@0.5"), Method::Euler);
    assert_eq!((first.len(), second), (4, vec![0.0, 0.25]));
}

#[test]
fn networks_that_do_not_fit_are_named() {
    let objective = ObjectiveConfig::default();
    let check = |model: ModelConfig, noise_scale| {
        let other = ObjectiveConfig { noise_scale, ..ObjectiveConfig::default() };
        let first = Parent { name: "runs/a", model: &shape(), objective: &objective };
        compatible(first, Parent { name: "b.safetensors", model: &model, objective: &other })
    };
    assert_eq!(check(other_shape(), 1.0), Ok(()), "0 chooses 1 for small images");
    let message = |result: Result<(), Mismatch>| result.unwrap_err().to_string();
    let wrong = message(check(ModelConfig { num_classes: 5, ..shape() }, 0.0));
    for part in ["`runs/a` and `b.safetensors`", "model.num_classes is 3 in the first and 5"] {
        assert!(wrong.contains(part), "{wrong}");
    }
    let size = ModelConfig { image_size: 16, ..shape() };
    assert!(message(check(size, 0.0)).contains("model.image_size is 8"));
    let channels = ModelConfig { channels: 3, ..shape() };
    assert!(message(check(channels, 0.0)).contains("model.channels is 1"));
    assert!(message(check(shape(), 2.0)).contains("objective.noise_scale is 1 in the first and 2"));
}

#[test]
fn a_blend_stays_between_its_parents() {
    for weight in ["-0.1", "0..1.5", "0.5..2@0.5"] {
        let message = blend(weight).validate().unwrap_err().to_string();
        assert!(message.starts_with(&format!("fusion.weight = {weight}: expected")), "{message}");
        assert_eq!(fusion(FusionMode::Guide, weight).validate(), Ok(()));
    }
    assert_eq!(blend("0..1").validate(), Ok(()));
}
