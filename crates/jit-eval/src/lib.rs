//! How good generated images are: features of an extractor network, and FID, IS, KID, precision and
//! recall on them (spec §6). It knows nothing of how the images were made.
//!
//! A [`Source`] hands on images, a [`Collector`] keeps what the networks of [`extractor`] say of them as
//! a [`Sample`], and [`evaluate`] turns a sample and a [`Reference`] into a [`Report`]. Results depend on
//! neither threads nor batches.

mod cache;
mod collect;
pub mod digits;
mod distances;
mod error;
mod evaluate;
pub mod extractor;
mod features;
mod fid;
mod inception_score;
mod kid;
mod moments;
mod precision_recall;
pub mod source;
mod stats;

pub use cache::Cache;
pub use collect::{Collector, Extractors, Part};
pub use error::EvalError;
pub use evaluate::{
    Metric, Options, Reference, Report, Sample, Score, class_accuracy, evaluate, metric_name,
};
pub use features::Features;
pub use fid::{fid, fid_spread};
pub use inception_score::inception_score;
pub use kid::{kid_of_first, kid_of_subsets};
pub use moments::{Gaussian, Moments};
pub use precision_recall::{PrecisionRecall, precision_recall};
pub use source::{Fit, Protocol, Source};
pub use stats::{Provenance, Stats};
