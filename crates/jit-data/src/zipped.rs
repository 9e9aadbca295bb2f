//! Zip archives read in place: EDM's and StyleGAN's, whose `dataset.json` tells the classes, and others,
//! of folders or pictures alone. Nothing is unpacked to disk.

use jit_core::text::Show;
use std::collections::HashMap;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jit_core::files::FileError;
use serde_json::Value as Json;
use zip::{CompressionMethod, ZipArchive};

use crate::error::{DamagedFile, DataError};
use crate::folder::{self, Folder};
use crate::members::{Found, MAX_CLASSES, Member};
use crate::place::Place;
use crate::scan::ScanOptions;

/// What EDM's archives call the list of classes.
pub(crate) const LIST: &str = "dataset.json";

/// Longest such list, in bytes.
const MAX_LIST_BYTES: u64 = 512 << 20;

/// Lists the pictures in a zip archive.
///
/// # Errors
/// [`DataError::Archive`] for what is damaged, encrypted or mixed, [`DataError::Empty`].
pub fn file(path: &Path, options: &ScanOptions) -> Result<Folder, DataError> {
    let mut found = Found::new(options, "a zip archive");
    let mut members = members(path, &mut found.folder.strays)?;
    let list = members.iter().position(|member| member.name.as_os_str() == LIST);
    let list = list.map(|at| members.swap_remove(at));
    if let Some(list) = list.as_ref().filter(|list| list.bytes > MAX_LIST_BYTES) {
        let reason = format!("its `{LIST}` has {} bytes, more than are read", list.bytes);
        return Err(DataError::Archive { path: path.to_path_buf(), reason });
    }
    let text = list.map(|list| list.head(MAX_LIST_BYTES)).transpose()?;
    let Some(labels) = text.as_deref().and_then(labels) else {
        found.add(path, Path::new(""), members, None)?;
        return found.finish(path);
    };
    // Its folders hold a thousand pictures each and are no classes.
    let mut folder = found.folder;
    for member in members {
        let Member { name, bytes, place } = member;
        match folder::is_picture(&name) {
            true => {
                folder.files.push(crate::place::FileEntry { path: name, label: 0, bytes, place })
            }
            false => folder.beside(name),
        }
    }
    if folder.files.is_empty() {
        return Err(folder.empty(path));
    }
    folder.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    label(&mut folder, labels)
        .map_err(|reason| DataError::Archive { path: path.into(), reason })?;
    Ok(folder)
}

/// Lists the pictures of such an archive that was unpacked into the folder `root`; `None` if its list
/// is another's.
pub(crate) fn unpacked(root: &Path) -> Result<Option<Folder>, DataError> {
    let path = root.join(LIST);
    let mut text = Vec::new();
    let file = jit_core::input::open(&path)?;
    file.take(MAX_LIST_BYTES).read_to_end(&mut text).map_err(FileError::at("read", &path))?;
    let Some(labels) = labels(&text) else { return Ok(None) };
    let mut folder = folder::scan_but(root, LIST)?;
    label(&mut folder, labels)
        .map_err(|reason| DataError::Archive { path: root.into(), reason })?;
    Ok(Some(folder))
}

/// What the text of a `dataset.json` has under `labels`, which may be nothing; `None` if it is another
/// file of that name.
fn labels(text: &[u8]) -> Option<Json> {
    let mut json: Json = serde_json::from_slice(text).ok()?;
    json.get_mut("labels").map(Json::take)
}

/// Gives pictures the classes that a `dataset.json` tells: `[["00000/img00000000.png", 6], …]` or none.
fn label(folder: &mut Folder, labels: Json) -> Result<(), String> {
    folder.class_names.clear();
    folder.classes_from.clear();
    folder.files.iter_mut().for_each(|file| file.label = 0);
    let labels: Option<Vec<(String, Json)>> =
        serde_json::from_value(labels).map_err(|error| format!("its `{LIST}`: {error}"))?;
    let Some(labels) = labels else {
        folder.notes.push(format!("`{LIST}` tells no classes"));
        return Ok(());
    };
    let mut by_name: HashMap<&str, u32> = HashMap::with_capacity(labels.len());
    for (name, class) in &labels {
        let number =
            class.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n < MAX_CLASSES);
        let number = number.ok_or_else(|| {
            let class = class.to_string();
            let class: String = class.chars().take(80).collect();
            format!("its `{LIST}` gives `{name}` the class {class}: expected a number from 0 on")
        })?;
        if by_name.insert(name, number).is_some() {
            return Err(format!("its `{LIST}` gives `{name}` two classes"));
        }
    }
    let mut most = 0;
    for file in &mut folder.files {
        let name = file.path.to_string_lossy();
        let number = by_name.get(&*name);
        file.label =
            *number.ok_or_else(|| format!("its `{LIST}` does not tell the class of `{name}`"))?;
        most = most.max(file.label);
    }
    folder.class_names = (0..=most).map(|label| label.to_string()).collect();
    folder.classes_from = format!("`{LIST}`");
    Ok(())
}

/// The files in a zip archive, hidden ones left out. What is none that can be read is added to `strays`.
pub(crate) fn members(
    path: &Path,
    strays: &mut Vec<DamagedFile>,
) -> Result<Vec<Member>, DataError> {
    let damaged = |reason: String| DataError::Archive { path: path.to_path_buf(), reason };
    let file = jit_core::input::open(path)?;
    let length = file.metadata().map_err(FileError::at("read", path))?.len();
    let mut zip = ZipArchive::new(BufReader::new(file)).map_err(|error| {
        damaged(format!("it is no zip archive, or cut short: {error}; copy it anew"))
    })?;
    let archive: Arc<Path> = path.into();
    let mut members = Vec::new();
    for i in 0..zip.len() {
        let entry = zip.by_index_raw(i).map_err(|error| {
            damaged(format!("entry {i} of its directory is damaged: {error}; copy it anew"))
        })?;
        let name = PathBuf::from(String::from_utf8_lossy(entry.name_raw()).into_owned());
        let name = name.strip_prefix("./").map_or(name.clone(), Path::to_path_buf);
        let hidden = name.file_name().is_none() || name.iter().any(folder::is_left_behind);
        if entry.is_dir() || hidden {
            continue;
        }
        let (bytes, packed) = (entry.size(), entry.compressed_size());
        let offset = entry.data_start();
        let end = offset.and_then(|offset| offset.checked_add(packed));
        let Some(offset) = offset.filter(|_| end.is_some_and(|end| end <= length)) else {
            let name = name.shown();
            return Err(damaged(format!("it ends in the middle of `{name}`: copy it anew")));
        };
        let archive = Arc::clone(&archive);
        let place = match entry.compression() {
            _ if entry.encrypted() => Err("it is encrypted".to_owned()),
            CompressionMethod::Stored if bytes == packed => Ok(Place::Range { archive, offset }),
            CompressionMethod::Stored => Err("its sizes disagree".to_owned()),
            CompressionMethod::Deflated => Ok(Place::Deflated { archive, offset, packed }),
            other => Err(format!("it is compressed by {other}, which is not read")),
        };
        match place {
            Ok(place) => members.push(Member { name, bytes, place }),
            Err(reason) => strays.push(DamagedFile { path: name, reason }),
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests;
