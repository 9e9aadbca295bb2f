//! Where on [0, 1] the steps of a sampler begin and end.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

/// The times of the steps, from noise, t = 0, to image, t = 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TimeGrid {
    /// Steps of one length.
    Uniform,
    /// Uniform in a noise level 1 − t that is then shifted: `s·u/(1 + (s − 1)·u)`, s = `sample.grid_shift` (Esser et al. 2024, eq. 23).
    /// Above 1 more steps lie near the noise, below 1 near the image.
    Shifted,
    /// Quantiles of `sigmoid(N(grid_mean, grid_std²))`, the distribution from which training draws t: as many steps where it was trained most.
    LogitNormal,
}

/// `steps + 1` times, the first 0 and the last 1.
pub(super) fn times(grid: TimeGrid, steps: usize, shift: f32, mean: f32, std: f32) -> Vec<f32> {
    let share = |i: usize| i as f64 / steps as f64;
    let time = |i: usize| match grid {
        TimeGrid::Uniform => share(i),
        TimeGrid::Shifted => {
            let (s, u) = (f64::from(shift), 1.0 - share(i));
            1.0 - s * u / (1.0 + (s - 1.0) * u)
        }
        TimeGrid::LogitNormal if i == 0 || i == steps => share(i),
        TimeGrid::LogitNormal => {
            let logit = f64::from(mean) + f64::from(std) * standard_quantile(share(i));
            1.0 / (1.0 + (-logit).exp())
        }
    };
    (0..=steps).map(|i| time(i) as f32).collect()
}

/// Φ⁻¹
fn standard_quantile(p: f64) -> f64 {
    Normal::standard().inverse_cdf(p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_run_from_zero_to_one_exactly_and_never_back() {
        for grid in [TimeGrid::Uniform, TimeGrid::Shifted, TimeGrid::LogitNormal] {
            for steps in [1, 2, 7, 1000] {
                let times = times(grid, steps, 3.0, -0.8, 0.8);
                assert_eq!((times.len(), times[0], times[steps]), (steps + 1, 0.0, 1.0));
                assert!(times.is_sorted_by(|a, b| a < b), "{grid:?}, {steps}");
            }
        }
        assert_eq!(times(TimeGrid::Uniform, 3, 3.0, 0.0, 1.0), [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0]);
    }

    #[test]
    fn a_shift_of_the_noise_level_and_quantiles_are_as_defined() {
        // u = 1/2 becomes 3·½/(1 + 2·½) = 3/4 of noise.
        assert_eq!(times(TimeGrid::Shifted, 2, 3.0, 0.0, 1.0)[1], 0.25);
        assert_eq!(times(TimeGrid::Shifted, 2, 1.0, 0.0, 1.0)[1], 0.5);
        // The median is sigmoid(mean); one deviation above it lies Φ(1) = 0.8413447… of all.
        let quarter = times(TimeGrid::LogitNormal, 4, 3.0, -0.8, 0.8);
        assert!((f64::from(quarter[2]) - 1.0 / (1.0 + 0.8f64.exp())).abs() < 1e-7);
        assert!((standard_quantile(0.841_344_746_068_543) - 1.0).abs() < 1e-9);
        assert!((standard_quantile(0.25) + 0.674_489_750_196_082).abs() < 1e-9);
    }
}
