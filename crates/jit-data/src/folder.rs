//! Image folders: one subfolder a class, or pictures alone.

use jit_core::text::Show;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jit_core::files::FileError;

use crate::error::{DamagedFile, DataError};
use crate::place::{FileEntry, Place};
use crate::{foreign, zipped};

/// Extensions, in lower case, of what is taken for a picture.
const EXTENSIONS: [&str; 8] = ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "gif"];

/// Extensions of pictures that are not read: to pass over them would be to train on fewer without a
/// word.
const UNREAD: [&str; 23] = [
    "tif", "tiff", "heic", "heif", "avif", "jxl", "jp2", "j2k", "ppm", "pgm", "pbm", "pnm", "tga",
    "exr", "hdr", "psd", "dng", "cr2", "cr3", "nef", "arw", "dcm", "pcx",
];

/// Folders that systems leave behind, beside the hidden ones.
const LEFT_BEHIND: [&str; 5] =
    ["__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information"];

/// What a scan found, in an order that depends on names alone.
#[derive(Clone, Debug, Default)]
pub struct Folder {
    /// The pictures, sorted by path.
    pub files: Vec<FileEntry>,
    /// Names of the classes, in the order of their numbers; empty without classes.
    pub class_names: Vec<String>,
    /// What cannot be used although it should be a picture.
    pub strays: Vec<DamagedFile>,
    /// Files that are no pictures by their names, as there are beside pictures.
    pub passed: Passed,
    /// The kind of files that the pictures lie in.
    pub form: &'static str,
    /// What tells the classes.
    pub classes_from: String,
    /// The split that was taken, where there was a choice.
    pub split: Option<String>,
    /// What else there is to know: a line each.
    pub notes: Vec<String>,
}

/// Files that were passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// How many.
    pub count: u64,
    /// The first.
    pub first: Option<PathBuf>,
}

impl Passed {
    /// Counts one more.
    pub fn add(&mut self, path: PathBuf) {
        self.count += 1;
        self.first.get_or_insert(path);
    }

    /// What to say of them; `None` if there are none.
    pub fn told(&self) -> Option<String> {
        let first = self.first.as_ref()?.shown();
        Some(match self.count {
            1 => format!("1 file is no picture by its name and is passed over: `{first}`"),
            count => format!(
                "{count} files are no pictures by their names and are passed over, such as `{first}`"
            ),
        })
    }
}

/// Lists the pictures under `root` without opening them. Hidden files and folders are passed over,
/// symbolic links followed. Folders inside a class folder belong to the class.
///
/// # Errors
/// [`DataError::MixedLayout`], [`DataError::Empty`], [`DataError::LinkLoop`], or
/// [`DataError::File`] where a folder cannot be listed.
pub fn scan(root: &Path) -> Result<Folder, DataError> {
    scan_but(root, "")
}

/// The same, in which the file `own` has been read already.
pub(crate) fn scan_but(root: &Path, own: &str) -> Result<Folder, DataError> {
    let mut found = Folder { form: "files", ..Folder::default() };
    let mut folders = Vec::new();
    for entry in list(root)? {
        match entry.kind {
            Kind::Folder => folders.push(entry.name),
            _ if entry.name.as_os_str() == own => {}
            kind => found.add(entry.name, 0, kind),
        }
    }
    if let (Some(file), Some(folder)) = (found.files.first(), folders.first()) {
        return Err(DataError::MixedLayout {
            root: root.to_path_buf(),
            picture: file.path.clone(),
            folder: folder.clone(),
        });
    }
    let mut ancestors = vec![canonical(root)?];
    for (label, folder) in folders.into_iter().enumerate() {
        found.walk(root, &folder, label as u32, &mut ancestors)?;
        found.class_names.push(folder.to_string_lossy().into_owned());
    }
    if !found.class_names.is_empty() {
        found.classes_from = "their folders".to_owned();
    }
    if found.files.is_empty() {
        return Err(found.empty(root));
    }
    Ok(found)
}

impl Folder {
    /// What to say where there is no picture.
    pub(crate) fn empty(&self, root: &Path) -> DataError {
        if !self.strays.is_empty() {
            let files = self.strays.clone();
            let mend = "There is no other picture";
            return DataError::Damaged { root: root.to_path_buf(), files, mend };
        }
        let told = |first: &Path| match first.extension().and_then(OsStr::to_str) {
            Some("tar" | "zip" | "npz" | "parquet") => Some("a data set by itself: give it".into()),
            _ => foreign::told(&root.join(first)),
        };
        let first = self.passed.first.as_deref();
        if let Some((first, what)) = first.and_then(|first| Some((first, told(first)?))) {
            let reason = format!("it holds no picture, and `{}` is {what}", first.shown());
            return DataError::Archive { path: root.to_path_buf(), reason };
        }
        DataError::Empty { root: root.to_path_buf() }
    }

    fn add(&mut self, path: PathBuf, label: u32, kind: Kind) {
        let picture = is_picture(&path);
        match kind {
            Kind::File(bytes) if picture => {
                self.files.push(FileEntry { path, label, bytes, place: Place::File });
            }
            // A link without an extension may have led to a class.
            Kind::Unusable(reason) if picture || path.extension().is_none() => {
                self.strays.push(DamagedFile { path, reason });
            }
            _ => self.beside(path),
        }
    }

    /// What is no picture by its name is passed over, unless it is one that is not read.
    pub(crate) fn beside(&mut self, path: PathBuf) {
        match unread(&path) {
            Some(reason) => self.strays.push(DamagedFile { path, reason }),
            None => self.passed.add(path),
        }
    }

    /// Adds everything below `root/folder`. `ancestors` are the real paths of the folders above.
    fn walk(
        &mut self,
        root: &Path,
        folder: &Path,
        label: u32,
        ancestors: &mut Vec<PathBuf>,
    ) -> Result<(), DataError> {
        let path = root.join(folder);
        let real = canonical(&path)?;
        if ancestors.contains(&real) {
            return Err(DataError::LinkLoop { path });
        }
        ancestors.push(real);
        for entry in list(&path)? {
            let inner = folder.join(entry.name);
            match entry.kind {
                Kind::Folder => self.walk(root, &inner, label, ancestors)?,
                kind => self.add(inner, label, kind),
            }
        }
        ancestors.pop();
        Ok(())
    }

    /// The same with paths that begin with `part`, for a folder within the data set's.
    pub(crate) fn within(mut self, part: &Path) -> Self {
        for file in &mut self.files {
            // The others lie by themselves.
            if matches!(file.place, Place::File) {
                file.path = part.join(&file.path);
            }
        }
        for stray in &mut self.strays {
            stray.path = part.join(&stray.path);
        }
        self.passed.first = self.passed.first.map(|first| part.join(first));
        self
    }
}

/// Whether a file is taken for a picture by its name.
pub(crate) fn is_picture(path: &Path) -> bool {
    has_one_of(path, &EXTENSIONS)
}

/// Why a file that is a picture by its name is not read; `None` for what is none.
pub(crate) fn unread(path: &Path) -> Option<String> {
    let extension = path.extension()?.to_string_lossy().to_uppercase();
    has_one_of(path, &UNREAD).then(|| {
        format!("{extension} pictures are not read: convert it to PNG, JPEG, WebP, BMP or GIF")
    })
}

fn has_one_of(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().map(OsStr::to_ascii_lowercase);
    extension.is_some_and(|e| extensions.iter().any(|known| e == *known))
}

/// Whether a name is hidden, or one that systems leave behind.
pub(crate) fn is_left_behind(name: &OsStr) -> bool {
    let hidden = name.as_encoded_bytes().starts_with(b".") && name != "." && name != "..";
    hidden || LEFT_BEHIND.iter().any(|left| name == *left)
}

/// The names in a folder, sorted, hidden ones left out.
pub(crate) fn names(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    Ok(list(folder)?.into_iter().map(|entry| entry.name).collect())
}

/// An entry of a folder.
#[derive(Debug)]
pub(crate) struct Entry {
    pub name: PathBuf,
    pub kind: Kind,
}

impl Entry {
    /// Whether it may tell the classes, as EDM's list does.
    pub fn is_list(&self) -> bool {
        self.name.as_os_str() == zipped::LIST && matches!(self.kind, Kind::File(_))
    }

    /// Its name, if it is a folder.
    pub fn folder(&self) -> Option<&Path> {
        matches!(self.kind, Kind::Folder).then_some(&*self.name)
    }
}

/// What an entry is, links followed.
#[derive(Debug)]
pub(crate) enum Kind {
    Folder,
    /// A file, and its length.
    File(u64),
    /// Something else, and why it is no file.
    Unusable(String),
}

/// The entries of a folder sorted by name, hidden ones left out.
pub(crate) fn list(folder: &Path) -> Result<Vec<Entry>, FileError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(FileError::at("list", folder))? {
        let entry = entry.map_err(FileError::at("list", folder))?;
        if is_left_behind(&entry.file_name()) {
            continue;
        }
        let kind = match fs::metadata(entry.path()) {
            Ok(metadata) if metadata.is_dir() => Kind::Folder,
            Ok(metadata) if metadata.is_file() => Kind::File(metadata.len()),
            Ok(_) => Kind::Unusable("it is neither a file nor a folder".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Kind::Unusable("it is a link to what does not exist".to_owned())
            }
            Err(error) => Kind::Unusable(error.to_string()),
        };
        entries.push(Entry { name: entry.file_name().into(), kind });
    }
    entries.sort_unstable_by(|a, b| a.name.as_os_str().cmp(b.name.as_os_str()));
    Ok(entries)
}

fn canonical(path: &Path) -> Result<PathBuf, FileError> {
    path.canonicalize().map_err(FileError::at("resolve", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        root
    }

    fn paths(folder: &Folder) -> Vec<(&str, u32)> {
        folder.files.iter().map(|f| (f.path.to_str().unwrap(), f.label)).collect()
    }

    #[test]
    fn subfolders_are_classes_in_the_order_of_their_names() {
        let root = tree(&["dog/b.JPG", "cat/x/y.webp", "cat/a.png", ".hidden/z.png", "dog/.z.png"]);
        let folder = scan(root.path()).unwrap();
        assert_eq!(folder.class_names, ["cat", "dog"]);
        assert_eq!(paths(&folder), [("cat/a.png", 0), ("cat/x/y.webp", 0), ("dog/b.JPG", 1)]);
    }

    #[test]
    fn pictures_alone_have_no_classes() {
        let root = tree(&["b.png", "a.gif"]);
        let folder = scan(root.path()).unwrap();
        assert_eq!(paths(&folder), [("a.gif", 0), ("b.png", 0)]);
        assert!(folder.class_names.is_empty());
    }

    #[test]
    fn other_files_are_passed_over_and_counted() {
        let root = tree(&["cat/a.png", "cat/n01_boxes.txt", "cat/Thumbs.db", "noextension"]);
        let folder = scan(root.path()).unwrap();
        assert_eq!((folder.files.len(), folder.strays.len(), folder.passed.count), (1, 0, 3));
        assert_eq!(folder.passed.first.unwrap(), Path::new("noextension"));
        // A picture that is not read is no other file.
        let root = tree(&["a.png", "b.TIFF"]);
        let strays = scan(root.path()).unwrap().strays;
        assert!(strays[0].to_string().contains("`b.TIFF`: TIFF pictures are not read"));
    }

    #[test]
    fn what_systems_leave_behind_is_no_class() {
        let left = ["__MACOSX/cat/._a.png", "@eaDir/x.png", ".ipynb_checkpoints/a.png"];
        let root = tree(&[&left[..], &["cat/a.png", "cat/._a.png", "dog/b.png"]].concat());
        let folder = scan(root.path()).unwrap();
        assert_eq!(folder.class_names, ["cat", "dog"]);
        assert_eq!(paths(&folder), [("cat/a.png", 0), ("dog/b.png", 1)]);
    }

    #[test]
    fn ambiguous_and_empty_folders_are_refused_by_name() {
        let root = tree(&["cat/a.png", "b.png"]);
        let message = scan(root.path()).unwrap_err().to_string();
        assert!(message.contains("`b.png`") && message.contains("`cat`"), "{message}");
        let message = scan(tree(&["cat/a.txt"]).path()).unwrap_err().to_string();
        assert!(message.contains("holds no picture"), "{message}");
        assert!(matches!(scan(Path::new("/no/such/folder")), Err(DataError::File(_))));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_but_not_in_circles() {
        use std::os::unix::fs::symlink;
        let root = tree(&["cat/a.png"]);
        let elsewhere = tree(&["b.png"]);
        symlink(elsewhere.path(), root.path().join("dog")).unwrap();
        symlink(root.path().join("cat/a.png"), root.path().join("cat/c.png")).unwrap();
        let folder = scan(root.path()).unwrap();
        assert_eq!(paths(&folder), [("cat/a.png", 0), ("cat/c.png", 0), ("dog/b.png", 1)]);
        for (link, strays) in [("cat/d.png", 1), ("cat/n02", 2), ("cat/notes.txt", 2)] {
            symlink("/no/such/file", root.path().join(link)).unwrap();
            assert_eq!(scan(root.path()).unwrap().strays.len(), strays, "{link}");
        }
        let strays = scan(root.path()).unwrap().strays;
        assert_eq!(strays[0].to_string(), "`cat/d.png`: it is a link to what does not exist");
        symlink(root.path(), root.path().join("cat/up")).unwrap();
        assert!(matches!(scan(root.path()), Err(DataError::LinkLoop { .. })));
    }
}
