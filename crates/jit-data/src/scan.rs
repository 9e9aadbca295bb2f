//! What a path holds: one place that knows all forms of data sets.

use std::path::{Path, PathBuf};

use jit_core::files::FileError;
use jit_core::text::Show;

use crate::error::DataError;
use crate::folder::{self, Entry, Folder, Kind};
use crate::pack::{self, Pack};
use crate::splits::Chosen;
use crate::{archive, cifar, foreign, idx, npz, parquet, splits, zipped};

/// How the names of tar archives end.
const TAR: &str = "tar";

/// How a path is read, beyond what it tells by itself; empty texts ask for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanOptions {
    /// The split to take.
    pub split: String,
    /// The key of JSON files beside pictures that tells the class.
    pub label_key: String,
    /// The column of classes.
    pub label_column: String,
    /// The column of pictures.
    pub image_column: String,
}

/// Whether there is something at `path`, which may be a pattern.
pub fn exists(path: &Path) -> bool {
    path.exists() || pattern(path).is_some()
}

/// [`scan_with`] without any wishes.
///
/// # Errors
/// As [`scan_with`].
pub fn scan(path: &Path) -> Result<Folder, DataError> {
    scan_with(path, &ScanOptions::default())
}

/// Lists the images of whatever is at `path`, or of the files that a pattern such as
/// `data/validation-*.parquet` stands for. Nothing is decoded.
///
/// # Errors
/// [`DataError`] for what is damaged, mixed or empty, and for an option that does not go with it.
pub fn scan_with(path: &Path, options: &ScanOptions) -> Result<Folder, DataError> {
    let mut found = if path.is_dir() {
        directory(path, options)?
    } else if path.exists() {
        file(path, options)?
    } else {
        shards(path, options)?
    };
    if found.split.is_none() && !options.split.is_empty() {
        return Err(splits::no_such(path, &options.split, &[]));
    }
    let unused = |option, value: &String, what: &str| {
        let expected = format!("`{}` holds {}, and no {what}", path.shown(), found.form);
        Err(DataError::Option { option, value: value.clone(), expected })
    };
    let table = found.form == parquet::FORM;
    if !table && !options.label_column.is_empty() {
        return unused("data.label_column", &options.label_column, "columns");
    }
    if !table && !options.image_column.is_empty() {
        return unused("data.image_column", &options.image_column, "columns");
    }
    let keyed = !found.classes_from.is_empty() && found.classes_from.contains("JSON");
    if !keyed && !options.label_key.is_empty() {
        return unused("data.label_key", &options.label_key, "JSON files beside pictures");
    }
    found.strays.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn file(path: &Path, options: &ScanOptions) -> Result<Folder, DataError> {
    let refused = |reason: String| DataError::Archive { path: path.to_path_buf(), reason };
    let regular = path.metadata().map_err(FileError::at("read", path))?.is_file();
    if !regular {
        return Err(refused("it is neither a file nor a folder".to_owned()));
    }
    let name = path.file_name().unwrap_or_default();
    match path.extension().and_then(|e| e.to_str()) {
        Some(pack::EXTENSION) => Pack::scan(path),
        Some(parquet::EXTENSION) => parquet::scan_with(path, &[path.to_path_buf()], options),
        Some(npz::EXTENSION) => npz::file(path, options),
        Some("zip") => zipped::file(path, options),
        Some(TAR) => archive::file_with(path, options),
        _ if idx::is_images(name.as_ref()) => idx::file(path),
        Some("gz" | "tgz") => match cifar::archive(path, options)? {
            Some(found) => Ok(found),
            None => match foreign::told(path) {
                Some(what) => Err(refused(format!("it is {what}"))),
                None => archive::file_with(path, options),
            },
        },
        _ => archive::file_with(path, options),
    }
}

fn directory(root: &Path, options: &ScanOptions) -> Result<Folder, DataError> {
    let entries = folder::list(root)?;
    let files: Vec<PathBuf> = entries
        .iter()
        .filter(|entry| !matches!(entry.kind, Kind::Folder))
        .map(|entry| entry.name.clone())
        .collect();
    let folders: Vec<&Path> = entries.iter().filter_map(Entry::folder).collect();
    if cifar::is_folder(&files) {
        return cifar::folder(root, &files, options);
    }
    if files.iter().any(|name| idx::is_images(name)) {
        return idx::folder(root, &files, options);
    }
    let archives = of_kind(&files, TAR);
    let tables = of_kind(&files, parquet::EXTENSION);
    // img2dataset writes what it knows of the pictures in `00000.tar` into `00000.parquet`.
    let about = |table: &&PathBuf| archives.contains(&table.with_extension(TAR));
    if !archives.is_empty() && tables.iter().all(|table| about(&table)) {
        alone(root, TAR, &archives, &entries)?;
        return tars(root, archives, options, &files, &Asked::WHOLE);
    }
    if !tables.is_empty() {
        alone(root, parquet::EXTENSION, &tables, &entries)?;
        return parquets(root, root, tables, options, &Asked::WHOLE);
    }
    if let Some(found) = within(root, &files, &folders, options)? {
        return Ok(found);
    }
    if entries.iter().any(Entry::is_list)
        && let Some(found) = zipped::unpacked(root)?
    {
        return Ok(found);
    }
    folder::scan(root)
}

/// Refuses pictures, folders of them and other data beside archives or Parquet files: which of them
/// would be meant? Whatever else is there is passed over.
fn alone(
    root: &Path,
    extension: &str,
    files: &[PathBuf],
    entries: &[Entry],
) -> Result<(), DataError> {
    let what = if extension == TAR { "tar archives" } else { "Parquet files" };
    let other = |entry: &&Entry| match entry.kind {
        Kind::Folder => extension == TAR,
        _ => !files.contains(&entry.name) && folder::is_picture(&entry.name),
    };
    let tar = |entry: &&Entry| extension != TAR && entry.name.extension().is_some_and(|e| e == TAR);
    let Some(entry) = entries.iter().find(|entry| other(entry) || tar(entry)) else {
        return Ok(());
    };
    let reason = format!(
        "it holds {what} and, beside them, `{}`: expected {what} alone",
        entry.name.shown()
    );
    Err(DataError::Archive { path: root.to_path_buf(), reason })
}

/// The data set in a folder of this one: in that of a split, or in the only one that is there, as in a
/// repository of the hub. `None` where the folders are classes.
fn within(
    root: &Path,
    files: &[PathBuf],
    folders: &[&Path],
    options: &ScanOptions,
) -> Result<Option<Folder>, DataError> {
    let pictures = files.iter().any(|name| folder::is_picture(name));
    // A repository of the hub.
    let data = Path::new("data");
    if folders.contains(&data)
        && !of_kind(&folder::names(&root.join(data))?, parquet::EXTENSION).is_empty()
    {
        return inner(root, data, options).map(Some);
    }
    if pictures {
        return Ok(None);
    }
    let names: Vec<String> =
        folders.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if let Some(splits) = splits::of_folders(&names) {
        let parts = splits.into_iter().zip(folders.iter().copied()).collect();
        let chosen = splits::choose(root, parts, &options.split)?;
        let split = chosen.split.or_else(|| splits::told(names[0]).map(str::to_owned));
        let [folder] = chosen.taken[..] else {
            let reason = "it holds several folders of one split: give one of them".to_owned();
            return Err(DataError::Archive { path: root.to_path_buf(), reason });
        };
        // The choice is made.
        let options = ScanOptions { split: String::new(), ..options.clone() };
        let mut found = inner(root, folder, &options)?;
        found.notes.splice(0..0, chosen.note);
        found.split = split;
        return Ok(Some(found));
    }
    match folders {
        [only] if is_wrapped(&root.join(only))? => inner(root, only, options).map(Some),
        _ => Ok(None),
    }
}

fn inner(root: &Path, part: &Path, options: &ScanOptions) -> Result<Folder, DataError> {
    Ok(directory(&root.join(part), options)?.within(part))
}

/// Whether a folder by itself is a data set, and no class.
fn is_wrapped(root: &Path) -> Result<bool, DataError> {
    let entries = folder::list(root)?;
    let files: Vec<PathBuf> = entries.iter().map(|entry| entry.name.clone()).collect();
    let folders: Vec<String> = entries
        .iter()
        .filter_map(Entry::folder)
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
    let holds = |extension| !of_kind(&files, extension).is_empty();
    Ok(holds(parquet::EXTENSION)
        || holds(TAR)
        || cifar::is_folder(&files)
        || files.iter().any(|name| idx::is_images(name))
        || splits::of_folders(&folders).is_some())
}

/// The names that end in an extension.
fn of_kind(names: &[PathBuf], extension: &str) -> Vec<PathBuf> {
    let fits = |name: &&PathBuf| name.extension().is_some_and(|e| e == extension);
    names.iter().filter(fits).cloned().collect()
}

fn stem(name: &Path) -> String {
    name.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// That no shard is missing which `expected` tells to be asked for.
fn complete(
    root: &Path,
    names: &[PathBuf],
    expected: &dyn Fn(&str) -> bool,
) -> Result<(), DataError> {
    let names: Vec<String> = names.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    splits::complete(root, &names, expected)
}

/// Which files of a folder were asked for.
struct Asked<'a> {
    /// Whether a name is one of them.
    fits: &'a dyn Fn(&str) -> bool,
    /// Whether all of them are, of whatever split, as a pattern tells.
    all: bool,
}

impl Asked<'_> {
    /// A folder as it is.
    const WHOLE: Asked<'static> = Asked { fits: &|_| true, all: false };

    /// The files of one split, or all.
    fn choose(
        &self,
        root: &Path,
        splits: Vec<String>,
        names: Vec<PathBuf>,
        options: &ScanOptions,
    ) -> Result<Chosen<PathBuf>, DataError> {
        let found = splits::distinct(&splits);
        if self.all && options.split.is_empty() {
            let list = found.join("`, `");
            let note =
                format!("the pattern stands for the splits `{list}`, all of which are taken");
            let note = (found.len() > 1).then_some(note);
            return Ok(Chosen { taken: names, split: None, note });
        }
        splits::choose(root, splits.into_iter().zip(names).collect(), &options.split)
    }
}

/// The Parquet files `names` of the folder `dir`.
fn parquets(
    root: &Path,
    dir: &Path,
    names: Vec<PathBuf>,
    options: &ScanOptions,
    asked: &Asked<'_>,
) -> Result<Folder, DataError> {
    let splits = names.iter().map(|name| splits::leading(&stem(name))).collect();
    let chosen = asked.choose(root, splits, names, options)?;
    complete(root, &chosen.taken, asked.fits)?;
    let paths: Vec<PathBuf> = chosen.taken.iter().map(|name| dir.join(name)).collect();
    let mut found = parquet::scan_with(root, &paths, options)?;
    found.notes.splice(0..0, chosen.note);
    found.split = chosen.split;
    Ok(found)
}

/// The archives `names` of the folder `root`, beside which there are other `files`.
fn tars(
    root: &Path,
    names: Vec<PathBuf>,
    options: &ScanOptions,
    files: &[PathBuf],
    asked: &Asked<'_>,
) -> Result<Folder, DataError> {
    let stems: Vec<String> = names.iter().map(|name| stem(name)).collect();
    let splits = splits::of_archives(&stems);
    let chosen = match splits {
        Some(splits) => asked.choose(root, splits, names, options)?,
        None => Chosen { taken: names, split: None, note: None },
    };
    complete(root, &chosen.taken, asked.fits)?;
    let inner = match chosen.split.is_some() {
        true => ScanOptions { split: String::new(), ..options.clone() },
        false => options.clone(),
    };
    let mut found = archive::shards(root, &chosen.taken, &inner)?;
    found.notes.splice(0..0, chosen.note);
    found.split = chosen.split.or(found.split);
    let other = |name: &&PathBuf| name.extension().is_none_or(|e| e != TAR);
    let list = |name: &&PathBuf| name.as_os_str() != archive::CLASS_NAMES;
    files.iter().filter(other).filter(list).for_each(|name| found.beside(name.clone()));
    Ok(found)
}

/// The folder and the pattern of names that a path which is no file stands for.
fn pattern(path: &Path) -> Option<(PathBuf, String)> {
    let name = path.file_name()?.to_str().filter(|name| name.contains('*'))?;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    folder.is_dir().then(|| (folder.to_path_buf(), name.to_owned()))
}

/// The files that a pattern stands for.
fn shards(path: &Path, options: &ScanOptions) -> Result<Folder, DataError> {
    let Some((root, pattern)) = pattern(path) else {
        return Err(DataError::NotFound { path: path.shown().to_string(), hint: String::new() });
    };
    let names = folder::names(&root)?;
    let fits = |name: &PathBuf| name.to_str().is_some_and(|name| matches(&pattern, name));
    let names: Vec<PathBuf> = names.into_iter().filter(fits).collect();
    // Who asks for a part of the shards does not ask for the others.
    let asked = Asked { fits: &|name| matches(&pattern, name), all: true };
    if !names.is_empty() && of_kind(&names, parquet::EXTENSION).len() == names.len() {
        return parquets(path, &root, names, options, &asked);
    }
    if names.is_empty() || of_kind(&names, TAR).len() < names.len() {
        let reason = "it stands for no Parquet files, nor for tar archives alone".to_owned();
        return Err(DataError::Archive { path: path.to_path_buf(), reason });
    }
    tars(&root, names, options, &[], &asked)
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
mod tests;
