//! A Parquet file as numbered pictures: any row, without reading what lies around it.
//!
//! The first picture asked for in a row group has its pages decoded once, to find where every picture
//! starts. After that a picture of an uncompressed page is a range of bytes of the file; one of a
//! Snappy page takes the blocks of 64 KiB that it lies in; pages of other codecs are decoded whole,
//! and the last ones kept.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::footer::{Chunk, Codec, Footer};
use super::labels::Labels;
use super::levels::hybrid;
use super::page::{Encoding, Page, PageKind, damaged, pages};
use super::snappy::{self, BLOCK};
use super::{Columns, Fault};
use crate::decode::{DecodeError, MAX_FILE_BYTES};
use crate::error::DataError;
use crate::place::read_at;
use crate::scan::ScanOptions;

/// Pages that are kept decoded, in bytes, of all files of a data set together.
const KEPT_BYTES: usize = 128 << 20;

/// A file whose metadata was read.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    groups: Vec<Group>,
    max_def: u32,
    kept: Arc<Kept>,
    /// Held while a group is indexed: one at a time, which bounds memory.
    indexing: Mutex<()>,
}

#[derive(Debug)]
struct Group {
    /// Row after its last.
    end: u64,
    rows: u64,
    chunk: Chunk,
    index: OnceLock<Index>,
}

/// Where the pictures of a row group are.
#[derive(Debug)]
struct Index {
    pages: Vec<Access>,
    /// Of each row; `None` where it has no picture.
    values: Vec<Option<Value>>,
}

#[derive(Clone, Copy, Debug)]
struct Value {
    page: u32,
    start: u32,
    length: u32,
}

/// How to get at the middle of a page.
#[derive(Debug)]
enum Access {
    /// Its bytes in the file are those of the page.
    Stored(u64),
    /// Compressed in blocks that start at these positions of the page.
    Blocks { page: Page, starts: Vec<u32> },
    /// Not but by decoding all of it.
    Whole(Page),
}

/// Where a value starts in its page, and how long it is.
pub(super) type Span = (u32, u32);

impl Table {
    /// Reads the metadata and the labels of a file.
    ///
    /// # Errors
    /// [`DataError::Archive`] saying what is wrong with it.
    pub(super) fn open(
        path: &Path,
        kept: &Arc<Kept>,
        options: &ScanOptions,
    ) -> Result<(Self, Labels, Columns), DataError> {
        let mut file = jit_core::input::open(path)?;
        let mut read = || -> Result<_, Fault> {
            let footer = Footer::read(&mut file)?;
            let columns = Columns::choose(&footer, options)?;
            let labels = match columns.label {
                Some(column) => Labels::read(&mut file, &footer, column)?,
                None => Labels::None,
            };
            Ok((footer, columns, labels))
        };
        let (footer, columns, labels) = read().map_err(|fault| fault.at(path))?;
        let mut end = 0;
        let groups = footer.groups.into_iter().map(|mut group| {
            end += group.rows;
            let chunk = group.chunks.swap_remove(columns.image);
            Group { end, rows: group.rows, chunk, index: OnceLock::new() }
        });
        let table = Self {
            path: path.to_path_buf(),
            groups: groups.collect(),
            max_def: footer.leaves[columns.image].max_def,
            kept: Arc::clone(kept),
            indexing: Mutex::new(()),
        };
        Ok((table, labels, columns))
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.groups.last().map_or(0, |group| group.end)
    }

    /// Bytes of the column chunk that the picture of a row lies in.
    pub(super) fn chunk_bytes(&self, row: u64) -> u64 {
        self.group(row).map_or(0, |(_, group)| group.chunk.length)
    }

    fn group(&self, row: u64) -> Option<(usize, &Group)> {
        let i = self.groups.partition_point(|group| group.end <= row);
        self.groups.get(i).map(|group| (i, group))
    }

    /// The bytes of the picture in `row`.
    ///
    /// # Errors
    /// [`DataError::Archive`] naming file and row.
    pub fn image(&self, row: u64) -> Result<Vec<u8>, DataError> {
        let failed = |fault: Fault| fault.row(row).at(&self.path);
        let none = || failed(Fault::new("it has no picture"));
        let (i, group) = self.group(row).ok_or_else(none)?;
        let mut file = jit_core::input::open(&self.path)?;
        let index = match group.index.get() {
            Some(index) => index,
            None => {
                let _one = self.indexing.lock().unwrap_or_else(PoisonError::into_inner);
                match group.index.get() {
                    Some(index) => index,
                    None => {
                        let index = self.index(&mut file, i, group).map_err(failed)?;
                        group.index.get_or_init(|| index)
                    }
                }
            }
        };
        let value = index.values.get((row + group.rows - group.end) as usize).copied().flatten();
        let value = value.ok_or_else(none)?;
        if u64::from(value.length) > MAX_FILE_BYTES {
            return Err(failed(Fault::new(DecodeError::FileTooLarge(value.length.into()))));
        }
        let access = &index.pages[value.page as usize];
        self.fetch(&mut file, (i, value), access).map_err(failed)
    }

    fn fetch(
        &self,
        file: &mut File,
        (group, value): (usize, Value),
        access: &Access,
    ) -> Result<Vec<u8>, Fault> {
        let (start, length) = (value.start as usize, value.length as usize);
        match access {
            Access::Stored(at) => {
                let mut bytes = vec![0; length];
                read_at(file, at + start as u64, &mut bytes)?;
                Ok(bytes)
            }
            Access::Blocks { page, starts } => {
                let (front, plain) = (page.front(), page.plain - page.front());
                let start = start - front;
                let (first, last) = (start / BLOCK, (start + length).saturating_sub(1) / BLOCK);
                let ends = starts.get(first..last + 2).ok_or_else(damaged)?;
                let (from, to) = (ends[0], ends[ends.len() - 1]);
                let mut packed = vec![0; (to - from) as usize];
                read_at(file, page.start + front as u64 + u64::from(from), &mut packed)?;
                let mut out = Vec::with_capacity(ends.len() * BLOCK);
                for (block, pair) in (first..).zip(ends.windows(2)) {
                    let bytes = &packed[(pair[0] - from) as usize..(pair[1] - from) as usize];
                    let size = BLOCK.min(plain - block * BLOCK);
                    snappy::append_block(bytes, &mut out, size)?;
                }
                out.drain(..start - first * BLOCK);
                out.truncate(length);
                Ok(out)
            }
            Access::Whole(page) => {
                let key = (self.path.clone(), group, value.page);
                let bytes = match self.kept.get(&key) {
                    Some(bytes) => bytes,
                    None => {
                        let bytes = Arc::new(page.decompress(page.stored(file)?)?);
                        self.kept.put(key, &bytes);
                        bytes
                    }
                };
                Ok(bytes.get(start..start + length).ok_or_else(damaged)?.to_vec())
            }
        }
    }

    /// Decodes the pages of a group to find its pictures.
    fn index(&self, file: &mut File, number: usize, group: &Group) -> Result<Index, Fault> {
        let mut index = Index { pages: Vec::new(), values: Vec::new() };
        let mut dictionary: Vec<Value> = Vec::new();
        for page in pages(file, &group.chunk, group.rows)? {
            let id = index.pages.len() as u32;
            let stored = page.stored(file)?;
            let access = match page.codec {
                Codec::None => Access::Stored(page.start),
                Codec::Snappy if page.plain > page.front() => {
                    match snappy::blocks(&stored[page.front()..])? {
                        Some(starts) => Access::Blocks { page, starts },
                        None => Access::Whole(page),
                    }
                }
                _ => Access::Whole(page),
            };
            let plain = page.decompress(stored)?;
            let value = |(start, length): Span| Value { page: id, start, length };
            match page.kind {
                PageKind::Dictionary => {
                    let spans = spans(&plain, 0, page.values)?;
                    dictionary = spans.into_iter().map(value).collect();
                }
                PageKind::Data(encoding) => {
                    let (present, start) = page.present(&plain, self.max_def)?;
                    let count = present.iter().filter(|&&present| present).count();
                    let values: Vec<Value> = match encoding {
                        Encoding::Plain => {
                            spans(&plain, start, count)?.into_iter().map(value).collect()
                        }
                        Encoding::Dictionary => entries(&plain, start, count, &dictionary)?,
                        Encoding::Runs => return Err(damaged()),
                    };
                    let mut values = values.into_iter();
                    index
                        .values
                        .extend(present.iter().map(|&p| p.then(|| values.next()).flatten()));
                }
            }
            if matches!(access, Access::Whole(_)) {
                self.kept.put((self.path.clone(), number, id), &Arc::new(plain));
            }
            index.pages.push(access);
        }
        Ok(index)
    }
}

/// Where `count` values lie that are written one after the other from `start` on.
pub(super) fn spans(plain: &[u8], start: usize, count: usize) -> Result<Vec<Span>, Fault> {
    let mut at = start;
    let mut spans = Vec::with_capacity(count.min(plain.len() / 4));
    for _ in 0..count {
        let length = plain.get(at..).and_then(<[u8]>::first_chunk).ok_or_else(damaged)?;
        let length = u32::from_le_bytes(*length);
        let end = (at + 4).checked_add(length as usize).filter(|&end| end <= plain.len());
        spans.push(((at + 4) as u32, length));
        at = end.ok_or_else(damaged)?;
    }
    Ok(spans)
}

/// The dictionary's entries that `count` numbers from `start` on stand for.
pub(super) fn entries<T: Copy>(
    plain: &[u8],
    start: usize,
    count: usize,
    dictionary: &[T],
) -> Result<Vec<T>, Fault> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let (&width, rest) = plain.get(start..).and_then(<[u8]>::split_first).ok_or_else(damaged)?;
    let numbers = hybrid(rest, u32::from(width), count)?;
    let entry = |n: u32| dictionary.get(n as usize).copied().ok_or_else(damaged);
    numbers.into_iter().map(entry).collect()
}

/// A page: its file, its row group, its number therein.
type Key = (PathBuf, usize, u32);

/// The last decoded pages, up to [`KEPT_BYTES`].
#[derive(Debug, Default)]
pub struct Kept(Mutex<VecDeque<(Key, Arc<Vec<u8>>)>>);

impl Kept {
    fn get(&self, key: &Key) -> Option<Arc<Vec<u8>>> {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = pages.iter().position(|(other, _)| other == key)?;
        let page = pages.remove(at)?;
        let bytes = Arc::clone(&page.1);
        pages.push_back(page);
        Some(bytes)
    }

    fn put(&self, key: Key, bytes: &Arc<Vec<u8>>) {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pages.push_back((key, Arc::clone(bytes)));
        let mut total: usize = pages.iter().map(|(_, bytes)| bytes.len()).sum();
        while total > KEPT_BYTES {
            let Some((_, oldest)) = pages.pop_front() else { return };
            total -= oldest.len();
        }
    }
}
