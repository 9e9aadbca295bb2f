//! Studies: a suite of runs that differ in chosen options alone, and what came out of each.
//!
//! A [`Suite`] says what is compared; a [`Plan`] makes every run of it concrete; a [`Study`] is worked
//! on by any number of processes until each run has its [`Record`]. [`layout`] says where all of it
//! lies, and [`report`] makes a page of it. This crate prints nothing.

pub mod claim;
mod clock;
mod collect;
pub mod error;
pub mod estimate;
mod expand;
mod fuse;
pub mod fusion;
mod hardware;
mod images;
pub mod layout;
pub mod observer;
pub mod plan;
pub mod progress;
pub mod record;
pub mod report;
pub mod settings;
pub mod store;
pub mod suite;
pub mod suites;
pub mod worker;

pub use error::StudyError;
pub use estimate::{Estimate, Pace};
pub use fusion::PlannedFusion;
pub use observer::StudyObserver;
pub use plan::{Plan, PlannedRun};
pub use progress::Progress;
pub use record::Record;
pub use suite::Suite;
pub use worker::{Ended, Study};
