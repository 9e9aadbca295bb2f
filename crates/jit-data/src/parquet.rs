//! Parquet files read in place, as the Hugging Face hub serves pictures: a column with the bytes of a
//! picture file, alone (`image`) or within a structure (`image.bytes`), and a column with its class.
//!
//! ```text
//! train-00000-of-00294.parquet         one file
//! imagenet-1k/data/train-00000-of-…    a folder of shards, or its parent; of several splits, `train`
//! data/validation-*.parquet            shards by a pattern
//! ```
//!
//! Columns and class names are those that the metadata `huggingface` tells, else they are found by
//! type and name. This reader is one of its own since the usual ones give a column's values in
//! order, and trust the sizes in a file's headers: here any picture can be had by itself, and every
//! size is bounded before memory is taken for it.

mod footer;
mod levels;
mod page;
mod snappy;
mod table;
mod thrift;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jit_core::text::Show;
use serde_json::Value as Json;

use crate::error::DataError;
use crate::folder::Folder;
use crate::place::{FileEntry, Place};
use footer::{Footer, Leaf, Physical};
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

/// Lists the pictures of Parquet files in the order given; `root` names them all in messages.
///
/// # Errors
/// [`DataError::Archive`] for a file that is damaged, has no column of pictures, or does not go with
/// the first one; [`DataError::Empty`].
pub fn scan(root: &Path, paths: &[PathBuf]) -> Result<Folder, DataError> {
    let kept = Arc::new(Kept::default());
    let mut folder = Folder::default();
    let mut first: Option<(PathBuf, Columns)> = None;
    let mut most = -1;
    for path in paths {
        let (table, labels, columns) = Table::open(path, &kept)?;
        let differs = |first: &Columns| {
            first.names != columns.names || first.label_name != columns.label_name
        };
        if let Some((before, _)) = first.as_ref().filter(|(_, first)| differs(first)) {
            let reason = format!("its classes are not those of `{}`", before.shown());
            return Err(DataError::Archive { path: path.clone(), reason });
        }
        let classes = columns.names.as_ref().map_or(MAX_CLASSES, |names| names.len() as i64);
        if let Some(row) = labels.iter().position(|label| !(0..classes).contains(label)) {
            let label = labels[row];
            let column = columns.label_name.as_deref().unwrap_or_default();
            let reason = match label {
                -1 => format!("row {row} has the label −1: it is a test set without labels"),
                _ => format!("row {row}: column `{column}` has class {label} of {classes}"),
            };
            return Err(DataError::Archive { path: path.clone(), reason });
        }
        most = labels.iter().copied().max().unwrap_or(-1).max(most);
        let table = Arc::new(table);
        let name = path.file_name().map(PathBuf::from).unwrap_or_default();
        folder.files.extend((0..table.rows()).map(|row| FileEntry {
            path: name.join(format!("{row:06}")),
            label: labels.get(row as usize).map_or(0, |&label| label as u32),
            bytes: table.chunk_bytes(row),
            place: Place::Row { table: Arc::clone(&table), row },
        }));
        first.get_or_insert_with(|| (path.clone(), columns));
    }
    if folder.files.is_empty() {
        return Err(DataError::Empty { root: root.to_path_buf() });
    }
    let names = first.and_then(|(_, columns)| columns.names);
    folder.class_names =
        names.unwrap_or_else(|| (0..=most).map(|label| label.to_string()).collect());
    Ok(folder)
}

/// Which columns hold what.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Columns {
    /// The leaf with the pictures' bytes.
    image: usize,
    /// The leaf with the classes.
    label: Option<usize>,
    /// What that is called.
    label_name: Option<String>,
    /// Names of the classes, where the file tells them.
    names: Option<Vec<String>>,
}

impl Columns {
    fn choose(footer: &Footer) -> Result<Self, Fault> {
        let json = footer.huggingface.as_deref().map(serde_json::from_str::<Json>);
        let json = json.and_then(Result::ok).unwrap_or_default();
        let features = json.pointer("/info/features").and_then(Json::as_object);
        let is = |name: &str, kind: &str| {
            let feature = features.and_then(|features| features.get(name));
            feature.is_some_and(|feature| feature["_type"] == *kind)
        };
        let leaves: Vec<(usize, &Leaf)> = footer.leaves.iter().enumerate().collect();
        let image = image(&leaves, |name| is(name, "Image")).ok_or_else(|| {
            let names: Vec<String> = leaves.iter().map(|(_, leaf)| leaf.path.join(".")).collect();
            let names = names.join("`, `");
            Fault::new(format!("it has no column of pictures (`image.bytes`) among `{names}`"))
        })?;
        let whole = |leaf: &Leaf| {
            leaf.path.len() == 1
                && !leaf.repeated
                && matches!(leaf.kind, Some(Physical::Int32 | Physical::Int64))
        };
        let numbers = || leaves.iter().filter(|(_, leaf)| whole(leaf));
        let told = numbers().find(|(_, leaf)| is(&leaf.path[0], "ClassLabel"));
        let by_name = || {
            let names = ["label", "labels", "cls", "class", "class_id", "target"];
            names.iter().find_map(|name| numbers().find(|(_, leaf)| leaf.path[0] == *name))
        };
        let label = told.or_else(by_name);
        let label_name = label.map(|(_, leaf)| leaf.path[0].clone());
        let feature = label_name.as_ref().and_then(|name| features?.get(name));
        let names = feature.and_then(|feature| feature["names"].as_array()).map(|names| {
            let text = |name: &Json| name.as_str().map_or_else(|| name.to_string(), str::to_owned);
            names.iter().map(text).collect()
        });
        Ok(Self { image, label: label.map(|(i, _)| *i), label_name, names })
    }
}

/// The leaf with the bytes of pictures: of the first column that is told to hold them, else the first
/// by name.
fn image(leaves: &[(usize, &Leaf)], is_image: impl Fn(&str) -> bool) -> Option<usize> {
    let bytes = |leaf: &Leaf| leaf.kind == Some(Physical::Bytes) && !leaf.repeated;
    let inner = |leaf: &Leaf| match &leaf.path[..] {
        [_] => true,
        [_, member] => member == "bytes",
        _ => false,
    };
    let fits = || leaves.iter().filter(|(_, leaf)| bytes(leaf) && inner(leaf));
    let known = |name: &str| ["image", "img", "image.bytes", "jpg", "png", "webp"].contains(&name);
    let told = fits().find(|(_, leaf)| is_image(&leaf.path[0]));
    let found = told.or_else(|| fits().find(|(_, leaf)| known(&leaf.path[0])));
    // A structure with bytes is a picture by its form.
    let found = found.or_else(|| fits().find(|(_, leaf)| leaf.path.len() == 2));
    found.map(|(i, _)| *i)
}

#[cfg(test)]
mod tests;
