//! How good generated images are: features of an extractor network, and FID, IS, KID, precision and
//! recall on them (spec §6). It knows nothing of how the images were made.
//!
//! [`extractor`] turns images into [`Features`]; [`evaluate`] turns the features of generated and of
//! real images into a [`Report`]. Results depend on neither threads nor batches.

// pub mod digits;
mod error;
mod evaluate;
pub mod extractor;
mod features;
mod fid;
mod inception_score;
mod kid;
mod moments;
mod precision_recall;
mod stats;

pub use error::EvalError;
pub use evaluate::{
    Options, Report, Score, Side, against_statistics, class_accuracy, evaluate, metric_name,
};
pub use features::Features;
pub use fid::{fid, fid_spread};
pub use inception_score::inception_score;
pub use kid::{kid_of_first, kid_of_subsets};
pub use moments::{Gaussian, Moments};
pub use precision_recall::{PrecisionRecall, precision_recall};
pub use stats::{Provenance, Stats};
