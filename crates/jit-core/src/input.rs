//! Files that a user names, or that lie in a folder of theirs, for reading. What is no regular file
//! is refused by name: a pipe or a device may never end, or never begin.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use crate::files::FileError;

/// Longest configuration, suite or the like, in bytes: 4 MiB.
pub const MAX_CONFIG: u64 = 4 << 20;

/// Opens a regular file for reading.
///
/// # Errors
/// [`FileError`] naming `path`, and what it is where it is something else.
pub fn open(path: &Path) -> Result<File, FileError> {
    // Asked before: opening a pipe waits for its writer.
    let kind = fs::metadata(path).map_err(FileError::at("open", path))?.file_type();
    if !kind.is_file() {
        return Err(FileError::at("open", path)(not_a_file(kind)));
    }
    File::open(path).map_err(FileError::at("open", path))
}

/// Reads a regular file that is text of at most `most` bytes.
///
/// # Errors
/// As [`open`]; a longer file, or one that is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> Result<String, FileError> {
    let failed = |error| FileError::at("read", path)(error);
    let file = open(path).map_err(|error| FileError { action: "read", ..error })?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        let what =
            format!("it has more than {} MiB, the most that is read of such a file", most >> 20);
        return Err(failed(io::Error::new(ErrorKind::InvalidData, what)));
    }
    let what = "it is no text: expected UTF-8";
    String::from_utf8(bytes).map_err(|_| failed(io::Error::new(ErrorKind::InvalidData, what)))
}

fn not_a_file(kind: fs::FileType) -> io::Error {
    if kind.is_dir() {
        let what = "it is a folder; expected a file";
        return io::Error::new(ErrorKind::IsADirectory, what);
    }
    let what = format!("it is {}; expected a regular file", name(kind));
    io::Error::new(ErrorKind::InvalidInput, what)
}

#[cfg(unix)]
fn name(kind: fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match () {
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () if kind.is_char_device() || kind.is_block_device() => "a device",
        () => "no regular file",
    }
}

#[cfg(not(unix))]
fn name(_kind: fs::FileType) -> &'static str {
    "no regular file"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_a_bound_and_is_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, vec![b'x'; 1 << 20]).unwrap();
        assert_eq!(read_text(&path, 1 << 20).unwrap().len(), 1 << 20);
        fs::write(&path, vec![b'x'; (1 << 20) + 1]).unwrap();
        let message = read_text(&path, 1 << 20).unwrap_err().to_string();
        assert!(message.ends_with("it has more than 1 MiB, the most that is read of such a file"));
        fs::write(&path, b"\xff\xfe").unwrap();
        assert!(read_text(&path, 9).unwrap_err().to_string().contains("expected UTF-8"));
        assert_eq!(open(&dir.path().join("none")).unwrap_err().source.kind(), ErrorKind::NotFound);
        assert!(open(dir.path()).unwrap_err().to_string().contains("it is a folder"));
    }

    #[cfg(unix)]
    #[test]
    fn what_may_never_end_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let message = open(&pipe).unwrap_err().to_string();
        assert!(message.contains("pipe`: it is a pipe; expected a regular file"), "{message}");
        let message = read_text(Path::new("/dev/zero"), 1 << 20).unwrap_err().to_string();
        assert!(message.contains("`/dev/zero`: it is a device"), "{message}");
    }
}
