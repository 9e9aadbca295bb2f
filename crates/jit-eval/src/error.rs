//! Why images cannot be evaluated.

use std::path::PathBuf;

use jit_core::files::FileError;
use jit_core::text::Show;
use jit_model::weights::WeightsError;

/// Why images, features or statistics cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A feature that is not a number.
    #[error(
        "feature {column} of image {row} is {value}: the image or the extractor's weights are \
         damaged"
    )]
    NotFinite {
        /// The image, from 0.
        row: usize,
        /// The feature, from 0.
        column: usize,
        /// Its value.
        value: f32,
    },
    /// Features of two extractors.
    #[error("features of {a} and of {b} values cannot be compared: use one extractor for both")]
    Dimensions {
        /// Values of a feature on one side.
        a: usize,
        /// And on the other.
        b: usize,
    },
    /// Values that are no whole number of features.
    #[error("{len} values are no features of {dim} values each")]
    Length {
        /// Values.
        len: usize,
        /// Values of a feature.
        dim: usize,
    },
    /// Too few images for a metric.
    #[error("{metric} needs at least {need} {what} images, and there are {have}; {help}")]
    TooFew {
        /// The metric.
        metric: &'static str,
        /// Which images.
        what: &'static str,
        /// How many are needed.
        need: usize,
        /// How many there are.
        have: usize,
        /// How to mend it.
        help: &'static str,
    },
    /// An eigenvalue problem that has no solution in finite numbers.
    #[error("the eigenvalues of a covariance do not converge: it holds values that are not finite")]
    Eigenvalues,
    /// Statistics of something else.
    #[error(
        "the statistics `{}` were made with {what} {theirs}, and this evaluation uses {ours}: make \
         them anew with `jit stats`, or evaluate as they were made", path.shown()
    )]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// Its value in the file.
        theirs: String,
        /// Its value here.
        ours: String,
    },
    /// A file of statistics without some.
    #[error("`{}` holds no statistics: {}", path.shown(), what.shown())]
    Stats {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        what: String,
    },
    /// Images that an extractor cannot read.
    #[error("the extractor `{extractor}` takes {expected}, not {found}")]
    Images {
        /// The extractor.
        extractor: &'static str,
        /// What it takes.
        expected: String,
        /// What it was given.
        found: String,
    },
    /// Something that holds no images.
    #[error("`{}` holds no images to evaluate: {}", path.shown(), what.shown())]
    NoImages {
        /// The folder or file.
        path: PathBuf,
        /// What is missing or wrong, and what is expected.
        what: String,
    },
    /// Images of several sizes where one is needed.
    #[error(
        "the images in `{}` differ in size: `{}` is {first_size}, `{}` is {other_size}; \
         bring generated images to one size", path.shown(), first.shown(), other.shown()
    )]
    MixedSizes {
        /// The folder.
        path: PathBuf,
        /// The first image.
        first: String,
        /// Its size.
        first_size: String,
        /// An image of another size.
        other: String,
        /// That size.
        other_size: String,
    },
    /// Weights of another network.
    #[error("`{}`: tensor `{}` is {found}; expected {expected}", path.shown(), tensor.shown())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        found: String,
        /// The shape that fits.
        expected: String,
    },
    /// The file of weights is not there.
    #[error(
        "the weights `{file}` (SHA-256 {hash}…) are not there; looked for them in {places}. Get them \
         with `jit weights fetch {extractor}`, or download {url} into {folder}"
    )]
    NoWeights {
        /// The file's name.
        file: &'static str,
        /// The published start of its hash.
        hash: &'static str,
        /// Where it was looked for.
        places: String,
        /// The extractor.
        extractor: &'static str,
        /// Where it is published.
        url: &'static str,
        /// Where to put it.
        folder: String,
    },
    /// A file whose content is not what its name says.
    #[error(
        "`{}` has the SHA-256 {found}, but the published one starts with {expected}: the download is \
         damaged; remove it and get it anew", path.shown()
    )]
    Hash {
        /// The file.
        path: PathBuf,
        /// Its hash.
        found: String,
        /// The published start.
        expected: &'static str,
    },
    /// Weights that cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A file that cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Digits that cannot be read.
    #[error(transparent)]
    Data(#[from] jit_data::DataError),
}
