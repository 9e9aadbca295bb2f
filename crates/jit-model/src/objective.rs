//! What is learned: options of the objective (spec §2), and the random draws of a training step.

use jit_core::rng::{Purpose, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::ModelConfig;
use crate::denoiser::Noise;

/// What is learned: the diffusion loss, its noise and the auxiliary loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectiveConfig {
    /// What the network predicts: `x` (clean image), `eps` (noise) or `v` (velocity).
    pub prediction: Space,
    /// The space in which the error is measured: `x`, `eps` or `v`.
    pub loss: Space,
    /// Mean of the logit of t.
    pub p_mean: f32,
    /// Standard deviation of the logit of t.
    pub p_std: f32,
    /// Lower clamp of 1 − t (and of t) in the conversions between x, eps and v.
    pub t_eps: f32,
    /// Standard deviation of the noise; 0 chooses image_size / 256, at least 1.
    pub noise_scale: f32,
    /// Probability of replacing a label by the null class, for guidance.
    pub label_drop: f32,
    /// Self-supervised auxiliary loss: `none`, `time` or `rotation`.
    pub auxiliary: Auxiliary,
    /// Weight λ of the auxiliary loss.
    pub auxiliary_weight: f32,
    /// Rotation loss: `second-pass` (published code) or `in-place` (text of the target paper).
    pub rotation: RotationKind,
    /// Head of the auxiliary loss: `mlp` (published code) or `linear` (text of the target paper).
    pub auxiliary_head: AuxHeadKind,
}

/// The three parametrisations of a denoiser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Space {
    /// The clean image.
    X,
    /// The noise ε.
    Eps,
    /// The velocity v = x − ε.
    V,
}

/// The auxiliary loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Auxiliary {
    /// None.
    None,
    /// Regress t from the mean token.
    Time,
    /// Classify by how many quarter turns the image was rotated.
    Rotation,
}

/// What the rotation loss rotates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RotationKind {
    /// Rotate z and run the network once more; only the auxiliary loss sees that pass.
    SecondPass,
    /// Rotate x itself; one pass, which the diffusion loss sees too.
    InPlace,
}

/// The head of the auxiliary loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AuxHeadKind {
    /// Linear → SiLU → Linear.
    Mlp,
    /// One Linear.
    Linear,
}

impl Default for ObjectiveConfig {
    /// JiT: x output, v loss, logit-normal t around −0.8.
    fn default() -> Self {
        Self {
            prediction: Space::X,
            loss: Space::V,
            p_mean: -0.8,
            p_std: 0.8,
            t_eps: 0.05,
            noise_scale: 0.0,
            label_drop: 0.1,
            auxiliary: Auxiliary::None,
            auxiliary_weight: 1.0,
            rotation: RotationKind::SecondPass,
            auxiliary_head: AuxHeadKind::Mlp,
        }
    }
}

/// Why an [`ObjectiveConfig`] makes no sense.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("objective.{key} = {value}: expected {expected}")]
pub struct ObjectiveError {
    key: &'static str,
    value: f32,
    expected: &'static str,
}

impl ObjectiveConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`ObjectiveError`] naming the key, its value and the valid range.
    pub fn validate(&self) -> Result<(), ObjectiveError> {
        let probability = "a probability from 0 to 1";
        let checks = [
            ("p_mean", self.p_mean, self.p_mean.is_finite(), "a finite number"),
            ("p_std", self.p_std, self.p_std.is_finite() && self.p_std >= 0.0, "0 or more"),
            ("t_eps", self.t_eps, self.t_eps > 0.0 && self.t_eps < 1.0, "between 0 and 1"),
            (
                "noise_scale",
                self.noise_scale,
                self.noise_scale.is_finite() && self.noise_scale >= 0.0,
                "0 (automatic) or more",
            ),
            ("label_drop", self.label_drop, (0.0..=1.0).contains(&self.label_drop), probability),
            (
                "auxiliary_weight",
                self.auxiliary_weight,
                self.auxiliary_weight.is_finite(),
                "a finite number",
            ),
        ];
        match checks.into_iter().find(|(_, _, ok, _)| !ok) {
            Some((key, value, _, expected)) => Err(ObjectiveError { key, value, expected }),
            None => Ok(()),
        }
    }

    /// The standard deviation of the noise for images of this model.
    pub fn noise_scale(&self, model: &ModelConfig) -> f32 {
        if self.noise_scale > 0.0 { self.noise_scale } else { model.default_noise_scale() }
    }
}

/// The random draws for some images of one optimizer step.
#[derive(Clone, Debug, PartialEq)]
pub struct Draw {
    /// Where the noise ε of each image comes from, `[B]`.
    pub noise: Vec<Stream>,
    /// Its standard deviation.
    pub noise_scale: f32,
    /// t = sigmoid(N(p_mean, p_std²)), `[B]`.
    pub t: Vec<f32>,
    /// Labels, some replaced by the null class, `[B]`.
    pub labels: Vec<u32>,
    /// Quarter turns of the rotation loss, `[B]`; empty where there is none.
    pub rotation: Vec<u8>,
}

impl Draw {
    /// The noise, as a batch has it.
    pub fn noise(&self) -> Noise<'_> {
        Noise::Drawn { streams: &self.noise, scale: self.noise_scale }
    }

    /// Draws for the images `first..first + labels.len()` of the global batch of `step`.
    ///
    /// Every number is keyed by (seed, purpose, step, index in the global batch), so it does not
    /// matter in how many micro-batches, or on how many processes, the global batch is computed.
    pub fn new(
        objective: &ObjectiveConfig,
        model: &ModelConfig,
        seed: u64,
        step: u64,
        first: u64,
        labels: &[u32],
    ) -> Self {
        let stream = |purpose, b: usize| Stream::new(seed, purpose, step, first + b as u64);
        let t = |b| {
            let logit = objective.p_mean + objective.p_std * stream(Purpose::Time, b).normal();
            1.0 / (1.0 + (-logit).exp())
        };
        let label = |(b, &y): (usize, &u32)| {
            let dropped = stream(Purpose::LabelDrop, b).uniform(0) < objective.label_drop;
            if dropped { model.null_class() } else { y }
        };
        let rotates = objective.auxiliary == Auxiliary::Rotation;
        let turns = if rotates { labels.len() } else { 0 };
        Self {
            noise: (0..labels.len()).map(|b| stream(Purpose::Noise, b)).collect(),
            noise_scale: objective.noise_scale(model),
            t: (0..labels.len()).map(t).collect(),
            labels: labels.iter().enumerate().map(label).collect(),
            rotation: (0..turns).map(|b| stream(Purpose::Rotation, b).below(0, 4) as u8).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> ModelConfig {
        ModelConfig { image_size: 8, patch_size: 4, num_classes: 10, ..ModelConfig::default() }
    }

    #[test]
    fn draws_do_not_depend_on_the_split_into_micro_batches() {
        let objective =
            ObjectiveConfig { auxiliary: Auxiliary::Rotation, ..ObjectiveConfig::default() };
        let labels: Vec<u32> = (0..32).map(|i| i % 10).collect();
        let whole = Draw::new(&objective, &small(), 5, 9, 0, &labels);
        let part = Draw::new(&objective, &small(), 5, 9, 12, &labels[12..20]);
        assert_eq!(whole.noise[12..20], part.noise);
        assert_eq!(whole.t[12..20], part.t);
        assert_eq!(whole.labels[12..20], part.labels);
        assert_eq!(whole.rotation[12..20], part.rotation);
        assert_ne!(whole, Draw::new(&objective, &small(), 5, 10, 0, &labels));
    }

    #[test]
    fn draws_have_their_distributions() {
        let objective =
            ObjectiveConfig { auxiliary: Auxiliary::Rotation, ..ObjectiveConfig::default() };
        let labels = vec![3; 4000];
        let model = ModelConfig { image_size: 2, patch_size: 2, channels: 1, ..small() };
        let d = Draw::new(&objective, &model, 0, 0, 0, &labels);
        let logit = |t: &f32| f64::from(*t / (1.0 - *t)).ln();
        let mean = d.t.iter().map(logit).sum::<f64>() / 4000.0;
        let var = d.t.iter().map(|t| (logit(t) - mean).powi(2)).sum::<f64>() / 4000.0;
        assert!((mean + 0.8).abs() < 0.05, "mean {mean}");
        assert!((var.sqrt() - 0.8).abs() < 0.05, "deviation {}", var.sqrt());
        let dropped = d.labels.iter().filter(|&&y| y == 10).count();
        assert!((300..500).contains(&dropped), "{dropped} labels dropped of 4000");
        for k in 0..4 {
            let n = d.rotation.iter().filter(|&&r| r == k).count();
            assert!((900..1100).contains(&n), "{n} of 4000 images rotated {k} times");
        }
    }

    #[test]
    fn noise_grows_with_the_image_above_256() {
        let scale = |size, set| {
            let model = ModelConfig { image_size: size, ..small() };
            ObjectiveConfig { noise_scale: set, ..ObjectiveConfig::default() }.noise_scale(&model)
        };
        assert_eq!([scale(64, 0.0), scale(512, 0.0), scale(64, 0.5)], [1.0, 2.0, 0.5]);
    }
}
