//! From noise to images along `dz/dt = v`.

mod integrator;
mod time_grid;

use jit_core::rng::{Purpose, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::ModelConfig;
use crate::device::Device;
use crate::flow::Flow;
use integrator::{Advanced, Integrator};
pub use time_grid::TimeGrid;

/// How images are drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SampleConfig {
    /// Integrator: `euler`, `heun` (two evaluations a step, Euler for the last), `ab2` or `dpmpp-2m` (second order from one
    /// evaluation a step).
    pub method: Method,
    /// Steps from t = 0 to t = 1.
    pub steps: usize,
    /// Where the steps lie: `uniform`, `shifted`, or `logit-normal` (quantiles of a distribution as training draws t from).
    pub grid: TimeGrid,
    /// Factor s of the `shifted` grid: the noise level u = 1 - t becomes s·u/(1 + (s - 1)·u).
    pub grid_shift: f32,
    /// Mean of the `logit-normal` grid's logits.
    pub grid_mean: f32,
    /// Standard deviation of the `logit-normal` grid's logits.
    pub grid_std: f32,
    /// Guidance scale; 1 for none.
    pub cfg_scale: f32,
    /// Guidance acts where low < t < high (from the start where low = 0).
    pub cfg_interval: [f32; 2],
}

/// The integrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// First order.
    Euler,
    /// Second order (trapezoidal), Euler for the last step.
    Heun,
    /// Adams–Bashforth of second order: one evaluation a step beside the remembered one, the first step Heun's.
    Ab2,
    /// DPM-Solver++(2M) (Lu et al. 2022): second order in x̂ and λ = log(t/(1 − t)), one evaluation a step.
    #[serde(rename = "dpmpp-2m")]
    Dpmpp2m,
}

impl Method {
    /// How often step `i` of `steps` evaluates the velocity: at its beginning, and perhaps at its end.
    pub fn evaluations(self, i: usize, steps: usize) -> usize {
        match self {
            Method::Euler | Method::Dpmpp2m => 1,
            Method::Heun => 1 + usize::from(i + 1 < steps),
            Method::Ab2 => 1 + usize::from(i == 0 && steps > 1),
        }
    }
}

impl Default for SampleConfig {
    /// JiT: Heun, 50 steps, guidance 2.9 on (0.1, 1].
    fn default() -> Self {
        Self {
            method: Method::Heun,
            steps: 50,
            grid: TimeGrid::Uniform,
            grid_shift: 3.0,
            grid_mean: -0.8,
            grid_std: 0.8,
            cfg_scale: 2.9,
            cfg_interval: [0.1, 1.0],
        }
    }
}

/// Why a [`SampleConfig`] makes no sense.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum SampleError {
    /// Zero or absurdly many steps.
    #[error("sample.steps = {0}: expected 1 to 100000")]
    Steps(usize),
    /// A grid's parameter outside its range.
    #[error("sample.{0} = {1}: expected {2}")]
    Grid(&'static str, f32, &'static str),
    /// A scale that is not a finite number.
    #[error("sample.cfg_scale = {0}: expected a finite number; 1 is no guidance")]
    Scale(f32),
    /// An interval outside [0, 1] or the wrong way round.
    #[error("sample.cfg_interval = [{0}, {1}]: expected 0 <= low <= high <= 1")]
    Interval(f32, f32),
}

impl SampleConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`SampleError`] naming the key, its value and the valid range.
    pub fn validate(&self) -> Result<(), SampleError> {
        let [low, high] = self.cfg_interval;
        if self.steps == 0 || self.steps > 100_000 {
            return Err(SampleError::Steps(self.steps));
        }
        let (shift, mean, std) = (self.grid_shift, self.grid_mean, self.grid_std);
        if !(0.01..=100.0).contains(&shift) {
            return Err(SampleError::Grid("grid_shift", shift, "0.01 to 100"));
        }
        if !(-5.0..=5.0).contains(&mean) {
            return Err(SampleError::Grid("grid_mean", mean, "-5 to 5"));
        }
        if !(0.05..=3.0).contains(&std) {
            return Err(SampleError::Grid("grid_std", std, "0.05 to 3"));
        }
        if !self.cfg_scale.is_finite() {
            return Err(SampleError::Scale(self.cfg_scale));
        }
        if !(0.0 <= low && low <= high && high <= 1.0) {
            return Err(SampleError::Interval(low, high));
        }
        Ok(())
    }

    /// s(t): the guidance scale inside the interval, 1 outside.
    pub fn guidance(&self, t: f32) -> f32 {
        let [low, high] = self.cfg_interval;
        if t < high && (low == 0.0 || t > low) { self.cfg_scale } else { 1.0 }
    }

    /// The times of the steps, `steps + 1` from 0 to 1.
    pub fn times(&self) -> Vec<f32> {
        time_grid::times(self.grid, self.steps, self.grid_shift, self.grid_mean, self.grid_std)
    }
}

/// Where the noise comes from that image `index` starts from: of (seed, index) alone.
pub fn initial_noise(seed: u64, index: u64) -> Stream {
    Stream::new(seed, Purpose::SampleNoise, 0, index)
}

/// A sampler: a velocity field, ready to be followed from noise to images.
pub struct Sampler<'a, D: Device> {
    /// The device.
    pub dev: &'a D,
    /// The field.
    pub flow: Box<dyn Flow<D> + 'a>,
    /// The network's shape, and so the images'; of two that are fused the first's.
    pub model: &'a ModelConfig,
    /// Standard deviation of the noise at t = 0.
    pub noise_scale: f32,
    /// How to draw.
    pub config: &'a SampleConfig,
}

/// The state after a step, for whoever watches the trajectory.
pub struct Progress<'a, T> {
    /// Steps done, 1 to `steps`.
    pub step: usize,
    /// State after the step, `[B, C, S, S]`.
    pub z: &'a T,
    /// The guided estimate x̂ from which the step set out.
    pub x_hat: &'a dyn Fn() -> T,
}

impl<D: Device> Sampler<'_, D> {
    /// Integrates z₀ `[B, C, S, S]` from t = 0 to 1; `watch` sees every step.
    pub fn sample(
        &self,
        z0: D::Tensor,
        labels: &[u32],
        mut watch: impl FnMut(Progress<'_, D::Tensor>),
    ) -> D::Tensor {
        let mut integrator = Integrator::new(self.config.method, self.config.times());
        let velocity = |z: &D::Tensor, t| self.flow.velocity(z, t, labels);
        let mut z = z0;
        for i in 0..integrator.steps() {
            let t = integrator.time(i);
            let Advanced { z: advanced, v } = integrator.step(self.dev, i, &z, &velocity);
            let x_hat = || self.dev.axpby(1.0 - t, &v, 1.0, &z);
            watch(Progress { step: i + 1, z: &advanced, x_hat: &x_hat });
            z = advanced;
        }
        z
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guidance_acts_inside_its_interval_only() {
        let at = |low, high, t| {
            SampleConfig { cfg_interval: [low, high], ..SampleConfig::default() }.guidance(t)
        };
        assert_eq!(at(0.1, 1.0, 0.1), 1.0, "the lower end is open");
        assert_eq!(at(0.1, 1.0, 0.11), 2.9);
        assert_eq!(at(0.0, 1.0, 0.0), 2.9, "low = 0 includes the start");
        assert_eq!(at(0.3, 0.7, 0.7), 1.0, "the upper end is open");
    }
}
