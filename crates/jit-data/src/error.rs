//! What can go wrong between a path and a batch.

use std::fmt;
use std::path::PathBuf;

use jit_core::files::FileError;
use jit_core::text::Show;

use crate::decode::DecodeError;

/// A file of a data set that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedFile {
    /// Path relative to the data set's folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for DamagedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.path.shown(), self.reason.shown())
    }
}

/// Failure to open a data set or to load from it.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),

    /// A single picture cannot be decoded.
    #[error("cannot decode `{}`: {source}", path.shown())]
    Decode {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        source: DecodeError,
    },

    /// Files of the data set are damaged or are no pictures.
    #[error("{}", list_damaged(.root, .files, .mend))]
    Damaged {
        /// The data set's folder.
        root: PathBuf,
        /// Every such file.
        files: Vec<DamagedFile>,
        /// What mends it.
        mend: &'static str,
    },

    /// There is nothing at `data.path`.
    #[error(
        "no data set at `{}`: expected `digits`, an image folder, archives, Parquet files or a pack{hint}", path.shown()
    )]
    NotFound {
        /// What was asked for.
        path: String,
        /// A near name, ready to print.
        hint: String,
    },

    /// Pictures lie beside class folders, so their class is unknown.
    #[error(
        "`{}` mixes pictures (such as `{}`) and folders (such as `{}`): use one folder a class, or \
         pictures alone for training without classes",
        root.shown(), picture.shown(), folder.shown()
    )]
    MixedLayout {
        /// The data set's folder.
        root: PathBuf,
        /// The first picture beside the folders.
        picture: PathBuf,
        /// The first folder.
        folder: PathBuf,
    },

    /// Nothing to train on.
    #[error("`{}` holds no picture ({EXPECTED})", root.shown())]
    Empty {
        /// The data set's folder.
        root: PathBuf,
    },

    /// An archive, a Parquet file, a pack or a list that is damaged, or such that do not go together.
    #[error("`{}` cannot be used: {}", path.shown(), reason.shown())]
    Archive {
        /// The file, or the folder of files.
        path: PathBuf,
        /// What is wrong, and what would be right.
        reason: String,
    },

    /// A symbolic link leads back to a folder that contains it.
    #[error("`{}` links back to a folder that contains it: remove the link", path.shown())]
    LinkLoop {
        /// The link.
        path: PathBuf,
    },

    /// An option has a value that cannot work with this data set.
    #[error("{option} = {value} cannot be used: {expected}")]
    Option {
        /// The option's name as users write it.
        option: &'static str,
        /// Its value.
        value: String,
        /// What would be accepted.
        expected: String,
    },

    /// The operating system refused a background thread.
    #[error("cannot start a loader thread: {0}")]
    Thread(std::io::Error),

    /// A picture file cannot be encoded.
    #[error("cannot encode a {width}×{height} picture of {channels} channels: {reason}")]
    Encode {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Samples a pixel.
        channels: usize,
        /// What is wrong.
        reason: String,
    },
}

const EXPECTED: &str =
    "expected PNG, JPEG, WebP, BMP or GIF files, folders or archives of them, or Parquet files";

/// What to do about damaged pictures.
pub(crate) const SKIP: &str = "Repair or remove them, or leave them out with --skip-damaged";

/// At most this many files are named in one message.
const LISTED: usize = 20;

fn list_damaged(root: &std::path::Path, files: &[DamagedFile], mend: &str) -> String {
    let mut text = format!(
        "{} {} in `{}` cannot be used:",
        files.len(),
        if files.len() == 1 { "file" } else { "files" },
        root.shown()
    );
    for file in files.iter().take(LISTED) {
        text += &format!("\n  {file}");
    }
    if files.len() > LISTED {
        text += &format!("\n  … and {} more", files.len() - LISTED);
    }
    text + "\n" + mend
}
