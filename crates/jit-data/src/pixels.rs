//! Images of one shape whose samples lie one after the other, as in NumPy arrays, in MNIST's and in
//! CIFAR's files.

use jit_core::text::Show;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::decode::MAX_PIXELS;
use crate::error::DataError;
use crate::place::{FileEntry, Place, read_range};
use crate::raster::Raster;

/// Where the samples are.
#[derive(Clone)]
pub enum Store {
    /// In a file, as they are.
    File(Arc<Path>),
    /// In memory, where the file is compressed.
    Memory(Arc<[u8]>),
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.shown()),
            Self::Memory(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

/// The shape of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub height: usize,
    /// Pixels in a row.
    pub width: usize,
    /// 1 for grey, 3 for RGB.
    pub channels: usize,
    /// Whether a colour comes after the other and not a pixel after the other.
    pub planar: bool,
}

impl Shape {
    /// Samples of an image; `None` where that is nothing, or more than a picture may have.
    pub fn samples(self) -> Option<u64> {
        let pixels = (self.height as u64).checked_mul(self.width as u64)?;
        let fits = (1..=MAX_PIXELS).contains(&pixels) && matches!(self.channels, 1 | 3);
        fits.then(|| pixels * self.channels as u64)
    }
}

/// Images one after the other. Whoever makes them has checked that all of them are there.
#[derive(Clone, Debug)]
pub struct Pixels {
    /// Where the samples are.
    pub store: Store,
    /// Where the first image starts.
    pub start: u64,
    /// Bytes from the start of an image to that of the next.
    pub stride: u64,
    /// The shape of each.
    pub shape: Shape,
    /// What the file is called in messages.
    pub path: PathBuf,
}

impl Pixels {
    /// Image `index` in RGB.
    ///
    /// # Errors
    /// [`DataError`] naming the file, which may have changed since it was listed.
    pub fn raster(&self, index: u64) -> Result<Raster, DataError> {
        let Shape { height, width, channels, planar } = self.shape;
        let gone = || DataError::Archive {
            path: self.path.clone(),
            reason: format!("image {index} is no longer there: did the file change?"),
        };
        let length = self.shape.samples().ok_or_else(gone)?;
        let offset = index.checked_mul(self.stride).and_then(|at| at.checked_add(self.start));
        let offset = offset.ok_or_else(gone)?;
        let samples = match &self.store {
            Store::File(path) => read_range(path, offset, length)?,
            Store::Memory(bytes) => {
                let start = usize::try_from(offset).map_err(|_| gone())?;
                let range = start..start.saturating_add(length as usize);
                bytes.get(range).ok_or_else(gone)?.to_vec()
            }
        };
        let rgb = match (channels, planar) {
            (1, _) => samples.iter().flat_map(|&v| [v; 3]).collect(),
            (_, true) => crate::grid::interleave(&samples, channels),
            (_, false) => samples,
        };
        Raster::new(width, height, 3, rgb).ok_or_else(gone)
    }

    /// The images as entries that are called `name/NUMBER`, with their classes.
    pub(crate) fn entries(self, name: &str, labels: &[u32], count: u64) -> Vec<FileEntry> {
        let bytes = self.shape.samples().unwrap_or_default();
        let pixels = Arc::new(self);
        let entry = |index: u64| FileEntry {
            path: Path::new(name).join(format!("{index:06}")),
            label: labels.get(index as usize).copied().unwrap_or(0),
            bytes,
            place: Place::Pixels { pixels: Arc::clone(&pixels), index },
        };
        (0..count).map(entry).collect()
    }
}

/// The number of classes of numbered labels, and their names.
pub(crate) fn numbers(labels: &[u32]) -> Vec<String> {
    let most = labels.iter().max().map_or(0, |&most| u64::from(most) + 1);
    (0..most).map(|label| label.to_string()).collect()
}
