//! Steps that were taken and whose losses nobody has looked at.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jit_model::Device;

use crate::learner::Found;
use crate::observer::{Losses, T_BINS};

/// A step that was taken.
pub struct Taken<D: Device> {
    pub started: Instant,
    /// Its number, from 1.
    pub step: u64,
    pub lr: f64,
    pub data_wait: Duration,
    pub merge_wait: Option<Duration>,
    /// What each network found.
    pub found: Vec<Found<D>>,
    /// The same, where it was looked at.
    pub losses: Option<Vec<(Losses, [u64; T_BINS])>>,
}

/// Steps that were taken and not yet reported.
pub struct Unread<D: Device> {
    pub steps: VecDeque<Taken<D>>,
    /// When the last step that was reported was done.
    pub read: Option<Instant>,
}

impl<D: Device> Default for Unread<D> {
    fn default() -> Self {
        Self { steps: VecDeque::new(), read: None }
    }
}
