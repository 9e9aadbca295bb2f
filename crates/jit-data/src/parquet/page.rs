//! Pages: the pieces that a column's values come in, each with a header.

use std::fs::File;
use std::io::Read;

use super::Fault;
use super::footer::{Chunk, Codec};
use super::levels::hybrid;
use super::snappy;
use super::thrift::Reader;
use crate::place::read_at;

/// Largest page, in bytes, before and after decompression.
pub const MAX_PAGE_BYTES: usize = 1 << 29;

/// Longest page header, in bytes.
const MAX_HEADER_BYTES: u64 = 1 << 20;

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// One after the other.
    Plain,
    /// Truth values as small numbers in runs and packed bits.
    Runs,
    /// Numbers of a dictionary's entries.
    Dictionary,
}

/// What a page is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// Entries that other pages point to.
    Dictionary,
    /// Values.
    Data(Encoding),
}

/// A page whose header was read.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// What it is for.
    pub kind: PageKind,
    /// Values, absent ones included.
    pub values: usize,
    /// Where its bytes start within the file.
    pub start: u64,
    /// Bytes in the file.
    pub stored: usize,
    /// Bytes once decompressed.
    pub plain: usize,
    /// Bytes of levels in front that are never compressed, in the second version of pages.
    pub levels: Option<[usize; 2]>,
    /// How the rest is compressed.
    pub codec: Codec,
}

/// The pages of a chunk, which has `rows` rows.
///
/// # Errors
/// Headers that are damaged or claim what cannot be.
pub fn pages(file: &mut File, chunk: &Chunk, rows: u64) -> Result<Vec<Page>, Fault> {
    let (mut at, end) = (chunk.start, chunk.start + chunk.length);
    let mut pages = Vec::new();
    let mut left = rows;
    while left > 0 && at < end {
        let mut window = vec![0; (end - at).min(4096) as usize];
        read_at(file, at, &mut window)?;
        let header = match Header::read(&window) {
            // Statistics may make it longer.
            Err(_) if end - at > 4096 => {
                window.resize((end - at).min(MAX_HEADER_BYTES) as usize, 0);
                read_at(file, at, &mut window)?;
                Header::read(&window)?
            }
            header => header?,
        };
        at += header.length as u64;
        if header.stored as u64 > end - at {
            let reason = format!("a page claims {} bytes of {}", header.stored, end - at);
            return Err(Fault::new(reason));
        }
        if let Some(page) = header.page(at, chunk.codec)? {
            if let PageKind::Data(_) = page.kind {
                left = left.checked_sub(page.values as u64).ok_or_else(|| {
                    Fault::new(format!("its pages claim more values than its {rows} rows"))
                })?;
            } else if page.values > page.plain {
                return Err(Fault::new("a dictionary claims more entries than it has bytes"));
            }
            pages.push(page);
        }
        at += header.stored as u64;
    }
    if left > 0 {
        return Err(Fault::new(format!("its pages have {left} values too few")));
    }
    Ok(pages)
}

/// The header of a page.
#[derive(Default)]
struct Header {
    kind: i64,
    plain: usize,
    stored: usize,
    values: usize,
    encoding: i64,
    levels: Option<[usize; 2]>,
    uncompressed: bool,
    /// Bytes of the header itself.
    length: usize,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let mut header = Self { kind: -1, ..Self::default() };
        let size = |r: &mut Reader<'_>| -> Result<usize, Fault> {
            let size = r.count()?;
            usize::try_from(size).ok().filter(|&size| size <= MAX_PAGE_BYTES).ok_or_else(|| {
                Fault::new(format!("a page claims {size}, and at most {MAX_PAGE_BYTES} are read"))
            })
        };
        let mut reader = Reader::new(bytes);
        reader.structure(&mut |r, id, _| {
            match id {
                1 => header.kind = r.int()?,
                2 => header.plain = size(r)?,
                3 => header.stored = size(r)?,
                // Of a page of values, of a dictionary, of a page in the second version.
                5 | 7 | 8 => r.structure(&mut |r, field, kind| {
                    let second = id == 8;
                    match field {
                        1 => header.values = size(r)?,
                        2 if !second => header.encoding = r.int()?,
                        4 if second => header.encoding = r.int()?,
                        5 if second => header.levels.get_or_insert_default()[1] = size(r)?,
                        6 if second => header.levels.get_or_insert_default()[0] = size(r)?,
                        7 if second => header.uncompressed = !kind.truth(),
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        header.length = bytes.len() - reader.left();
        Ok(header)
    }

    /// `None` for a kind of page that holds no values.
    fn page(&self, start: u64, codec: Codec) -> Result<Option<Page>, Fault> {
        let encoding = || match self.encoding {
            0 => Ok(Encoding::Plain),
            2 | 8 => Ok(Encoding::Dictionary),
            3 => Ok(Encoding::Runs),
            5 => Err(unsupported("encoding DELTA_BINARY_PACKED")),
            6 => Err(unsupported("encoding DELTA_LENGTH_BYTE_ARRAY")),
            7 => Err(unsupported("encoding DELTA_BYTE_ARRAY")),
            other => Err(unsupported(&format!("encoding number {other}"))),
        };
        let kind = match self.kind {
            0 | 3 => PageKind::Data(encoding()?),
            2 => PageKind::Dictionary,
            _ => return Ok(None),
        };
        let levels = (self.kind == 3).then(|| self.levels.unwrap_or_default());
        let codec = if self.kind == 3 && self.uncompressed { Codec::None } else { codec };
        let (values, stored, plain) = (self.values, self.stored, self.plain);
        let front = levels.map_or(0, |[a, b]| a.saturating_add(b));
        if front > stored.min(plain) || (codec == Codec::None && stored != plain) {
            return Err(Fault::new("the sizes in the header of a page disagree"));
        }
        Ok(Some(Page { kind, values, start, stored, plain, levels, codec }))
    }
}

impl Page {
    /// Bytes in front that are never compressed.
    pub fn front(&self) -> usize {
        self.levels.map_or(0, |[repetition, definition]| repetition + definition)
    }

    /// Its bytes as they are in the file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn stored(&self, file: &mut File) -> Result<Vec<u8>, Fault> {
        let mut bytes = vec![0; self.stored];
        read_at(file, self.start, &mut bytes)?;
        Ok(bytes)
    }

    /// Its bytes, decompressed.
    ///
    /// # Errors
    /// When they are damaged or compressed in a way that is not read.
    pub fn decompress(&self, mut stored: Vec<u8>) -> Result<Vec<u8>, Fault> {
        let (front, length) = (self.front(), self.plain - self.front());
        let packed = &stored[front..];
        let rest = match self.codec {
            Codec::None => return Ok(stored),
            // Absent values alone leave nothing to compress.
            _ if length == 0 => Vec::new(),
            Codec::Snappy => snappy::decode(packed, length)?,
            Codec::Gzip => exactly(flate2::read::MultiGzDecoder::new(packed), length)?,
            Codec::Zstd => {
                let decoder = ruzstd::decoding::StreamingDecoder::new(packed);
                exactly(decoder.map_err(|_| damaged())?, length)?
            }
            Codec::Other(other) => {
                let names = ["LZO", "BROTLI", "LZ4", "ZSTD", "LZ4_RAW"];
                let name = usize::try_from(other - 3).ok().and_then(|i| names.get(i));
                let name = name.map_or_else(|| format!("number {other}"), |n| (*n).to_owned());
                return Err(unsupported(&format!("compression {name}")));
            }
        };
        if front == 0 {
            return Ok(rest);
        }
        stored.truncate(front);
        stored.extend(rest);
        Ok(stored)
    }

    /// Which of the values of a decompressed page of data are there, and where these start.
    ///
    /// # Errors
    /// When the levels are damaged.
    pub fn present(&self, plain: &[u8], max_def: u32) -> Result<(Vec<bool>, usize), Fault> {
        let width = u32::BITS - max_def.leading_zeros();
        let (levels, start) = match self.levels {
            Some([repetition, _]) => (&plain[repetition..self.front()], self.front()),
            None if max_def == 0 => (&plain[..0], 0),
            None => {
                let (length, rest) = plain.split_first_chunk().ok_or_else(damaged)?;
                let length = u32::from_le_bytes(*length) as usize;
                (rest.get(..length).ok_or_else(damaged)?, 4 + length)
            }
        };
        if max_def == 0 {
            return Ok((vec![true; self.values], start));
        }
        let levels = hybrid(levels, width, self.values)?;
        Ok((levels.into_iter().map(|level| level == max_def).collect(), start))
    }
}

/// What `reader` yields, which has to be `length` bytes.
fn exactly(reader: impl Read, length: usize) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::new();
    reader.take(length as u64 + 1).read_to_end(&mut out).map_err(|_| damaged())?;
    if out.len() == length { Ok(out) } else { Err(damaged()) }
}

fn unsupported(what: &str) -> Fault {
    let mend =
        "write it with PLAIN or dictionary encoding and no, snappy, gzip or zstd compression";
    Fault::new(format!("its pages have {what}, which is not read: {mend}"))
}

/// A page whose bytes make no sense.
pub fn damaged() -> Fault {
    Fault::new("a page is damaged: its values do not fit its header")
}
