//! Image folders: one subfolder a class, or pictures alone.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

use jit_core::files::FileError;

use crate::error::{DamagedFile, DataError};
use crate::place::{FileEntry, Place};

/// Extensions, in lower case, of what is taken for a picture.
const EXTENSIONS: [&str; 8] = ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "gif"];

/// What a scan found, in an order that depends on names alone.
#[derive(Clone, Debug, Default)]
pub struct Folder {
    /// The pictures, sorted by path.
    pub files: Vec<FileEntry>,
    /// Names of the class folders, sorted; empty without classes.
    pub class_names: Vec<String>,
    /// Files that are no pictures by their extension.
    pub strays: Vec<DamagedFile>,
}

/// Lists the pictures under `root` without opening them. Hidden files and folders are passed over,
/// symbolic links followed. Folders inside a class folder belong to the class.
///
/// # Errors
/// [`DataError::MixedLayout`], [`DataError::Empty`], [`DataError::LinkLoop`], or
/// [`DataError::File`] where a folder cannot be listed.
pub fn scan(root: &Path) -> Result<Folder, DataError> {
    let mut found = Folder::default();
    let mut folders = Vec::new();
    for entry in list(root)? {
        if entry.metadata.is_dir() {
            folders.push(entry.name);
        } else {
            found.add(entry.name, 0, &entry.metadata);
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
    if found.files.is_empty() {
        return Err(DataError::Empty { root: root.to_path_buf() });
    }
    Ok(found)
}

impl Folder {
    fn add(&mut self, path: PathBuf, label: u32, metadata: &Metadata) {
        if is_picture(&path) && metadata.is_file() {
            self.files.push(FileEntry { path, label, bytes: metadata.len(), place: Place::File });
        } else {
            self.strays.push(stray(path));
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
            if entry.metadata.is_dir() {
                self.walk(root, &inner, label, ancestors)?;
            } else {
                self.add(inner, label, &entry.metadata);
            }
        }
        ancestors.pop();
        Ok(())
    }
}

/// Whether a file is taken for a picture by its name.
pub(crate) fn is_picture(path: &Path) -> bool {
    let extension = path.extension().map(OsStr::to_ascii_lowercase);
    extension.is_some_and(|e| EXTENSIONS.iter().any(|known| e == *known))
}

/// A file that is no picture by its name.
pub(crate) fn stray(path: PathBuf) -> DamagedFile {
    let reason = "not a PNG, JPEG, WebP, BMP or GIF file by its name".to_owned();
    DamagedFile { path, reason }
}

/// The names in a folder, sorted, hidden ones left out.
pub(crate) fn names(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    Ok(list(folder)?.into_iter().map(|entry| entry.name).collect())
}

/// An entry of a folder, links followed.
struct Entry {
    name: PathBuf,
    metadata: Metadata,
}

/// The entries of a folder sorted by name, hidden ones left out.
fn list(folder: &Path) -> Result<Vec<Entry>, FileError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(FileError::at("list", folder))? {
        let entry = entry.map_err(FileError::at("list", folder))?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let metadata = fs::metadata(&path).map_err(FileError::at("read", &path))?;
        entries.push(Entry { name: entry.file_name().into(), metadata });
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
    fn other_files_are_reported_by_name() {
        let root = tree(&["a.png", "notes.txt", "noextension"]);
        let folder = scan(root.path()).unwrap();
        let strays: Vec<_> = folder.strays.iter().map(|s| s.path.to_str().unwrap()).collect();
        assert_eq!(strays, ["noextension", "notes.txt"]);
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
        symlink(root.path(), root.path().join("cat/up")).unwrap();
        assert!(matches!(scan(root.path()), Err(DataError::LinkLoop { .. })));
    }
}
