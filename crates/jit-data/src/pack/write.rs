//! Writing a pack: any number of threads, resumable after whatever ended it.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jit_core::files::{FileError, rename_synced};
use jit_core::lock::{Lock, PATIENCE};
use jit_core::output;

use super::header::{HEADER_LEN, Header};
use super::{Pack, Row, Table, checksum};
use crate::dataset::{Dataset, none_left};
use crate::error::{DamagedFile, DataError};
use crate::parallel;
use crate::place::read_at;

/// What was written.
#[derive(Debug)]
pub struct Packed {
    /// Images in the pack.
    pub images: usize,
    /// Of these, images that an earlier attempt had written.
    pub resumed: usize,
    /// Length of the pack in bytes.
    pub bytes: u64,
    /// What was left out.
    pub skipped: Vec<DamagedFile>,
}

/// Writes the images of `dataset` into the pack `to`, on `threads` threads, each of which holds one
/// image at a time. Records that an attempt which was killed has written are verified and kept.
/// `progress` is called with (images done, images in all) from any thread. With `skip` unusable
/// images are left out and returned.
///
/// # Errors
/// [`DataError::Damaged`] with every unusable image, unless `skip` is set; [`DataError::Archive`] when
/// `to` holds something else or another process is writing it; [`DataError::File`].
pub fn write(
    dataset: &Dataset,
    to: &Path,
    threads: usize,
    skip: bool,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Packed, DataError> {
    let manifest = dataset.manifest();
    let mut header = Header {
        size: dataset.size(),
        channels: dataset.channels(),
        records: dataset.len() as u64,
        table: None,
        table_crc: 0,
        source: manifest.digest(),
    };
    let to = &output::regular(to)?;
    if to.exists() {
        return existing(to, &header);
    }
    let part = part_of(to);
    let (mut file, resumed) = begin(&part, &header)?;
    let written = records(dataset, &mut file, &header, resumed, threads, progress);
    let Written { mut damaged, kept } = written.map_err(FileError::at("write", &part))?;
    let lost: Vec<usize> = damaged.iter().map(|(i, _)| *i).collect();
    let mut skipped: Vec<DamagedFile> = dataset.strays().to_vec();
    skipped.extend(damaged.drain(..).map(|(_, file)| file));
    skipped.sort_by(|a, b| a.path.cmp(&b.path));
    if !skip && !skipped.is_empty() {
        let root = manifest.source.into();
        return Err(DataError::Damaged { root, files: skipped, mend: crate::error::SKIP });
    }
    let images: Vec<Row> = manifest
        .images
        .into_iter()
        .enumerate()
        .filter(|(i, _)| lost.binary_search(i).is_err())
        .map(|(i, e)| Row { path: e.path, label: e.label, bytes: e.bytes, record: i as u64 })
        .collect();
    if images.is_empty() {
        return Err(none_left(manifest.source.into(), skipped));
    }
    let count = images.len();
    let table =
        Table { source: manifest.source, class_names: dataset.class_names().to_vec(), images };
    let bytes = finish(&mut file, &mut header, &table).map_err(FileError::at("write", &part))?;
    drop(file);
    rename_synced(&part, to)?;
    Ok(Packed { images: count, resumed: kept, bytes, skipped })
}

/// `x.jitpack.part`
fn part_of(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// A pack that is there already: the same one is no work, another no file to overwrite.
fn existing(to: &Path, wanted: &Header) -> Result<Packed, DataError> {
    let (pack, table) = Pack::open(to)?;
    let header = &pack.header;
    let same = Header { table: None, table_crc: 0, ..header.clone() } == *wanted;
    if !same {
        let reason = "it is there already, packed from other images or to another size: remove \
                      it, or choose another name";
        return Err(DataError::Archive { path: to.to_path_buf(), reason: reason.into() });
    }
    let images = table.images.len();
    Ok(Packed { images, resumed: images, bytes: pack.map.len() as u64, skipped: Vec::new() })
}

/// Opens the file that is being written, and tells whether an earlier attempt began it.
fn begin(part: &Path, header: &Header) -> Result<(Lock, bool), DataError> {
    let refused = |reason: &str| DataError::Archive { path: part.into(), reason: reason.into() };
    if let Some(dir) = part.parent() {
        std::fs::create_dir_all(dir).map_err(FileError::at("create folder", dir))?;
    }
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(part);
    let file = open.map_err(FileError::at("create", part))?;
    let lock = Lock::of(file, PATIENCE).map_err(FileError::at("lock", part))?;
    let mut file = lock.ok_or_else(|| refused("another process is writing it"))?;
    let end = header.end().ok_or_else(|| refused("it would be larger than any file"))?;
    let length = file.metadata().map_err(FileError::at("read", part))?.len();
    let resumed = length >= HEADER_LEN;
    if resumed {
        let mut bytes = vec![0; HEADER_LEN as usize];
        read_at(&mut file, 0, &mut bytes).map_err(FileError::at("read", part))?;
        let other = "it was begun from other images or to another size: remove it";
        let begun = Header::decode(&bytes).map_err(|_| refused(other))?;
        if (Header { table: None, table_crc: 0, ..begun }) != *header {
            return Err(refused(other));
        }
    }
    // A header that says there is no table, whatever the earlier attempt came to.
    write_at(&mut file, 0, &header.encode())
        .and_then(|()| file.set_len(end))
        .and_then(|()| file.sync_all())
        .map_err(FileError::at("write", part))?;
    Ok((file, resumed))
}

/// What became of the records.
struct Written {
    /// Images that do not load, by number.
    damaged: Vec<(usize, DamagedFile)>,
    /// Records that were there.
    kept: usize,
}

fn records(
    dataset: &Dataset,
    file: &mut File,
    header: &Header,
    resumed: bool,
    threads: usize,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> io::Result<Written> {
    struct Shared<'a> {
        file: &'a mut File,
        written: Written,
        done: usize,
        failed: Option<io::Error>,
    }
    let written = Written { damaged: Vec::new(), kept: 0 };
    let shared = Mutex::new(Shared { file, written, done: 0, failed: None });
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    let slot = || vec![0; header.stride()];
    parallel::for_each(dataset.len(), threads, slot, |slot, i| {
        let record = i as u64;
        let offset = header.record(record);
        let mut kept = false;
        if resumed {
            let read = read_at(lock().file, offset, slot);
            let (planes, sum) = slot.split_at(header.planes());
            kept = read.is_ok() && checksum(record, planes)[..] == *sum;
        }
        let mut loaded = Ok(());
        if !kept {
            let (planes, sum) = slot.split_at_mut(header.planes());
            loaded = dataset.load(i, planes);
            sum.copy_from_slice(&checksum(record, planes));
        }
        let mut shared = lock();
        match loaded {
            Ok(()) if kept => shared.written.kept += 1,
            Ok(()) => {
                if let Err(error) = write_at(shared.file, offset, slot) {
                    shared.failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
            Err(error) => shared.written.damaged.push((i, dataset.damaged(i, error))),
        }
        shared.done += 1;
        progress(shared.done, dataset.len());
        ControlFlow::Continue(())
    });
    let shared = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    match shared.failed {
        Some(error) => Err(error),
        None => {
            let mut written = shared.written;
            written.damaged.sort_by_key(|(i, _)| *i);
            Ok(written)
        }
    }
}

/// Writes the table and then, once that and the records are on disk, the header that tells of it.
fn finish(file: &mut File, header: &mut Header, table: &Table) -> io::Result<u64> {
    let bytes = serde_json::to_vec(table)?;
    let start = header.record(header.records);
    write_at(file, start, &bytes)?;
    let end = start + bytes.len() as u64;
    file.set_len(end)?;
    file.sync_all()?;
    header.table = Some((start, bytes.len() as u64));
    header.table_crc = crc32c::crc32c(&bytes);
    write_at(file, 0, &header.encode())?;
    file.sync_all()?;
    Ok(end)
}

fn write_at(file: &mut File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}
