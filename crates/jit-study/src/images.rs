//! The images of a study's runs: opened and checked once, shared by all runs with the same data; and
//! what the networks that judge say of them.

use std::sync::Arc;

use jit_data::{DataConfig, Dataset};
use jit_train::evaluation::Evaluation;
use jit_train::{Alone, RunConfig};

use crate::error::StudyError;

/// Data sets that are open.
#[derive(Default)]
pub struct Images {
    open: Vec<(Key, Arc<Dataset>)>,
    judge: Option<(Key, usize, Evaluation)>,
}

/// What decides which images a run sees.
#[derive(Clone, PartialEq)]
struct Key {
    data: DataConfig,
    size: usize,
    channels: usize,
    /// Draws the subset, where there is one.
    seed: u64,
}

impl Images {
    /// The images of a run, decoded and found good.
    ///
    /// # Errors
    /// [`StudyError::Data`] for images that are missing or damaged.
    pub fn of(&mut self, config: &RunConfig) -> Result<Arc<Dataset>, StudyError> {
        let key = Key::of(config);
        if let Some((_, dataset)) = self.open.iter().find(|(other, _)| *other == key) {
            return Ok(Arc::clone(dataset));
        }
        let data = &config.data;
        let mut dataset = jit_data::open(data, key.size, key.channels, key.seed)?;
        dataset.check(data.skip_damaged, data.worker_threads(), &|_, _| {})?;
        let dataset = Arc::new(dataset);
        self.open.push((key, Arc::clone(&dataset)));
        Ok(dataset)
    }

    /// What judges images against those of a run; the last is kept.
    ///
    /// # Errors
    /// As [`Images::of`], and [`StudyError::Eval`] without the weights of the judging networks.
    pub fn judge(&mut self, config: &RunConfig) -> Result<&Evaluation, StudyError> {
        let (key, count) = (Key::of(config), config.train.eval_count);
        let kept = match self.judge.take() {
            Some(kept) if kept.0 == key && kept.1 == count => kept,
            _ => {
                let dataset = self.of(config)?;
                let judge = Evaluation::new(&Alone, config, &dataset);
                (key, count, judge.map_err(|error| StudyError::Eval(Box::new(error)))?)
            }
        };
        Ok(&self.judge.insert(kept).2)
    }
}

impl Key {
    fn of(config: &RunConfig) -> Self {
        let (model, data) = (&config.model, config.data.clone());
        let seed = if data.subset < 1.0 { config.train.seed } else { 0 };
        Self { data, size: model.image_size, channels: model.channels, seed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_share_images_unless_a_seed_draws_them() {
        let mut images = Images::default();
        let mut config = RunConfig::default();
        (config.model.image_size, config.model.channels) = (28, 1);
        let first = images.of(&config).unwrap();
        config.train.seed = 1;
        assert!(Arc::ptr_eq(&first, &images.of(&config).unwrap()));
        config.data.subset = 0.1;
        let drawn = images.of(&config).unwrap();
        assert_eq!(drawn.len(), 800);
        config.train.seed = 2;
        assert!(!Arc::ptr_eq(&drawn, &images.of(&config).unwrap()));
    }
}
