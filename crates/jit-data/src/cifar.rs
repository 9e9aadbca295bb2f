//! CIFAR-10 and CIFAR-100 as downloaded: the archives `cifar-10-python.tar.gz`, `cifar-10-binary.tar.gz`
//! and those of CIFAR-100, or the folders in them. The Python versions are pickles, of which no more is
//! read than these files have, and nothing is executed.

mod pickle;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use jit_core::files::FileError;

use crate::error::DataError;
use crate::folder::Folder;
use crate::pixels::{Pixels, Shape, Store};
use crate::scan::ScanOptions;
use crate::splits;

/// Longest file that is read, in bytes; CIFAR-100's training images have 155 MB.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// Longest archive once decompressed.
const MAX_BYTES: u64 = 1 << 30;

const SHAPE: Shape = Shape { height: 32, width: 32, channels: 3, planar: true };
const IMAGE: usize = 3072;

/// A version of the data set.
struct Version {
    /// What it is called.
    name: &'static str,
    /// The files of each split.
    splits: [(&'static str, &'static [&'static str]); 2],
    /// The file with the names of the classes.
    names: &'static str,
    /// What the classes and their names are called in pickles; bytes of labels before each image in
    /// the binary version, the last of which is the class.
    labels: Labels,
    classes: u32,
}

#[derive(Clone, Copy)]
enum Labels {
    Pickled { labels: &'static str, names: &'static str },
    Binary { bytes: usize },
}

const VERSIONS: [Version; 4] = [
    Version {
        name: "CIFAR-10",
        splits: [
            (
                splits::TRAIN,
                &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"],
            ),
            ("test", &["test_batch"]),
        ],
        names: "batches.meta",
        labels: Labels::Pickled { labels: "labels", names: "label_names" },
        classes: 10,
    },
    Version {
        name: "CIFAR-10",
        splits: [
            (
                splits::TRAIN,
                &[
                    "data_batch_1.bin",
                    "data_batch_2.bin",
                    "data_batch_3.bin",
                    "data_batch_4.bin",
                    "data_batch_5.bin",
                ],
            ),
            ("test", &["test_batch.bin"]),
        ],
        names: "batches.meta.txt",
        labels: Labels::Binary { bytes: 1 },
        classes: 10,
    },
    Version {
        name: "CIFAR-100",
        splits: [(splits::TRAIN, &["train"]), ("test", &["test"])],
        names: "meta",
        labels: Labels::Pickled { labels: "fine_labels", names: "fine_label_names" },
        classes: 100,
    },
    Version {
        name: "CIFAR-100",
        splits: [(splits::TRAIN, &["train.bin"]), ("test", &["test.bin"])],
        names: "fine_label_names.txt",
        labels: Labels::Binary { bytes: 2 },
        classes: 100,
    },
];

/// The version that files of these names are.
fn version(has: impl Fn(&str) -> bool) -> Option<&'static Version> {
    let any = |version: &&Version| {
        has(version.names) && version.splits.iter().any(|(_, files)| files.iter().any(|f| has(f)))
    };
    VERSIONS.iter().find(any)
}

/// Whether files of these names are a version of CIFAR.
pub fn is_folder(names: &[PathBuf]) -> bool {
    version(|name| names.iter().any(|n| n.as_os_str() == name)).is_some()
}

/// The images in the files of a folder.
///
/// # Errors
/// [`DataError::Archive`] naming the file that is missing or damaged.
pub fn folder(root: &Path, names: &[PathBuf], options: &ScanOptions) -> Result<Folder, DataError> {
    let has = |name: &str| names.iter().any(|n| n.as_os_str() == name);
    let Some(version) = version(has) else {
        return Err(DataError::Empty { root: root.to_path_buf() });
    };
    let read = |name: &str| -> Result<Option<Vec<u8>>, DataError> {
        let path = root.join(name);
        if !has(name) {
            return Ok(None);
        }
        let file = jit_core::input::open(&path)?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(FileError::at("read", &path))?;
        Ok(Some(bytes))
    };
    let store = |name: &str, _: Vec<u8>| Store::File(root.join(name).into());
    version.images(root, options, "files of CIFAR", &read, &store)
}

/// The images in an archive as downloaded; `None` if it is another kind of archive.
///
/// # Errors
/// As [`folder`].
pub fn archive(path: &Path, options: &ScanOptions) -> Result<Option<Folder>, DataError> {
    let file = jit_core::input::open(path)?;
    let mut tar = tar::Archive::new(MultiGzDecoder::new(file).take(MAX_BYTES));
    let damaged = |error: std::io::Error| DataError::Archive {
        path: path.to_path_buf(),
        reason: format!("it is damaged or cut short: {error}; fetch it anew"),
    };
    let known = |name: &str| {
        VERSIONS.iter().any(|version| {
            name == version.names || version.splits.iter().any(|(_, files)| files.contains(&name))
        })
    };
    let mut files = BTreeMap::new();
    let Ok(entries) = tar.entries() else { return Ok(None) };
    for (i, entry) in entries.enumerate() {
        /// Without a file of CIFAR among so many it is something else.
        const LOOKED_AT: usize = 8;
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(_) if files.is_empty() => return Ok(None),
            Err(error) => return Err(damaged(error)),
        };
        if files.is_empty() && i == LOOKED_AT {
            return Ok(None);
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some((_, name)) = name.split_once('/').filter(|(_, name)| known(name)) else {
            continue;
        };
        let mut bytes = Vec::new();
        entry.by_ref().take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(damaged)?;
        files.insert(name.to_owned(), bytes);
    }
    let Some(version) = version(|name| files.contains_key(name)) else { return Ok(None) };
    let read = |name: &str| Ok(files.get(name).cloned());
    let store = |_: &str, bytes: Vec<u8>| Store::Memory(Arc::from(bytes));
    version.images(path, options, "an archive of CIFAR", &read, &store).map(Some)
}

/// Reads a file of the data set, if it is there.
type ReadFile<'a> = dyn Fn(&str) -> Result<Option<Vec<u8>>, DataError> + 'a;

impl Version {
    fn images(
        &self,
        root: &Path,
        options: &ScanOptions,
        form: &'static str,
        read: &ReadFile<'_>,
        store: &dyn Fn(&str, Vec<u8>) -> Store,
    ) -> Result<Folder, DataError> {
        let refused = |reason: String| DataError::Archive { path: root.to_path_buf(), reason };
        let file = |name: &str| {
            let missing = || refused(format!("it lacks `{name}` of {}: fetch it anew", self.name));
            read(name)?.ok_or_else(missing)
        };
        let names = file(self.names)?;
        let names =
            self.class_names(&names).map_err(|r| refused(format!("`{}`: {r}", self.names)))?;
        let parts = self.splits.iter().map(|&(split, files)| (split.to_owned(), files)).collect();
        let chosen = splits::choose(root, parts, &options.split)?;
        let mut folder = Folder {
            form,
            class_names: names,
            classes_from: format!("`{}`", self.names),
            split: chosen.split,
            notes: chosen.note.into_iter().collect(),
            ..Folder::default()
        };
        for name in chosen.taken.into_iter().flatten() {
            let bytes = file(name)?;
            let batch = self.batch(&bytes).map_err(|r| refused(format!("`{name}`: {r}")))?;
            let count = batch.labels.len() as u64;
            let pixels = Pixels {
                store: store(name, bytes),
                start: batch.start,
                stride: batch.stride,
                shape: SHAPE,
                path: root.join(name),
            };
            folder.files.extend(pixels.entries(name, &batch.labels, count));
        }
        if folder.files.is_empty() {
            return Err(DataError::Empty { root: root.to_path_buf() });
        }
        Ok(folder)
    }

    /// The names of the classes, all of them.
    fn class_names(&self, bytes: &[u8]) -> Result<Vec<String>, String> {
        let names = match self.labels {
            Labels::Pickled { names, .. } => pickle::texts(bytes, names)?,
            Labels::Binary { .. } => {
                let text = String::from_utf8_lossy(bytes);
                text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect()
            }
        };
        match names.len() {
            count if count == self.classes as usize => Ok(names),
            count => Err(format!("it names {count} classes of {}", self.classes)),
        }
    }

    /// Where the images of a file are, and their classes.
    fn batch(&self, bytes: &[u8]) -> Result<Batch, String> {
        let batch = match self.labels {
            Labels::Pickled { labels, .. } => {
                let pickle::Images { labels, data } = pickle::images(bytes, labels)?;
                if data.len() != labels.len().saturating_mul(IMAGE) {
                    return Err(format!(
                        "it has {} classes, and {} bytes of images of {IMAGE}",
                        labels.len(),
                        data.len()
                    ));
                }
                Batch { labels, start: data.start as u64, stride: IMAGE as u64 }
            }
            Labels::Binary { bytes: before } => {
                let stride = before + IMAGE;
                if !bytes.len().is_multiple_of(stride) {
                    let reason = format!("its {} bytes are no images of {stride}", bytes.len());
                    return Err(reason + ": fetch it anew");
                }
                let labels = bytes.chunks_exact(stride).map(|i| u32::from(i[before - 1])).collect();
                Batch { labels, start: before as u64, stride: stride as u64 }
            }
        };
        match batch.labels.iter().find(|&&label| label >= self.classes) {
            Some(label) => Err(format!("it has a class {label} of {}", self.classes)),
            None => Ok(batch),
        }
    }
}

/// The images of a file.
struct Batch {
    labels: Vec<u32>,
    /// Where the first starts.
    start: u64,
    /// Bytes from one to the next.
    stride: u64,
}

#[cfg(test)]
mod tests;
