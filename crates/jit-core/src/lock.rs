//! Locks that keep a second process away from a folder or a file, for as long as they live. The
//! operating system frees them when their process dies.

use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::files::FileError;

/// How long a lock that seems to be held is asked for again. A process that was started a moment ago
/// still has all files of the one that started it until it runs its own program, locks among them.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Opens a file of our own for locking, and makes it if need be. Its content stays.
///
/// # Errors
/// [`FileError`] where something else has its name: a link could lead to anything, and a pipe never
/// opens.
pub fn open(path: &Path) -> Result<File, FileError> {
    if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) {
        let what = "it is no regular file: remove it";
        let error = io::Error::new(io::ErrorKind::InvalidInput, what);
        return Err(FileError::at("open", path)(error));
    }
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
    file.map_err(FileError::at("open", path))
}

/// A locked file.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Locks `file`, trying for as long as `patience` says; `None` while another holds it.
    ///
    /// # Errors
    /// When the file system knows no locks.
    pub fn of(file: File, patience: Duration) -> io::Result<Option<Self>> {
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self(file))),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if start.elapsed() >= patience => return Ok(None),
                Err(TryLockError::WouldBlock) => sleep(PAUSE),
            }
        }
    }

    /// Locks `file`, however long that takes.
    ///
    /// # Errors
    /// When the file system knows no locks.
    pub fn wait(file: File) -> io::Result<Self> {
        file.lock()?;
        Ok(Self(file))
    }
}

impl Deref for Lock {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl DerefMut for Lock {
    fn deref_mut(&mut self) -> &mut File {
        &mut self.0
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave it held by a process that was just started and has not let go of
        // its copy. Closing follows whatever comes of this.
        let _closed_anyway = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_lock_is_no_way_to_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let [mine, link, pipe] = ["mine", "link", "pipe"].map(|name| dir.path().join(name));
        fs::write(&mine, "mine").unwrap();
        std::os::unix::fs::symlink(&mine, &link).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [&link, &pipe] {
            assert!(open(path).unwrap_err().to_string().contains("no regular file: remove it"));
        }
        drop(open(&mine).unwrap());
        assert_eq!(fs::read(&mine).unwrap(), b"mine");
    }

    #[test]
    fn a_lock_ends_with_its_life_though_a_copy_of_the_file_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = Lock::of(open(&path).unwrap(), Duration::ZERO).unwrap().unwrap();
        assert!(Lock::of(open(&path).unwrap(), Duration::ZERO).unwrap().is_none());
        // As a process has it that was forked and does not run its own program yet.
        let copy = lock.try_clone().unwrap();
        drop(lock);
        assert!(Lock::of(open(&path).unwrap(), Duration::ZERO).unwrap().is_some());
        drop(copy);
    }

    #[test]
    fn a_lock_that_is_freed_soon_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = Lock::of(open(&path).unwrap(), Duration::ZERO).unwrap().unwrap();
        let holder = std::thread::spawn(move || {
            sleep(Duration::from_millis(200));
            drop(lock);
        });
        assert!(Lock::of(open(&path).unwrap(), Duration::from_secs(60)).unwrap().is_some());
        holder.join().unwrap();
    }
}
