//! IDX files, as MNIST, Fashion-MNIST, KMNIST and EMNIST come: images in one, their classes in another,
//! compressed by gzip or not.

use jit_core::text::Show;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use jit_core::files::FileError;

use crate::error::DataError;
use crate::folder::Folder;
use crate::pixels::{Pixels, Shape, Store, numbers};
use crate::scan::ScanOptions;
use crate::splits;

/// What a compressed file may hold, in bytes.
const MAX_BYTES: u64 = 4 << 30;

/// Whether a file holds images by its name: `train-images-idx3-ubyte`, `train-images.idx3-ubyte.gz`.
pub fn is_images(name: &Path) -> bool {
    let name = name.to_string_lossy();
    name.ends_with("idx3-ubyte") || name.ends_with("idx3-ubyte.gz")
}

/// The images of one of the files `names` of a folder, that of the split asked for or for training.
///
/// # Errors
/// As [`file`], and where several files are left.
pub fn folder(root: &Path, names: &[PathBuf], options: &ScanOptions) -> Result<Folder, DataError> {
    let split = |name: &&PathBuf| splits::told(&name.to_string_lossy()).unwrap_or_default();
    // Of one that is there unpacked, too, that.
    let twice = |name: &PathBuf| {
        name.extension().is_some_and(|e| e == "gz") && names.contains(&name.with_extension(""))
    };
    let images = names.iter().filter(|name| is_images(name) && !twice(name));
    let parts = images.map(|name| (split(&name).to_owned(), name)).collect();
    let chosen = splits::choose(root, parts, &options.split)?;
    let [name] = chosen.taken[..] else {
        let names: Vec<String> = chosen.taken.iter().map(|n| n.shown().to_string()).collect();
        let reason =
            format!("it holds several files of images: give one of `{}`", names.join("`, `"));
        return Err(DataError::Archive { path: root.to_path_buf(), reason });
    };
    let mut found = file(&root.join(name))?;
    found.split = chosen.split;
    found.notes.splice(0..0, chosen.note);
    Ok(found)
}

/// The images of a file, with the classes of the file beside it.
///
/// # Errors
/// [`DataError::Archive`] for a file whose length is not what its header claims.
pub fn file(path: &Path) -> Result<Folder, DataError> {
    let refused = |path: &Path, reason: String| DataError::Archive { path: path.into(), reason };
    let (store, [count, height, width]) =
        read(path).and_then(|idx| idx.shaped().map_err(|reason| refused(path, reason)))?;
    let shape =
        Shape { height: height as usize, width: width as usize, channels: 1, planar: false };
    let Some(stride) = shape.samples() else {
        return Err(refused(path, format!("it has images of {height} × {width}, which are none")));
    };
    let mut folder = Folder { form: "IDX files", ..Folder::default() };
    let mut classes = Vec::new();
    match labels_beside(path) {
        None => folder.notes.push("there is no file of labels beside the images".to_owned()),
        Some(beside) => {
            let idx = read(&beside)?;
            let (store, [labels]) = idx.shaped().map_err(|reason| refused(&beside, reason))?;
            if labels != count {
                let reason = format!("it has {labels} classes for {count} images");
                return Err(refused(&beside, reason));
            }
            let bytes = match store {
                Store::Memory(bytes) => bytes.get(8..).unwrap_or_default().to_vec(),
                Store::File(path) => crate::place::read_range(&path, 8, labels)?,
            };
            classes = bytes.into_iter().map(u32::from).collect();
            folder.class_names = numbers(&classes);
            folder.classes_from =
                format!("`{}`", beside.file_name().unwrap_or_default().to_string_lossy());
        }
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let pixels = Pixels { store, start: 16, stride, shape, path: path.to_path_buf() };
    folder.files = pixels.entries(&name, &classes, count);
    if folder.files.is_empty() {
        return Err(DataError::Empty { root: path.to_path_buf() });
    }
    Ok(folder)
}

/// The file with the classes of the images in `path`, compressed or not.
fn labels_beside(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let name = name.trim_end_matches(".gz").replace("images", "labels").replace("idx3", "idx1");
    let forms = [name.clone(), format!("{name}.gz")].map(|name| path.with_file_name(name));
    forms.into_iter().find(|path| path.is_file())
}

/// A file: its first bytes, its length and its content.
struct Idx {
    head: Vec<u8>,
    length: u64,
    store: Store,
}

fn read(path: &Path) -> Result<Idx, DataError> {
    const HEAD: u64 = 16;
    let mut file = jit_core::input::open(path)?;
    let length = file.metadata().map_err(FileError::at("read", path))?.len();
    let mut head = Vec::new();
    file.by_ref().take(HEAD).read_to_end(&mut head).map_err(FileError::at("read", path))?;
    if !head.starts_with(b"\x1F\x8B") {
        return Ok(Idx { head, length, store: Store::File(path.into()) });
    }
    let reopened = jit_core::input::open(path)?;
    let mut bytes = Vec::new();
    let damaged = |_| DataError::Archive {
        path: path.to_path_buf(),
        reason: "its compressed bytes are damaged or cut short: fetch it anew".to_owned(),
    };
    // Deflate makes at most a thousand bytes of one, which is beyond any picture: no more than the
    // header claims is kept.
    let mut source = MultiGzDecoder::new(reopened);
    source.by_ref().take(HEAD).read_to_end(&mut bytes).map_err(damaged)?;
    let claimed = claimed(&bytes).unwrap_or(0).min(MAX_BYTES);
    let rest = (claimed + 1).saturating_sub(bytes.len() as u64);
    source.take(rest).read_to_end(&mut bytes).map_err(damaged)?;
    let head = bytes.iter().copied().take(HEAD as usize).collect();
    let length = bytes.len() as u64;
    Ok(Idx { head, length, store: Store::Memory(Arc::from(bytes)) })
}

/// The sizes that a header claims, of bytes.
fn sizes(head: &[u8]) -> Option<Vec<u64>> {
    let ([0, 0, 8, dimensions], rest) = head.split_first_chunk()? else { return None };
    let (sizes, _) = rest.as_chunks::<4>();
    let sizes = sizes.get(..usize::from(*dimensions))?;
    Some(sizes.iter().map(|size| u64::from(u32::from_be_bytes(*size))).collect())
}

fn claimed(head: &[u8]) -> Option<u64> {
    let sizes = sizes(head)?;
    let data = sizes.iter().try_fold(1u64, |n, &size| n.checked_mul(size))?;
    data.checked_add(4 + 4 * sizes.len() as u64)
}

impl Idx {
    /// Its content, and its sizes, of which there are `N`.
    fn shaped<const N: usize>(self) -> Result<(Store, [u64; N]), String> {
        let found = sizes(&self.head).and_then(|sizes| <[u64; N]>::try_from(sizes).ok());
        let found = found.ok_or_else(|| {
            format!("it is no IDX file of bytes in {N} dimensions: fetch it anew")
        })?;
        match claimed(&self.head) {
            Some(claimed) if claimed == self.length => Ok((self.store, found)),
            _ => Err(format!("its header claims {found:?}, and it has {} bytes", self.length)),
        }
    }
}

#[cfg(test)]
mod tests;
