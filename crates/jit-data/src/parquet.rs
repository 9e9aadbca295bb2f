//! Parquet files read in place, as the Hugging Face hub serves pictures: a column with the bytes of a
//! picture file, alone (`image`) or within a structure (`image.bytes`), and a column with its class.
//!
//! ```text
//! train-00000-of-00294.parquet         one file
//! imagenet-1k/data/train-00000-of-…    a folder of shards, or its parent; of several splits, `train`
//! data/validation-*.parquet            shards by a pattern
//! ```
//!
//! Columns and class names are those that are asked for or that the metadata `huggingface` tells, else
//! they are found by type and name. This reader is one of its own since the usual ones give a column's values in
//! order, and trust the sizes in a file's headers: here any picture can be had by itself, and every
//! size is bounded before memory is taken for it.

mod columns;
mod footer;
mod labels;
mod levels;
mod page;
mod snappy;
mod table;
mod thrift;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jit_core::text::Show;

use crate::error::DataError;
use crate::folder::Folder;
use crate::place::{FileEntry, Place};
use crate::scan::ScanOptions;
use columns::Columns;
use labels::Labels;
use table::Kept;

pub use table::Table;

/// How the name of a Parquet file ends.
pub const EXTENSION: &str = "parquet";

/// Labels are below this: more classes are no classification.
const MAX_CLASSES: i64 = 1 << 20;

/// What is wrong with a file.
#[derive(Debug)]
pub struct Fault(String);

impl Fault {
    fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }

    fn of(self, column: &str, group: usize) -> Self {
        Self(format!("column `{column}`, row group {group}: {}", self.0))
    }

    fn row(self, row: u64) -> Self {
        Self(format!("row {row}: {}", self.0))
    }

    fn at(self, path: &Path) -> DataError {
        DataError::Archive { path: path.to_path_buf(), reason: self.0 }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// What such data sets are called.
pub(crate) const FORM: &str = "Parquet files";

/// Lists the pictures of Parquet files in the order given; `root` names them all in messages.
///
/// # Errors
/// [`DataError::Archive`] for a file that is damaged, has no column of pictures, or does not go with
/// the first one; [`DataError::Empty`].
pub fn scan(root: &Path, paths: &[PathBuf]) -> Result<Folder, DataError> {
    scan_with(root, paths, &ScanOptions::default())
}

/// The same with the columns that are asked for.
pub(crate) fn scan_with(
    root: &Path,
    paths: &[PathBuf],
    options: &ScanOptions,
) -> Result<Folder, DataError> {
    let kept = Arc::new(Kept::default());
    let mut folder = Folder { form: FORM, ..Folder::default() };
    let mut first: Option<(PathBuf, Columns)> = None;
    let mut classes = Classes::default();
    for path in paths {
        let (table, labels, columns) = Table::open(path, &kept, options)?;
        let refused = |reason: String| DataError::Archive { path: path.clone(), reason };
        let differs = |first: &Columns| {
            first.names != columns.names
                || first.label_name != columns.label_name
                || first.words != columns.words
        };
        if let Some((before, _)) = first.as_ref().filter(|(_, first)| differs(first)) {
            return Err(refused(format!("its classes are not those of `{}`", before.shown())));
        }
        let column = columns.label_name.as_deref().unwrap_or_default();
        let known = columns.names.as_ref().map_or(MAX_CLASSES, |names| names.len() as i64);
        if let Some((row, label)) = labels.beyond(known) {
            return Err(refused(match label {
                -1 => format!("row {row} has the label −1: it is a test set without labels"),
                _ => format!("row {row}: column `{column}` has class {label} of {known}"),
            }));
        }
        let asked = !options.label_column.is_empty();
        if let Labels::Unusable(reason) = &labels
            && asked
        {
            return Err(refused(format!("column `{column}` holds no classes: {reason}")));
        }
        let table = Arc::new(table);
        classes.add(labels, table.rows());
        let name = path.file_name().map(PathBuf::from).unwrap_or_default();
        folder.files.extend((0..table.rows()).map(|row| FileEntry {
            path: name.join(format!("{row:06}")),
            label: 0,
            bytes: table.chunk_bytes(row),
            place: Place::Row { table: Arc::clone(&table), row },
        }));
        first.get_or_insert_with(|| (path.clone(), columns));
    }
    let Some((_, columns)) = first.filter(|_| !folder.files.is_empty()) else {
        return Err(DataError::Empty { root: root.to_path_buf() });
    };
    classes.give(&mut folder, columns);
    Ok(folder)
}

/// The classes of the rows of all files.
#[derive(Default)]
struct Classes {
    numbers: Vec<i64>,
    /// Words of the rows, by their numbers in `words`.
    rows: Vec<u32>,
    words: Vec<String>,
    known: HashMap<String, u32>,
    unusable: Option<String>,
}

impl Classes {
    fn add(&mut self, labels: Labels, rows: u64) {
        match labels {
            Labels::None => self.numbers.resize(self.numbers.len() + rows as usize, 0),
            Labels::Numbers(numbers) => self.numbers.extend(numbers),
            Labels::Unusable(reason) => self.unusable = Some(reason),
            Labels::Words { rows, words } => {
                let number = |word: String| {
                    let next = self.words.len() as u32;
                    *self.known.entry(word).or_insert_with_key(|word| {
                        self.words.push(word.clone());
                        next
                    })
                };
                let numbers: Vec<u32> = words.into_iter().map(number).collect();
                self.rows.extend(rows.into_iter().map(|row| numbers[row as usize]));
            }
        }
    }

    /// Gives pictures their classes. Words are numbered in their order, as names of folders are.
    fn give(self, folder: &mut Folder, columns: Columns) {
        folder.notes.extend(columns.note);
        let Some(column) = columns.label_name else {
            return;
        };
        if let Some(reason) = self.unusable {
            folder.notes.push(format!(
                "column `{column}` is not taken for classes: {reason}; --label-column takes another"
            ));
            return;
        }
        folder.classes_from = format!("column `{column}`");
        if self.words.is_empty() {
            let most = self.numbers.iter().copied().max().unwrap_or(-1);
            let numbered = || (0..=most).map(|label| label.to_string()).collect();
            folder.class_names = columns.names.unwrap_or_else(numbered);
            for (file, label) in folder.files.iter_mut().zip(self.numbers) {
                file.label = label as u32;
            }
            return;
        }
        let mut names = self.words.clone();
        names.sort_unstable();
        let number = |word| names.binary_search(word).unwrap_or(0) as u32;
        let numbers: Vec<u32> = self.words.iter().map(number).collect();
        for (file, row) in folder.files.iter_mut().zip(self.rows) {
            file.label = numbers[row as usize];
        }
        folder.class_names = names;
    }
}

#[cfg(test)]
mod tests;
