//! From noise to images: Euler or Heun along `dz/dt = v` (spec §4).

use jit_core::rng::{Purpose, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::ModelConfig;
use crate::device::Device;
use crate::flow::Flow;

/// How images are drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SampleConfig {
    /// Integrator: `euler`, or `heun` (two evaluations a step, Euler for the last).
    pub method: Method,
    /// Steps from t = 0 to t = 1.
    pub steps: usize,
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
}

impl Default for SampleConfig {
    /// Heun and 50 steps as JiT, guidance of 2.9 on (0.1, 1] as the target paper; presets have their own.
    fn default() -> Self {
        Self { method: Method::Heun, steps: 50, cfg_scale: 2.9, cfg_interval: [0.1, 1.0] }
    }
}

/// Why a [`SampleConfig`] makes no sense.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum SampleError {
    /// Zero or absurdly many steps.
    #[error("sample.steps = {0}: expected 1 to 100000")]
    Steps(usize),
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

    /// The times of the steps: `linspace(0, 1, steps + 1)`.
    pub fn times(&self) -> Vec<f32> {
        (0..=self.steps).map(|i| (i as f64 / self.steps as f64) as f32).collect()
    }
}

/// The noise that image `index` starts from, `[C, S, S]`: a function of (seed, index) alone.
pub fn initial_noise(seed: u64, index: u64, scale: f32, out: &mut [f32]) {
    Stream::new(seed, Purpose::SampleNoise, 0, index).fill_normal(out);
    if scale != 1.0 {
        out.iter_mut().for_each(|v| *v *= scale);
    }
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
        let times = self.config.times();
        let mut z = z0;
        for (i, pair) in times.windows(2).enumerate() {
            let (t, next) = (pair[0], pair[1]);
            let v = self.flow.velocity(&z, t, labels);
            let last = i + 1 == self.config.steps;
            let advanced = match self.config.method {
                Method::Heun if !last => {
                    let euler = self.dev.axpby(1.0, &z, next - t, &v);
                    let v_next = self.flow.velocity(&euler, next, labels);
                    let mean = self.dev.axpby(0.5, &v, 0.5, &v_next);
                    self.dev.axpby(1.0, &z, next - t, &mean)
                }
                _ => self.dev.axpby(1.0, &z, next - t, &v),
            };
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

    #[test]
    fn times_run_from_zero_to_one_exactly() {
        let times = SampleConfig { steps: 3, ..SampleConfig::default() }.times();
        assert_eq!(times, [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0]);
    }
}
