//! The classes in a column of a Parquet file, in whatever type they are.

use std::collections::HashMap;
use std::fs::File;

use super::Fault;
use super::footer::{Chunk, Footer, Leaf, Physical};
use super::levels::hybrid;
use super::page::{Encoding, Page, PageKind, damaged, pages};
use super::table::{Span, entries, spans};

/// Longest text of a class, in bytes.
const MAX_TEXT: usize = 1024;

/// More classes are no classification.
const MAX_WORDS: usize = 1 << 20;

/// The classes of the rows of a file.
#[derive(Debug)]
pub enum Labels {
    /// There is no column of them.
    None,
    /// Numbers.
    Numbers(Vec<i64>),
    /// Texts, each a number of one of the words.
    Words { rows: Vec<u32>, words: Vec<String> },
    /// What is in the column is no class, and why.
    Unusable(String),
}

impl Labels {
    /// Reads the column with the number `column`.
    ///
    /// # Errors
    /// Pages that are damaged, or rows without a value.
    pub fn read(file: &mut File, footer: &Footer, column: usize) -> Result<Self, Fault> {
        let leaf = &footer.leaves[column];
        let name = leaf.path.join(".");
        let mut of_chunks = Reader { numbers: Vec::new(), words: Words::default(), unusable: None };
        for (i, group) in footer.groups.iter().enumerate() {
            let chunk = &group.chunks[column];
            let read = of_chunks.chunk(file, chunk, group.rows, leaf);
            read.map_err(|fault| fault.of(&name, i))?;
        }
        let Reader { numbers, words, unusable } = of_chunks;
        Ok(match (unusable, leaf.kind) {
            (Some(reason), _) => Self::Unusable(reason),
            (None, Some(Physical::Bytes | Physical::Boolean)) => {
                Self::Words { rows: words.rows, words: words.words }
            }
            _ => Self::Numbers(numbers),
        })
    }

    /// The number of the first row whose class is not within `0..classes`, and its class.
    pub fn beyond(&self, classes: i64) -> Option<(usize, i64)> {
        let Self::Numbers(numbers) = self else { return None };
        let row = numbers.iter().position(|label| !(0..classes).contains(label))?;
        Some((row, numbers[row]))
    }
}

/// Texts, each kept once.
#[derive(Default)]
struct Words {
    rows: Vec<u32>,
    words: Vec<String>,
    known: HashMap<String, u32>,
}

impl Words {
    /// The number of a word.
    fn number(&mut self, bytes: &[u8]) -> Result<u32, String> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_TEXT);
        let text =
            text.ok_or_else(|| format!("it holds {} bytes that are no name", bytes.len()))?;
        if let Some(&number) = self.known.get(text) {
            return Ok(number);
        }
        let number = self.words.len();
        if number == MAX_WORDS {
            return Err(format!("it holds more than {MAX_WORDS} different texts"));
        }
        self.words.push(text.to_owned());
        self.known.insert(text.to_owned(), number as u32);
        Ok(number as u32)
    }
}

struct Reader {
    numbers: Vec<i64>,
    words: Words,
    /// Why what was found is no class.
    unusable: Option<String>,
}

impl Reader {
    /// The values of a chunk, none of which may be absent.
    fn chunk(
        &mut self,
        file: &mut File,
        chunk: &Chunk,
        rows: u64,
        leaf: &Leaf,
    ) -> Result<(), Fault> {
        let mut dictionary = Vec::new();
        let mut words = Vec::new();
        for page in pages(file, chunk, rows)? {
            let plain = page.decompress(page.stored(file)?)?;
            let encoding = match page.kind {
                PageKind::Dictionary if leaf.kind == Some(Physical::Bytes) => {
                    let spans = spans(&plain, 0, page.values)?;
                    words = spans.into_iter().map(|span| self.word(&plain, span)).collect();
                    continue;
                }
                PageKind::Dictionary => {
                    dictionary = self.plain(&plain, page.values, leaf.kind)?;
                    continue;
                }
                PageKind::Data(encoding) => encoding,
            };
            let (count, start) = present(&page, &plain, leaf)?;
            match (encoding, leaf.kind) {
                (Encoding::Plain, Some(Physical::Bytes)) => {
                    for span in spans(&plain, start, count)? {
                        let word = self.word(&plain, span);
                        self.words.rows.push(word);
                    }
                }
                (Encoding::Dictionary, Some(Physical::Bytes)) => {
                    self.words.rows.extend(entries(&plain, start, count, &words)?);
                }
                (_, Some(Physical::Boolean)) => {
                    for truth in truths(&plain, start, count, encoding)? {
                        let word = self.words.number(if truth { b"true" } else { b"false" });
                        self.words.rows.push(word.map_err(Fault::new)?);
                    }
                }
                (Encoding::Plain, kind) => {
                    let values = plain.get(start..).unwrap_or_default();
                    let numbers = self.plain(values, count, kind)?;
                    self.numbers.extend(numbers);
                }
                (Encoding::Dictionary, _) => {
                    self.numbers.extend(entries(&plain, start, count, &dictionary)?);
                }
                (Encoding::Runs, _) => return Err(damaged()),
            }
        }
        Ok(())
    }

    fn word(&mut self, plain: &[u8], (start, length): Span) -> u32 {
        let (start, length) = (start as usize, length as usize);
        match self.words.number(&plain[start..start + length]) {
            Ok(number) => number,
            Err(reason) => {
                self.unusable.get_or_insert(reason);
                0
            }
        }
    }

    /// `count` numbers one after the other; floats have to be whole.
    fn plain(
        &mut self,
        bytes: &[u8],
        count: usize,
        kind: Option<Physical>,
    ) -> Result<Vec<i64>, Fault> {
        let width = if matches!(kind, Some(Physical::Int32 | Physical::Float)) { 4 } else { 8 };
        let needed = count.checked_mul(width).and_then(|n| bytes.get(..n)).ok_or_else(damaged)?;
        let mut whole = |value: f64| {
            if value.fract() != 0.0 || value.abs() > f64::from(1 << 30) {
                self.unusable.get_or_insert_with(|| format!("it holds {value}"));
            }
            value as i64
        };
        let number = |bytes: &[u8]| match (bytes, kind) {
            (&[a, b, c, d], Some(Physical::Float)) => {
                whole(f32::from_le_bytes([a, b, c, d]).into())
            }
            (&[a, b, c, d], _) => i64::from(i32::from_le_bytes([a, b, c, d])),
            (bytes, Some(Physical::Double)) => {
                whole(bytes.try_into().map_or(f64::NAN, f64::from_le_bytes))
            }
            (bytes, _) => bytes.try_into().map_or(0, i64::from_le_bytes),
        };
        Ok(needed.chunks_exact(width).map(number).collect())
    }
}

/// How many values a page of data has, and where they start; none may be absent.
fn present(page: &Page, plain: &[u8], leaf: &Leaf) -> Result<(usize, usize), Fault> {
    let (present, start) = page.present(plain, leaf.max_def)?;
    match present.iter().position(|present| !present) {
        Some(row) => Err(Fault::new(format!("it has no value in row {row}"))),
        None => Ok((present.len(), start)),
    }
}

/// Truth values, a bit each, or in runs behind their length.
fn truths(
    plain: &[u8],
    start: usize,
    count: usize,
    encoding: Encoding,
) -> Result<Vec<bool>, Fault> {
    let bytes = plain.get(start..).unwrap_or_default();
    match encoding {
        Encoding::Plain => {
            let bytes = bytes.get(..count.div_ceil(8)).ok_or_else(damaged)?;
            Ok((0..count).map(|i| bytes[i / 8] >> (i % 8) & 1 == 1).collect())
        }
        Encoding::Runs => {
            let rest = bytes.get(4..).ok_or_else(damaged)?;
            Ok(hybrid(rest, 1, count)?.into_iter().map(|bit| bit == 1).collect())
        }
        Encoding::Dictionary => Err(damaged()),
    }
}
