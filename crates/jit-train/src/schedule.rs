//! The learning rate: linear warm-up, then constant or cosine (spec §3).

use crate::config::{RunConfig, Schedule};

impl RunConfig {
    /// The learning rate after `epochs` passes over the data (fractional), as the reference sets it
    /// before every micro-batch.
    pub fn learning_rate(&self, epochs: f64) -> f64 {
        let (peak, warmup) = (self.peak_lr(), self.optim.warmup_epochs);
        if epochs < warmup {
            return peak * epochs / warmup;
        }
        match self.optim.schedule {
            Schedule::Constant => peak,
            Schedule::Cosine => {
                let length = (self.train.epochs - warmup).max(f64::MIN_POSITIVE);
                let done = ((epochs - warmup) / length).min(1.0);
                let share = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
                self.optim.min_lr + (peak - self.optim.min_lr) * share
            }
        }
    }

    /// How many passes over `images` images lie before optimizer step `step` (from 0).
    ///
    /// A step's rate is that of its first image, [`RunConfig::learning_rate`] of this: a function of
    /// the step alone, so that a global batch gives the same result in however many micro-batches.
    pub fn epochs_before(&self, step: u64, images: usize) -> f64 {
        (u128::from(step) * self.train.global_batch as u128) as f64 / images as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OptimConfig;
    use crate::testing::{golden, golden_rates};

    #[test]
    fn the_warm_up_is_the_references() {
        let file = golden();
        let number = |key: &str| file.metadata()[key].parse::<f64>().unwrap();
        let optim = OptimConfig {
            lr: number("lr"),
            warmup_epochs: number("warmup_epochs"),
            ..OptimConfig::default()
        };
        let config = RunConfig { optim, ..RunConfig::default() };
        let per_epoch = number("micro_batches_per_epoch");
        for (i, expected) in golden_rates().into_iter().enumerate() {
            assert_eq!(config.learning_rate(i as f64 / per_epoch), expected, "micro-batch {i}");
        }
    }

    #[test]
    fn the_cosine_falls_to_its_end_and_stays() {
        let mut config = RunConfig::default();
        config.optim.schedule = Schedule::Cosine;
        config.optim.lr = 1.0;
        config.optim.min_lr = 0.2;
        config.optim.warmup_epochs = 10.0;
        config.train.epochs = 110.0;
        for (epochs, expected) in
            [(0.0, 0.0), (5.0, 0.5), (10.0, 1.0), (60.0, 0.6), (110.0, 0.2), (120.0, 0.2)]
        {
            let rate = config.learning_rate(epochs);
            assert!((rate - expected).abs() < 1e-12, "{rate} after {epochs} epochs");
        }
        config.train.epochs = 5.0;
        assert!(config.learning_rate(10.0).is_finite(), "a warm-up longer than the run");
    }

    #[test]
    fn the_first_step_after_an_uneven_epoch_knows_its_place() {
        let mut config = RunConfig::default();
        config.train.global_batch = 32;
        assert_eq!(config.epochs_before(5, 80), 2.0);
        assert_eq!(config.epochs_before(3, 80), 1.2);
    }
}
