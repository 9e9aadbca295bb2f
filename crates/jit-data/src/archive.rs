//! Tar archives read in place: the archives of ILSVRC as they are downloaded, and WebDataset shards.
//!
//! ```text
//! ILSVRC2012_img_train.tar     an archive of archives, one a class: n01440764.tar, n01443537.tar, …
//! train/n01440764.tar …        the same, unpacked once
//! shards/train-0000.tar …      WebDataset: pictures with a `.cls` file of the same name beside each,
//!                              and optionally `classnames.txt`, a line a class
//! photos.tar                   one folder a class, or pictures alone, such as ILSVRC2012_img_val.tar
//! ```
//!
//! Nothing is unpacked: a picture is a range of bytes of its archive, and its name is never a path
//! on disk.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jit_core::files::FileError;
use jit_core::text::Show;
use tar::{Archive, EntryType};

use crate::error::{DamagedFile, DataError};
use crate::folder::{self, Folder};
use crate::place::{FileEntry, Place, read_range};

/// Labels of shards are below this: more classes are no classification.
const MAX_CLASSES: u32 = 1 << 20;

/// Longest `.cls` file, in bytes.
const MAX_LABEL_BYTES: u64 = 64;

/// Longest list of class names, in bytes.
const MAX_NAMES_BYTES: u64 = 16 << 20;

/// Names of classes beside WebDataset shards.
const CLASS_NAMES: &str = "classnames.txt";

/// Lists the pictures in an archive.
///
/// # Errors
/// [`DataError::Archive`] for what is damaged, mixed or no archive, [`DataError::Empty`].
pub fn file(path: &Path) -> Result<Folder, DataError> {
    let mut found = Found::default();
    // By itself: of archives, which are classes; of folders, which are; or of pictures.
    let archive: Arc<Path> = path.into();
    found.archive(&archive, whole(path)?, None)?;
    found.folder(path)
}

/// Lists the pictures in the archives among the files `names` of the folder `root`; `None` if there is
/// no archive.
///
/// # Errors
/// As [`file()`].
pub fn directory(root: &Path, names: Vec<PathBuf>) -> Result<Option<Folder>, DataError> {
    let mut found = Found::default();
    let is_archive = |name: &PathBuf| name.extension().is_some_and(|e| e == "tar");
    if !names.iter().any(is_archive) {
        return Ok(None);
    }
    for name in names.iter().filter(|name| !is_archive(name)) {
        match name.to_str() {
            Some(CLASS_NAMES) => found.class_names = class_names(&root.join(name))?,
            _ => return Err(beside(root, name)),
        }
    }
    for name in names.into_iter().filter(is_archive) {
        let archive: Arc<Path> = root.join(&name).into();
        let label = (name.with_extension("").to_string_lossy().into_owned(), name);
        found.archive(&archive, whole(&archive)?, Some(label))?;
    }
    found.folder(root).map(Some)
}

fn beside(root: &Path, name: &Path) -> DataError {
    let reason = format!(
        "it holds tar archives and, beside them, `{}`: expected archives alone, and `{CLASS_NAMES}`",
        name.shown()
    );
    DataError::Archive { path: root.to_path_buf(), reason }
}

fn class_names(path: &Path) -> Result<Vec<String>, DataError> {
    let text = jit_core::input::read_text(path, MAX_NAMES_BYTES)?;
    Ok(text.lines().map(|line| line.trim().to_owned()).collect())
}

/// A range of bytes of an archive.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    length: u64,
}

fn whole(archive: &Path) -> Result<Range, DataError> {
    let length = archive.metadata().map_err(FileError::at("read", archive))?.len();
    Ok(Range { start: 0, length })
}

/// A regular file of an archive.
struct Member {
    name: PathBuf,
    range: Range,
}

impl Member {
    fn has_extension(&self, wanted: &str) -> bool {
        self.name.extension().is_some_and(|e| e.eq_ignore_ascii_case(wanted))
    }

    /// What the files of a WebDataset sample share: the path up to the first dot of its last part.
    fn key(&self) -> PathBuf {
        let name = self.name.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        self.name.with_file_name(name.split('.').next().unwrap_or_default())
    }
}

/// What the archives hold.
#[derive(Default)]
struct Found {
    /// Pictures with the name of their class; labels are given once all are known.
    files: Vec<(FileEntry, Option<String>)>,
    /// Pictures of shards, whose labels are numbers.
    numbered: Vec<FileEntry>,
    class_names: Vec<String>,
    strays: Vec<DamagedFile>,
}

impl Found {
    /// The members of `range` of an archive. `class` is that of all of them, with the part of names that
    /// it stands for.
    fn archive(
        &mut self,
        archive: &Arc<Path>,
        range: Range,
        class: Option<(String, PathBuf)>,
    ) -> Result<(), DataError> {
        let members = self.members(archive, range)?;
        let prefix = class.as_ref().map_or_else(PathBuf::new, |(_, prefix)| prefix.clone());
        let labels = labels(archive, &members)?;
        for member in members {
            let path = prefix.join(&member.name);
            if class.is_none() && member.has_extension("tar") {
                let name = member.name.with_extension("").to_string_lossy().into_owned();
                self.archive(archive, member.range, Some((name, path)))?;
                continue;
            }
            if !folder::is_picture(&path) {
                // Beside a label there may be anything: captions, JSON.
                if !labels.contains_key(&member.key()) {
                    self.strays.push(folder::stray(path));
                }
                continue;
            }
            let offset = member.range.start;
            let place = Place::Range { archive: Arc::clone(archive), offset };
            let bytes = member.range.length;
            let entry = |label| FileEntry { path, label, bytes, place };
            match (labels.get(&member.key()), &class) {
                (Some(label), _) => self.numbered.push(entry(*label)),
                (None, _) if !labels.is_empty() => {
                    let reason = "it has no `.cls` file, which others of its archive have".into();
                    self.strays.push(DamagedFile { path: entry(0).path, reason });
                }
                (None, Some((name, _))) => self.files.push((entry(0), Some(name.clone()))),
                (None, None) => {
                    let mut parts = member.name.components();
                    let first = parts.next().map(|p| p.as_os_str().to_string_lossy().into_owned());
                    let class = first.filter(|_| parts.next().is_some());
                    self.files.push((entry(0), class));
                }
            }
        }
        Ok(())
    }

    /// The regular files in `range` of an archive, hidden ones left out.
    fn members(&mut self, archive: &Path, range: Range) -> Result<Vec<Member>, DataError> {
        let damaged = |reason: String| DataError::Archive { path: archive.to_path_buf(), reason };
        let file = jit_core::input::open(archive)?;
        let mut tar = Archive::new(Window { file, range, at: 0 });
        let mut members = Vec::new();
        let mut last: Option<PathBuf> = None;
        // What the reader says of a damaged header may be the damage itself.
        let at = |last: &Option<PathBuf>| match last {
            None => damaged("it is no tar archive".into()),
            Some(name) => {
                let name = name.shown();
                damaged(format!("the header after `{name}` is damaged: copy it anew"))
            }
        };
        for entry in tar.entries_with_seek().map_err(|_| at(&last))? {
            let entry = entry.map_err(|_| at(&last))?;
            let name = PathBuf::from(String::from_utf8_lossy(&entry.path_bytes()).into_owned());
            let name: PathBuf = name.strip_prefix("./").map_or(name.clone(), Path::to_path_buf);
            let (start, length) = (entry.raw_file_position(), entry.size());
            if start.checked_add(length).is_none_or(|end| end > range.length) {
                let reason = format!("it ends in the middle of `{}`: copy it anew", name.shown());
                return Err(damaged(reason));
            }
            last = Some(name.clone());
            let hidden =
                name.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous if !hidden => {
                    let range = Range { start: range.start + start, length };
                    members.push(Member { name, range });
                }
                EntryType::Link | EntryType::Symlink | EntryType::GNUSparse => {
                    let reason = "a link or a sparse file, which is not read".to_owned();
                    self.strays.push(DamagedFile { path: name, reason });
                }
                _ => {}
            }
        }
        if members.is_empty() && range.length > 0 && !ends_as_tar(archive, range)? {
            return Err(damaged("it is no tar archive".into()));
        }
        Ok(members)
    }

    /// The pictures sorted by path, with their labels.
    fn folder(mut self, root: &Path) -> Result<Folder, DataError> {
        let mixed = |reason: &str| DataError::Archive { path: root.into(), reason: reason.into() };
        if !self.numbered.is_empty() && !self.files.is_empty() {
            return Err(mixed("some of its archives have `.cls` labels and others have none"));
        }
        let mut files = std::mem::take(&mut self.numbered);
        if files.is_empty() {
            let classes = self.files.iter().filter(|(_, class)| class.is_some()).count();
            if classes > 0 && classes < self.files.len() {
                return Err(mixed("it mixes pictures and folders of pictures"));
            }
            let mut names: Vec<String> =
                self.files.iter().filter_map(|(_, class)| class.clone()).collect();
            names.sort_unstable();
            names.dedup();
            files.extend(self.files.into_iter().map(|(entry, class)| {
                let label = class.and_then(|class| names.binary_search(&class).ok());
                FileEntry { label: label.unwrap_or(0) as u32, ..entry }
            }));
            self.class_names = names;
        } else {
            let most = files.iter().map(|file| file.label).max().unwrap_or(0) as usize;
            if self.class_names.is_empty() {
                self.class_names = (0..=most).map(|label| label.to_string()).collect();
            }
            if self.class_names.len() <= most {
                let lines = self.class_names.len();
                let reason =
                    format!("`{CLASS_NAMES}` has {lines} lines, and there is a label {most}");
                return Err(mixed(&reason));
            }
        }
        if files.is_empty() {
            return Err(DataError::Empty { root: root.to_path_buf() });
        }
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.strays.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Folder { files, class_names: self.class_names, strays: self.strays })
    }
}

/// The numbers in the `.cls` files among `members`, by the key of their sample.
fn labels(archive: &Path, members: &[Member]) -> Result<HashMap<PathBuf, u32>, DataError> {
    let mut labels = HashMap::new();
    for member in members.iter().filter(|member| member.has_extension("cls")) {
        let length = member.range.length.min(MAX_LABEL_BYTES);
        let bytes = read_range(archive, member.range.start, length)?;
        let text = String::from_utf8_lossy(&bytes);
        let label = text.trim().parse::<u32>().ok().filter(|label| *label < MAX_CLASSES);
        let Some(label) = label else {
            let name = member.name.shown();
            let reason = format!("`{name}` holds no number of a class: {:?}", text.trim());
            return Err(DataError::Archive { path: archive.to_path_buf(), reason });
        };
        labels.insert(member.key(), label);
    }
    Ok(labels)
}

/// Whether an archive without members is one all the same: zeros alone.
fn ends_as_tar(archive: &Path, range: Range) -> Result<bool, DataError> {
    let bytes = read_range(archive, range.start, range.length.min(1024))?;
    Ok(bytes.iter().all(|&byte| byte == 0))
}

/// A range of a file as a file of its own.
struct Window {
    file: File,
    range: Range,
    at: u64,
}

impl Read for Window {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.range.length.saturating_sub(self.at);
        let count = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.file.seek(SeekFrom::Start(self.range.start + self.at))?;
        let read = self.file.read(&mut out[..count])?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.range.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at =
            at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "before the start"))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests;
