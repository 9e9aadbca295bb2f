//! What the tests of this crate share: a small run on the embedded digits, and the golden case.

use std::path::Path;
use std::sync::Arc;

use jit_data::Dataset;
use jit_model::ModelConfig;
use jit_model::weights::{File, TensorData};

use crate::config::RunConfig;

/// Ten optimizer steps of the reference implementation.
pub fn golden() -> File {
    File::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/training.safetensors"))
        .unwrap()
}

/// The learning rate before each of its micro-batches.
pub fn golden_rates() -> Vec<f64> {
    match golden().tensor("micro.lr").unwrap().data {
        TensorData::F64(rates) => rates,
        other => panic!("the rates are stored as f64, not {other:?}"),
    }
}

/// A run of a tiny network on 80 digits, 32 a step, in a fraction of a second.
pub fn small() -> RunConfig {
    let model = ModelConfig {
        image_size: 28,
        channels: 1,
        patch_size: 14,
        hidden_size: 16,
        depth: 4,
        num_heads: 2,
        bottleneck_dim: 8,
        num_classes: 10,
        in_context_len: 2,
        in_context_start: 1,
        attention_dropout: 0.1,
        projection_dropout: 0.1,
        ..ModelConfig::default()
    };
    let mut config = RunConfig { model, ..RunConfig::default() };
    config.data.subset = 0.01;
    config.data.workers = 2;
    config.optim.lr = 1e-3;
    config.optim.warmup_epochs = 1.0;
    config.optim.ema_decay = vec![0.9, 0.99];
    config.train.seed = 3;
    config.train.epochs = 4.0;
    config.train.global_batch = 32;
    config.train.save_every = 0;
    config.train.sample_count = 0;
    config.sample.steps = 3;
    config
}

/// The images of a run.
pub fn digits(config: &RunConfig) -> Arc<Dataset> {
    let (model, seed) = (&config.model, config.train.seed);
    Arc::new(jit_data::open(&config.data, model.image_size, model.channels, seed).unwrap())
}
