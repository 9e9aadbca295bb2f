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
use crate::foreign;
use crate::members::{Found, Member};
use crate::place::{Place, read_range};
use crate::scan::ScanOptions;

/// Longest list of class names, in bytes.
const MAX_NAMES_BYTES: u64 = 16 << 20;

/// Names of classes beside WebDataset shards.
pub(crate) const CLASS_NAMES: &str = "classnames.txt";

const FORM: &str = "tar archives";

/// Lists the pictures in an archive.
///
/// # Errors
/// [`DataError::Archive`] for what is damaged, mixed or no archive, [`DataError::Empty`].
pub fn file(path: &Path) -> Result<Folder, DataError> {
    file_with(path, &ScanOptions::default())
}

/// The same with what is asked for.
pub(crate) fn file_with(path: &Path, options: &ScanOptions) -> Result<Folder, DataError> {
    let mut found = Found::new(options, FORM);
    // By itself: of archives, which are classes; of folders, which are; or of pictures.
    let archive: Arc<Path> = path.into();
    add(&mut found, &archive, whole(path)?, Path::new(""), None)?;
    found.finish(path)
}

/// Lists the pictures in the archives `names` of the folder `root`, beside which there may be a list
/// of class names.
///
/// # Errors
/// As [`file()`].
pub(crate) fn shards(
    root: &Path,
    names: &[PathBuf],
    options: &ScanOptions,
) -> Result<Folder, DataError> {
    let mut found = Found::new(options, FORM);
    let list = root.join(CLASS_NAMES);
    if list.is_file() {
        found.class_names = class_names(&list)?;
    }
    for name in names {
        let archive: Arc<Path> = root.join(name).into();
        let class = name.with_extension("").to_string_lossy().into_owned();
        // One by itself is no class.
        let class = (names.len() > 1).then_some(class);
        add(&mut found, &archive, whole(&archive)?, name, class.as_deref())?;
    }
    found.finish(root)
}

/// The names of classes, a line each.
fn class_names(path: &Path) -> Result<Vec<String>, DataError> {
    let text = jit_core::input::read_text(path, MAX_NAMES_BYTES)?;
    let text = text.trim_start_matches('\u{FEFF}').trim_end();
    let names: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    match names.iter().position(String::is_empty) {
        Some(line) => Err(DataError::Archive {
            path: path.to_path_buf(),
            reason: format!("line {} is blank: expected a name for each class", line + 1),
        }),
        None => Ok(names),
    }
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

/// Adds the members of `range` of an archive, whose names in the data set begin with `prefix`. `class`
/// is what all of them may be of; without one, archives among them are classes.
fn add(
    found: &mut Found<'_>,
    archive: &Arc<Path>,
    range: Range,
    prefix: &Path,
    class: Option<&str>,
) -> Result<(), DataError> {
    let mut members = members(archive, range, &mut found.folder.strays)?;
    if class.is_none() {
        let inner = members.extract_if(.., |member| member.has_extension("tar"));
        for member in inner.collect::<Vec<_>>() {
            let Place::Range { offset, .. } = member.place else { continue };
            let class = member.name.with_extension("").to_string_lossy().into_owned();
            let range = Range { start: offset, length: member.bytes };
            add(found, archive, range, &prefix.join(&member.name), Some(&class))?;
        }
    }
    found.add(archive, prefix, members, class)
}

/// The regular files in `range` of an archive, hidden ones left out. What is none is added to `strays`.
fn members(
    archive: &Arc<Path>,
    range: Range,
    strays: &mut Vec<DamagedFile>,
) -> Result<Vec<Member>, DataError> {
    let damaged = |reason: String| DataError::Archive { path: archive.to_path_buf(), reason };
    let no_archive = || {
        let what = foreign::told(archive).filter(|_| range.start == 0);
        damaged(what.map_or_else(|| "it is no tar archive".into(), |what| format!("it is {what}")))
    };
    let file = jit_core::input::open(archive)?;
    let mut tar = Archive::new(Window { file, range, at: 0 });
    let mut members: Vec<Member> = Vec::new();
    let mut last: Option<PathBuf> = None;
    // What the reader says of a damaged header may be the damage itself.
    let at = |last: &Option<PathBuf>| match last {
        None => no_archive(),
        Some(name) => {
            let name = name.shown();
            damaged(format!("the header after `{name}` is damaged: copy it anew"))
        }
    };
    let mut links: Vec<(PathBuf, PathBuf)> = Vec::new();
    for entry in tar.entries_with_seek().map_err(|_| at(&last))? {
        let mut entry = entry.map_err(|_| at(&last))?;
        let name = plain(&entry.path_bytes());
        let kind = entry.header().entry_type();
        let sparse = kind == EntryType::GNUSparse || is_sparse(&mut entry);
        let (start, length) = (entry.raw_file_position(), entry.size());
        // What a sparse file claims is its length without the gaps closed.
        if !sparse && start.checked_add(length).is_none_or(|end| end > range.length) {
            let reason = format!("it ends in the middle of `{}`: copy it anew", name.shown());
            return Err(damaged(reason));
        }
        last = Some(name.clone());
        let hidden = name.file_name().is_none() || name.iter().any(folder::is_left_behind);
        match kind {
            _ if hidden => {}
            _ if sparse => {
                let reason = "a sparse file, which is not read: write the archive without --sparse";
                strays.push(DamagedFile { path: name, reason: reason.to_owned() });
            }
            EntryType::Regular | EntryType::Continuous => {
                let place =
                    Place::Range { archive: Arc::clone(archive), offset: range.start + start };
                members.push(Member { name, bytes: length, place });
            }
            EntryType::Link => {
                links.push((name, plain(&entry.link_name_bytes().unwrap_or_default())));
            }
            EntryType::Symlink => {
                let reason = "a symbolic link, which is not read: write the archive with \
                              --dereference";
                strays.push(DamagedFile { path: name, reason: reason.to_owned() });
            }
            _ => {}
        }
    }
    if members.is_empty() && range.length > 0 && !ends_as_tar(archive, range)? {
        return Err(no_archive());
    }
    linked(&mut members, links, strays);
    Ok(members)
}

/// A name in an archive without `./` in front.
fn plain(name: &[u8]) -> PathBuf {
    let name = PathBuf::from(String::from_utf8_lossy(name).into_owned());
    name.strip_prefix("./").map_or(name.clone(), Path::to_path_buf)
}

/// Whether an entry is a sparse file as newer archives have them, whose map is in front of its bytes.
fn is_sparse<R: Read>(entry: &mut tar::Entry<'_, R>) -> bool {
    let Ok(Some(extensions)) = entry.pax_extensions() else { return false };
    let told = |key: &[u8]| key.starts_with(b"GNU.sparse.");
    extensions.flatten().any(|extension| told(extension.key_bytes()))
}

/// Hard links are the files that they link to, which come before them.
fn linked(
    members: &mut Vec<Member>,
    links: Vec<(PathBuf, PathBuf)>,
    strays: &mut Vec<DamagedFile>,
) {
    if links.is_empty() {
        return;
    }
    let mut known: HashMap<PathBuf, (u64, Place)> =
        members.iter().map(|m| (m.name.clone(), (m.bytes, m.place.clone()))).collect();
    for (name, target) in links {
        match known.get(&target).cloned() {
            Some((bytes, place)) => {
                known.insert(name.clone(), (bytes, place.clone()));
                members.push(Member { name, bytes, place });
            }
            None => {
                let reason = format!("a link to `{}`, which is not in it", target.shown());
                strays.push(DamagedFile { path: name, reason });
            }
        }
    }
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
