//! Where the bytes of an image lie, and how they become pixels: the one way to open images.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::DeflateDecoder;
use jit_core::files::FileError;

use crate::decode::{DecodeError, MAX_FILE_BYTES, decode_bytes, decode_file};
use crate::error::DataError;
use crate::pack::Pack;
use crate::parquet::Table;
use crate::pixels::Pixels;
use crate::raster::Raster;

/// Where an image lies.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a file of its own.
    File,
    /// In an archive, from the byte `offset` on.
    Range {
        /// The archive.
        archive: Arc<Path>,
        /// The first byte.
        offset: u64,
    },
    /// In an archive, compressed.
    Deflated {
        /// The archive.
        archive: Arc<Path>,
        /// The first byte.
        offset: u64,
        /// Its length in the archive.
        packed: u64,
    },
    /// Among pixels that no picture format holds.
    Pixels {
        /// The pixels.
        pixels: Arc<Pixels>,
        /// Which image, from 0.
        index: u64,
    },
    /// In a row of a Parquet file.
    Row {
        /// The file.
        table: Arc<Table>,
        /// The row, from 0.
        row: u64,
    },
    /// In a pack, cropped.
    Record {
        /// The pack.
        pack: Arc<Pack>,
        /// The record, from 0.
        record: u64,
    },
}

impl Place {
    /// Whether it is cropped already.
    pub fn is_packed(&self) -> bool {
        matches!(self, Self::Record { .. })
    }
}

/// An image of a data set.
#[derive(Clone, Debug)]
pub struct FileEntry {
    /// Path relative to the data set's folder; for what is no file of its own, a name that tells
    /// where it is, never a path on disk.
    pub path: PathBuf,
    /// Its class, an index into the class names; 0 without classes.
    pub label: u32,
    /// Length of the picture file in bytes; of one in a Parquet file, which does not tell, that of
    /// the column chunk that holds it.
    pub bytes: u64,
    /// Where it lies.
    pub place: Place,
}

impl FileEntry {
    /// The picture, as it is. `root` is the folder that a file's path is relative to.
    ///
    /// # Errors
    /// [`DataError`] naming the picture: it cannot be read, or is damaged.
    pub fn raster(&self, root: &Path) -> Result<Raster, DataError> {
        let bytes = match &self.place {
            Place::File => return decode_file(&root.join(&self.path)),
            Place::Record { pack, record } => return pack.raster(*record, &self.path),
            Place::Range { archive, offset } => {
                if self.bytes > MAX_FILE_BYTES {
                    return Err(self.failed(DecodeError::FileTooLarge(self.bytes)));
                }
                read_range(archive, *offset, self.bytes)?
            }
            Place::Deflated { archive, offset, packed } => {
                self.inflated(archive, *offset, *packed)?
            }
            Place::Pixels { pixels, index } => return pixels.raster(*index),
            Place::Row { table, row } => table.image(*row)?,
        };
        decode_bytes(&bytes).map_err(|source| self.failed(source))
    }

    fn inflated(&self, archive: &Path, offset: u64, packed: u64) -> Result<Vec<u8>, DataError> {
        let most = self.bytes.max(packed);
        if most > MAX_FILE_BYTES {
            return Err(self.failed(DecodeError::FileTooLarge(most)));
        }
        let stored = read_range(archive, offset, packed)?;
        inflate(&stored, self.bytes).ok_or_else(|| {
            self.failed(DecodeError::Content("its compressed bytes are damaged".to_owned()))
        })
    }

    fn failed(&self, source: DecodeError) -> DataError {
        DataError::Decode { path: self.path.clone(), source }
    }
}

/// What deflated bytes hold, which has to be of `length` bytes.
pub(crate) fn inflate(stored: &[u8], length: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    DeflateDecoder::new(stored).take(length.checked_add(1)?).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 == length).then_some(bytes)
}

/// The `length` bytes of a file from `offset` on. The caller has bounded `length`.
pub(crate) fn read_range(path: &Path, offset: u64, length: u64) -> Result<Vec<u8>, DataError> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length];
    let mut file = jit_core::input::open(path)?;
    read_at(&mut file, offset, &mut bytes).map_err(FileError::at("read", path))?;
    Ok(bytes)
}

/// Fills `out` with the bytes of a file from `offset` on.
pub(crate) fn read_at(file: &mut File, offset: u64, out: &mut [u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(out)
}
