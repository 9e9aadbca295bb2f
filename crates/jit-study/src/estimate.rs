//! What runs cost, before anything starts.

use std::collections::BTreeSet;
use std::iter::Sum;

use jit_model::{Cpu, Denoiser, cost};
use jit_train::RunConfig;

/// What one run costs, or several.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// Optimizer steps.
    pub steps: u64,
    /// Images trained on.
    pub images: u64,
    /// Images drawn for evaluations and sample grids.
    pub drawn: u64,
    /// Operations of the training.
    pub training_flops: f64,
    /// Operations of the drawing.
    pub drawing_flops: f64,
    /// Bytes on disk at the end.
    pub disk: u64,
}

/// How fast a machine computes, in operations a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// In training.
    pub training: f64,
    /// In drawing.
    pub drawing: f64,
}

/// Bytes of a line of `metrics.jsonl` and of the TensorBoard events of the same step.
const JOURNAL_LINE: u64 = 1600;

impl Estimate {
    /// For a run over `images` images.
    pub fn of(config: &RunConfig, images: usize) -> Self {
        let (model, train) = (&config.model, &config.train);
        let steps = config.total_steps(images);
        let mut looks: BTreeSet<u64> = train.eval_steps(steps).collect();
        looks.insert(steps);
        let looks = looks.len() as u64;
        let each = train.sample_count + if train.evaluates() { train.eval_count } else { 0 };
        let drawn = looks * each as u64;
        let trained = steps * train.global_batch as u64;
        let passes = cost::sampling_passes(model, &config.sample);
        let checkpoint = 4 * parameters(config) * (3 + config.optim.ema_decay.len() as u64);
        let grid = (train.sample_count * model.pixels()) as u64;
        Self {
            steps,
            images: trained,
            drawn,
            training_flops: trained as f64 * flops_per_image(config) as f64,
            drawing_flops: drawn as f64 * (passes * cost::forward_flops(model)) as f64,
            disk: checkpoint * train.keep_last as u64
                + steps / train.log_every.max(1) * JOURNAL_LINE
                + (looks + 1) * grid,
        }
    }

    /// For images of one evaluation and one grid that two models draw together.
    pub fn of_pair(first: &RunConfig, second: &RunConfig) -> Self {
        let drawn = (first.train.eval_count + first.train.sample_count) as u64;
        let each = |c: &RunConfig| {
            cost::sampling_passes(&c.model, &first.sample) * cost::forward_flops(&c.model)
        };
        let flops = (each(first) + each(second)) as f64;
        let disk = (first.train.sample_count * first.model.pixels()) as u64;
        Self { drawn, drawing_flops: drawn as f64 * flops, disk, ..Self::default() }
    }

    /// All operations.
    pub fn flops(&self) -> f64 {
        self.training_flops + self.drawing_flops
    }

    /// Seconds at this pace.
    pub fn seconds(&self, pace: Pace) -> f64 {
        self.training_flops / pace.training + self.drawing_flops / pace.drawing
    }
}

impl Sum for Estimate {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            steps: a.steps + b.steps,
            images: a.images + b.images,
            drawn: a.drawn + b.drawn,
            training_flops: a.training_flops + b.training_flops,
            drawing_flops: a.drawing_flops + b.drawing_flops,
            disk: a.disk + b.disk,
        })
    }
}

/// Trained and fixed parameters.
pub fn parameters(config: &RunConfig) -> u64 {
    let denoiser = Denoiser::new(&Cpu::F32, &config.model, &config.objective);
    denoiser.registry().numel() as u64
}

/// Operations of a training step for one image; recomputed blocks are no work that anyone asked for.
pub fn flops_per_image(config: &RunConfig) -> u64 {
    cost::training_flops(&config.model, &config.objective, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_costs_its_steps_and_its_looks() {
        let mut config = RunConfig::default();
        config.train.global_batch = 10;
        config.train.epochs = 2.0;
        config.train.eval_at = vec![0.1, 0.5, 1.0];
        (config.train.eval_count, config.train.sample_count) = (100, 20);
        let cost = Estimate::of(&config, 50);
        assert_eq!((cost.steps, cost.images, cost.drawn), (10, 100, 360));
        assert_eq!(cost.training_flops, 100.0 * flops_per_image(&config) as f64);
        let passes = cost::sampling_passes(&config.model, &config.sample) as f64;
        let forward = cost::forward_flops(&config.model) as f64;
        assert!((cost.drawing_flops / (360.0 * passes * forward) - 1.0).abs() < 1e-12);
        let weights = 4 * parameters(&config);
        assert!(cost.disk > 3 * 5 * weights && cost.disk < 16 * weights);
        let pace = Pace { training: cost.training_flops, drawing: cost.drawing_flops / 2.0 };
        assert!((cost.seconds(pace) - 3.0).abs() < 1e-9);
        let pair = Estimate::of_pair(&config, &config);
        assert_eq!((pair.drawn, pair.steps), (120, 0));
        assert!((pair.drawing_flops / cost.drawing_flops - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!([cost, cost].into_iter().sum::<Estimate>().drawn, 720);
    }
}
