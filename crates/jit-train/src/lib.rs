//! Training: the optimizer, its schedule, the loop, checkpoints that survive anything, and what a
//! run writes about itself. [`train`] is all that a program needs to call.

pub mod accumulate;
pub mod checkpoint;
pub mod communicator;
pub mod compatibility;
pub mod config;
pub mod draw;
pub mod error;
pub mod evaluation;
pub mod feed;
pub mod journal;
pub mod learner;
pub mod metrics;
pub mod observer;
pub mod optimizer;
pub mod pair;
pub mod reduce;
pub mod replay;
pub mod retention;
pub mod room;
pub mod run;
pub mod samples;
mod schedule;
pub mod tally;
pub mod tensorboard;
mod trainer;
pub mod turns;

#[cfg(test)]
mod testing;

pub use communicator::{Alone, Communicator};
pub use config::{OptimConfig, RunConfig, TrainConfig};
pub use error::TrainError;
pub use observer::{Observer, Outcome, Plan, Silent, StepReport};
pub use trainer::{train, train_together};
