//! Training: the optimizer, its schedule, the loop, checkpoints that survive anything, and what a
//! run writes about itself.

pub mod compatibility;
pub mod config;

pub use config::{OptimConfig, RunConfig, TrainConfig};
