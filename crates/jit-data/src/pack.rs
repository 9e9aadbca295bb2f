//! Packs: the images of a data set cropped once, for training that never waits for a decoder.
//!
//! ```text
//! header     4096 bytes: what it is, how many records of which shape, where the table lies
//! records    planes u8 [C, S, S] and their CRC-32C, one after the other
//! table      JSON: class names, and each image's name, class, length and record
//! ```
//!
//! A pack is written to a `.part` file beside it, which a killed process leaves and the next one goes
//! on with, and renamed once it is whole; after that nothing writes to it, so that it is mapped and
//! not read. It holds exactly what [`crate::Dataset::load`] gives, names and classes included: the
//! batches of a pack are those of its images, bit for bit.

mod header;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jit_core::files::FileError;
use jit_core::text::Show;
use jit_kernels::map::Map;
use serde::{Deserialize, Serialize};

use crate::error::{DamagedFile, DataError};
use crate::folder::Folder;
use crate::grid::interleave;
use crate::parallel;
use crate::place::{FileEntry, Place};
use crate::raster::Raster;
use header::{CHECKSUM, HEADER_LEN, Header};

pub use write::{Packed, write};

/// How the name of a pack ends.
pub const EXTENSION: &str = "jitpack";

/// A pack that is open.
#[derive(Debug)]
pub struct Pack {
    path: PathBuf,
    header: Header,
    map: Map,
}

/// What stands behind the records.
#[derive(Debug, Serialize, Deserialize)]
struct Table {
    /// The data set that was packed.
    source: String,
    class_names: Vec<String>,
    images: Vec<Row>,
}

/// An image in the table.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    path: String,
    label: u32,
    bytes: u64,
    record: u64,
}

impl Pack {
    /// Opens a pack and lists its images. Header and table are verified now, each record when it is
    /// read.
    ///
    /// # Errors
    /// [`DataError::Archive`] for what is cut short, damaged or no pack, saying which.
    pub fn scan(path: &Path) -> Result<Folder, DataError> {
        let (pack, table) = Self::open(path)?;
        let pack = Arc::new(pack);
        let entry = |row: Row| FileEntry {
            path: row.path.into(),
            label: row.label,
            bytes: row.bytes,
            place: Place::Record { pack: Arc::clone(&pack), record: row.record },
        };
        let files = table.images.into_iter().map(entry).collect();
        let classes_from = if table.class_names.is_empty() { "" } else { "the pack" }.to_owned();
        let class_names = table.class_names;
        Ok(Folder { files, class_names, classes_from, form: "a pack", ..Folder::default() })
    }

    fn open(path: &Path) -> Result<(Self, Table), DataError> {
        let damaged = |reason: String| DataError::Archive { path: path.to_path_buf(), reason };
        let file = jit_core::input::open(path)?;
        let length = file.metadata().map_err(FileError::at("read", path))?.len();
        if length < HEADER_LEN {
            return Err(damaged("it is no pack: it is too short".into()));
        }
        let map = Map::random(&file).map_err(FileError::at("map", path))?;
        let header = Header::decode(&map).map_err(damaged)?;
        let (start, len) = header.table.ok_or_else(|| damaged(UNFINISHED.into()))?;
        let end = start.checked_add(len).filter(|_| Some(start) == header.end());
        if end != Some(length) {
            let reason = match end {
                Some(end) if end > length => {
                    format!("it is cut short: it has {length} of {end} bytes; copy or pack it anew")
                }
                _ => format!("its header and its length of {length} bytes disagree: pack it anew"),
            };
            return Err(damaged(reason));
        }
        let bytes = &map[start as usize..];
        if crc32c::crc32c(bytes) != header.table_crc {
            let reason = "the table behind its records is damaged: copy or pack it anew";
            return Err(damaged(reason.into()));
        }
        let table: Table = serde_json::from_slice(bytes)
            .map_err(|error| damaged(format!("its table cannot be read: {error}")))?;
        let classes = table.class_names.len().max(1);
        let wrong = |row: &&Row| row.record >= header.records || row.label as usize >= classes;
        if let Some(row) = table.images.iter().find(wrong) {
            let Row { path, record, label, .. } = row;
            let reason = format!(
                "its table puts `{path}` into record {record} of {} and class {label} of {classes}",
                header.records
            );
            return Err(damaged(reason));
        }
        if table.images.is_empty() {
            return Err(DataError::Empty { root: path.to_path_buf() });
        }
        Ok((Self { path: path.to_path_buf(), header, map }, table))
    }

    /// Side of the images.
    pub fn size(&self) -> usize {
        self.header.size
    }

    /// Channels of the images.
    pub fn channels(&self) -> usize {
        self.header.channels
    }

    /// The planes `[C, S, S]` of a record, verified. `name` is the image's.
    ///
    /// # Errors
    /// [`DataError::Archive`] naming pack, record and image where the checksum differs.
    pub fn planes(&self, record: u64, name: &Path) -> Result<&[u8], DataError> {
        let offset = self.header.record(record) as usize;
        let slot = self.map.get(offset..offset + self.header.stride());
        let planes = slot.and_then(|slot| slot.split_last_chunk::<CHECKSUM>());
        let whole = planes.filter(|(planes, sum)| checksum(record, planes) == **sum);
        whole.map(|(planes, _)| planes).ok_or_else(|| DataError::Archive {
            path: self.path.clone(),
            reason: format!(
                "record {record} (`{}`) is damaged, its checksum differs: copy or pack it anew",
                name.shown()
            ),
        })
    }

    /// A record as a picture.
    ///
    /// # Errors
    /// As [`Pack::planes`].
    pub fn raster(&self, record: u64, name: &Path) -> Result<Raster, DataError> {
        let (size, channels) = (self.size(), self.channels());
        let pixels = interleave(self.planes(record, name)?, channels);
        Ok(Raster::from_parts(size, size, channels, pixels))
    }
}

/// Verifies every record that an image lies in.
///
/// # Errors
/// As [`Pack::scan`]; [`DataError::Damaged`] with all damaged records.
pub fn check(
    path: &Path,
    threads: usize,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<usize, DataError> {
    let (pack, table) = Pack::open(path)?;
    let damaged = Mutex::new(Vec::new());
    let done = Mutex::new(0);
    parallel::for_each(
        table.images.len(),
        threads,
        || (),
        |(), i| {
            let Row { path, record, .. } = &table.images[i];
            if pack.planes(*record, Path::new(path)).is_err() {
                let reason = format!("record {record} is damaged, its checksum differs");
                let file = DamagedFile { path: path.into(), reason };
                damaged.lock().unwrap_or_else(PoisonError::into_inner).push(file);
            }
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            *done += 1;
            progress(*done, table.images.len());
            std::ops::ControlFlow::Continue(())
        },
    );
    let mut files = damaged.into_inner().unwrap_or_else(PoisonError::into_inner);
    if files.is_empty() {
        return Ok(table.images.len());
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let mend = "Copy the pack anew, or pack the images anew";
    Err(DataError::Damaged { root: path.to_path_buf(), files, mend })
}

const UNFINISHED: &str = "it is not finished: pack the images again, which goes on where it ended";

/// What stands behind the planes of a record. Its number is part of it, so that records that changed
/// places are noticed, too.
fn checksum(record: u64, planes: &[u8]) -> [u8; CHECKSUM] {
    crc32c::crc32c_append(crc32c::crc32c(&record.to_le_bytes()), planes).to_le_bytes()
}

#[cfg(test)]
mod tests;
