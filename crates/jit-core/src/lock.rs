//! Locks that keep a second process away from a folder or a file, for as long as they live. The
//! operating system frees them when their process dies.

use std::fs::{File, TryLockError};
use std::io;
use std::ops::{Deref, DerefMut};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a lock that seems to be held is asked for again. A process that was started a moment ago
/// still has all files of the one that started it until it runs its own program, locks among them.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

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

    fn open(path: &std::path::Path) -> File {
        File::options().write(true).create(true).truncate(false).open(path).unwrap()
    }

    #[test]
    fn a_lock_ends_with_its_life_though_a_copy_of_the_file_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = Lock::of(open(&path), Duration::ZERO).unwrap().unwrap();
        assert!(Lock::of(open(&path), Duration::ZERO).unwrap().is_none());
        // As a process has it that was forked and does not run its own program yet.
        let copy = lock.try_clone().unwrap();
        drop(lock);
        assert!(Lock::of(open(&path), Duration::ZERO).unwrap().is_some());
        drop(copy);
    }

    #[test]
    fn a_lock_that_is_freed_soon_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = Lock::of(open(&path), Duration::ZERO).unwrap().unwrap();
        let holder = std::thread::spawn(move || {
            sleep(Duration::from_millis(200));
            drop(lock);
        });
        assert!(Lock::of(open(&path), Duration::from_secs(60)).unwrap().is_some());
        holder.join().unwrap();
    }
}
