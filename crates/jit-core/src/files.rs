//! Files that are whole or absent: written to a temporary name, synced, then renamed.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::text::Show;

/// An I/O failure with the path it happened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`: {source}", path.shown())]
pub struct FileError {
    /// What was tried, as a verb: "write", "rename", …
    pub action: &'static str,
    /// The path it was tried on.
    pub path: PathBuf,
    /// The operating system's answer.
    pub source: io::Error,
}

impl FileError {
    /// An adapter for `map_err`: `fs::read(p).map_err(FileError::at("read", p))`.
    pub fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
        let path = path.to_path_buf();
        move |source| FileError { action, path, source }
    }
}

/// Writes a file atomically: readers see the old content or the new, never a part, whatever
/// kills the process meanwhile. `fill` receives a buffered writer on a temporary file in the
/// same folder, which is synced and renamed over `path` once `fill` succeeds. For names of our own:
/// what a user names goes through [`crate::output`].
///
/// # Errors
/// [`FileError`] naming `path` when a step fails; the old file is then untouched.
pub fn write_atomic(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), FileError> {
    let dir = parent(path);
    fs::create_dir_all(&dir).map_err(FileError::at("create folder", &dir))?;
    let mut temporary = tempfile::Builder::new()
        .prefix(".tmp-")
        .permissions_if_unix()
        .tempfile_in(&dir)
        .map_err(FileError::at("create a temporary file in", &dir))?;
    {
        let mut buffered = BufWriter::with_capacity(1 << 20, temporary.as_file_mut());
        fill(&mut buffered)
            .and_then(|()| buffered.flush())
            .map_err(FileError::at("write", path))?;
    }
    temporary.as_file().sync_all().map_err(FileError::at("sync", path))?;
    temporary.persist(path).map_err(|e| FileError::at("rename into place", path)(e.error))?;
    sync_dir(&dir)
}

/// [`write_atomic`] for bytes that are already in memory.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_bytes_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_atomic(path, |w| w.write_all(bytes))
}

/// Makes a folder appear whole: `fill` writes into a temporary sibling, every file in it is
/// synced, and the folder is then renamed to `path`, which must not exist yet.
///
/// # Errors
/// `fill`'s error, or a [`FileError`] (converted into `E`) when the file system refuses a step.
pub fn create_dir_atomic<E: From<FileError>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let parent = parent(path);
    fs::create_dir_all(&parent).map_err(FileError::at("create folder", &parent))?;
    let temporary = tempfile::Builder::new()
        .prefix(".tmp-")
        .tempdir_in(&parent)
        .map_err(FileError::at("create a temporary folder in", &parent))?;
    fill(temporary.path())?;
    let entries =
        fs::read_dir(temporary.path()).map_err(FileError::at("list", temporary.path()))?;
    for entry in entries {
        let file = entry.map_err(FileError::at("list", temporary.path()))?.path();
        File::open(&file).and_then(|f| f.sync_all()).map_err(FileError::at("sync", &file))?;
    }
    sync_dir(temporary.path())?;
    fs::rename(temporary.path(), path).map_err(FileError::at("rename into place", path))?;
    sync_dir(&parent)?;
    let _renamed_away = temporary.keep();
    Ok(())
}

/// Renames a file that is synced already, and makes that last.
///
/// # Errors
/// [`FileError`] naming the new path.
pub fn rename_synced(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(FileError::at("rename into place", to))?;
    sync_dir(&parent(to))
}

/// The folder that holds `path` (`.` for a bare name).
pub(crate) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Makes a rename durable: on Unix the directory entry itself must be synced.
fn sync_dir(dir: &Path) -> Result<(), FileError> {
    if cfg!(unix) {
        File::open(dir).and_then(|d| d.sync_all()).map_err(FileError::at("sync", dir))?;
    }
    Ok(())
}

/// Temporary files are private by default; what we write should have the usual permissions.
trait PermissionsIfUnix {
    fn permissions_if_unix(&mut self) -> &mut Self;
}

impl PermissionsIfUnix for tempfile::Builder<'_, '_> {
    #[cfg(unix)]
    fn permissions_if_unix(&mut self) -> &mut Self {
        use std::os::unix::fs::PermissionsExt;
        self.permissions(fs::Permissions::from_mode(0o644))
    }

    #[cfg(not(unix))]
    fn permissions_if_unix(&mut self) -> &mut Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_litter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write_bytes_atomic(&path, b"old").unwrap();
        let failed = write_atomic(&path, |w| {
            w.write_all(b"new")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.unwrap_err().to_string().contains("disk full"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("step-1");
        let fail = create_dir_atomic::<FileError>(&path, |d| {
            write_bytes_atomic(&d.join("x"), b"1")?;
            Err(FileError::at("write", d)(io::Error::other("no")))
        });
        assert!(fail.is_err() && !path.exists());
        create_dir_atomic::<FileError>(&path, |d| write_bytes_atomic(&d.join("x"), b"1")).unwrap();
        assert_eq!(fs::read(path.join("x")).unwrap(), b"1");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
