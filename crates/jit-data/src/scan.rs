//! What a path holds: one place that knows all forms of data sets.

use std::path::{Path, PathBuf};

use crate::archive;
use crate::error::DataError;
use crate::folder::{self, Folder};
use crate::pack::{self, Pack};
use crate::parquet;
use jit_core::text::Show;

/// The split that a folder of several is taken for.
const TRAIN: &str = "train";

/// Whether there is something at `path`, which may be a pattern.
pub fn exists(path: &Path) -> bool {
    path.exists() || pattern(path).is_some()
}

/// Lists the images of a folder, of tar archives, Parquet files or a pack, or of the files that a
/// pattern such as `data/validation-*.parquet` stands for. Nothing is decoded.
///
/// # Errors
/// [`DataError`] for what is damaged, mixed or empty.
pub fn scan(path: &Path) -> Result<Folder, DataError> {
    if path.is_dir() {
        return directory(path);
    }
    match path.extension().and_then(|e| e.to_str()) {
        _ if !path.exists() => shards(path),
        Some(pack::EXTENSION) => Pack::scan(path),
        Some(parquet::EXTENSION) => parquet::scan(path, &[path.to_path_buf()]),
        _ => archive::file(path),
    }
}

fn directory(root: &Path) -> Result<Folder, DataError> {
    let names = folder::names(root)?;
    let mut found = of_kind(root, &names, parquet::EXTENSION);
    // As a repository of the hub has them.
    let data = root.join("data");
    if found.is_empty() && names.iter().any(|name| name.as_os_str() == "data") && data.is_dir() {
        found = of_kind(&data, &folder::names(&data)?, parquet::EXTENSION);
    } else if let Some(name) = names.iter().find(|n| !found.is_empty() && folder::is_picture(n)) {
        let reason = format!("it holds Parquet files and, beside them, `{}`", name.shown());
        return Err(DataError::Archive { path: root.to_path_buf(), reason });
    }
    if !found.is_empty() {
        return parquet::scan(root, &split(root, found)?);
    }
    match archive::directory(root, names)? {
        Some(found) => Ok(found),
        None => folder::scan(root),
    }
}

fn of_kind(root: &Path, names: &[PathBuf], extension: &str) -> Vec<PathBuf> {
    let fits = |name: &&PathBuf| name.extension().is_some_and(|e| e == extension);
    names.iter().filter(fits).map(|name| root.join(name)).collect()
}

/// The files of the split for training, where there are several splits.
fn split(root: &Path, files: Vec<PathBuf>) -> Result<Vec<PathBuf>, DataError> {
    let mut splits: Vec<String> = files.iter().map(|file| split_of(file)).collect();
    splits.sort_unstable();
    splits.dedup();
    if splits.len() < 2 {
        return Ok(files);
    }
    if splits.iter().any(|split| split == TRAIN) {
        return Ok(files.into_iter().filter(|file| split_of(file) == TRAIN).collect());
    }
    let reason = format!(
        "it holds the splits `{}` and none called `{TRAIN}`: choose one with a pattern such as \
         `{}/{}*.parquet`",
        splits.join("`, `"),
        root.shown(),
        splits[0]
    );
    Err(DataError::Archive { path: root.to_path_buf(), reason })
}

/// `train` of `train-00000-of-00294.parquet`; nothing of `0000.parquet`.
fn split_of(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let end = stem.find(|c: char| !c.is_alphanumeric()).unwrap_or(stem.len());
    stem[..end].trim_end_matches(|c: char| c.is_ascii_digit()).to_owned()
}

/// The folder and the pattern of names that a path which is no file stands for.
fn pattern(path: &Path) -> Option<(PathBuf, String)> {
    let name = path.file_name()?.to_str().filter(|name| name.contains('*'))?;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    folder.is_dir().then(|| (folder.to_path_buf(), name.to_owned()))
}

/// The files that a pattern stands for.
fn shards(path: &Path) -> Result<Folder, DataError> {
    let Some((root, pattern)) = pattern(path) else {
        return Err(DataError::NotFound { path: path.display().to_string(), hint: String::new() });
    };
    let names = folder::names(&root)?;
    let fits = |name: &PathBuf| name.to_str().is_some_and(|name| matches(&pattern, name));
    let names: Vec<PathBuf> = names.into_iter().filter(fits).collect();
    let tables = of_kind(&root, &names, parquet::EXTENSION);
    if tables.len() == names.len() && !tables.is_empty() {
        return parquet::scan(path, &tables);
    }
    if names.is_empty() || of_kind(&root, &names, "tar").len() < names.len() {
        let reason = "it stands for no Parquet files, nor for tar archives alone".to_owned();
        return Err(DataError::Archive { path: path.to_path_buf(), reason });
    }
    archive::directory(&root, names)?.ok_or(DataError::Empty { root })
}

/// Whether `name` is of the form `pattern`, in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|tail| {
            let mut starts = tail.char_indices().map(|(i, _)| i).chain([tail.len()]);
            starts.any(|i| matches(rest, &tail[i..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_names() {
        let fits = |pattern: &str| matches(pattern, "train-00001-of-00002.parquet");
        assert!(fits("train-*.parquet") && fits("*") && fits("*-of-*") && fits("t*n-*t"));
        assert!(!fits("train-*.tar") && !fits("rain*") && !fits("train") && !fits(""));
    }

    #[test]
    fn splits_are_what_names_begin_with() {
        let split = |name: &str| split_of(Path::new(name));
        assert_eq!(split("data/train-00000-of-00294.parquet"), "train");
        assert_eq!(split("validation.parquet"), "validation");
        assert_eq!(split("0000.parquet"), "");
        let files: Vec<PathBuf> = ["test-0.parquet", "train-0.parquet"].map(Into::into).into();
        let train = super::split(Path::new("d"), files.clone()).unwrap();
        assert_eq!(train, [Path::new("train-0.parquet")]);
        let other = [files[0].clone(), "validation-0.parquet".into()];
        let message = super::split(Path::new("d"), other.into()).unwrap_err().to_string();
        assert!(message.contains("`test`, `validation`") && message.contains("d/test*.parquet"));
    }
}
