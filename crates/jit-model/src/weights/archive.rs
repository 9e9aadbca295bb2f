//! Entries of a zip archive, read one at a time and never beyond what the file can account for.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jit_core::files::FileError;
use zip::{CompressionMethod, ZipArchive};

use super::WeightsError;

/// A compressed entry may claim at most this many times the size of the whole archive. Weights
/// hardly compress; what expands further is a zip bomb.
pub(super) const MAX_EXPANSION: u64 = 64;

/// An open zip archive. Reading is serialised by a lock.
pub(super) struct Archive {
    path: PathBuf,
    len: u64,
    zip: Mutex<ZipArchive<BufReader<File>>>,
}

impl Archive {
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let file = jit_core::input::open(path)?;
        let len = file.metadata().map_err(FileError::at("read", path))?.len();
        let zip = ZipArchive::new(BufReader::new(file))
            .map_err(|e| WeightsError::damaged(path, format!("its zip directory: {e}")))?;
        Ok(Self { path: path.into(), len, zip: Mutex::new(zip) })
    }

    /// The names of all entries.
    pub fn names(&self) -> Vec<String> {
        let zip = self.zip.lock().unwrap_or_else(PoisonError::into_inner);
        zip.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect()
    }

    /// Hands the size and the bytes of entry `name` to `read`. The entry's checksum is verified,
    /// whether `read` takes all of it or not.
    ///
    /// The size is no larger than a file of this length can hold, so `read` may reserve it.
    pub fn entry<T>(
        &self,
        name: &str,
        read: impl FnOnce(u64, &mut dyn Read) -> io::Result<T>,
    ) -> Result<T, WeightsError> {
        let fault =
            |what: String| WeightsError::damaged(&self.path, format!("entry `{name}`: {what}"));
        let mut zip = self.zip.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entry = zip.by_name(name).map_err(|e| fault(e.to_string()))?;
        let size = entry.size();
        let limit = match entry.compression() {
            CompressionMethod::Stored => self.len,
            _ => self.len.saturating_mul(MAX_EXPANSION),
        };
        if size > limit {
            return Err(fault(format!(
                "it claims {size} bytes, which an archive of {} bytes cannot hold",
                self.len
            )));
        }
        let mut bounded = entry.by_ref().take(size);
        let value = read(size, &mut bounded).map_err(|e| fault(e.to_string()))?;
        // The checksum is compared at the end, which must be where the directory says.
        io::copy(&mut bounded, &mut io::sink()).map_err(|e| fault(e.to_string()))?;
        match entry.read(&mut [0]).map_err(|e| fault(e.to_string()))? {
            0 => Ok(value),
            _ => Err(fault(format!("it holds more than the {size} bytes it claims"))),
        }
    }
}
