//! Files that a user names. A new path, and one where a regular file is, is written whole or not at
//! all; a link is followed and what it leads to is replaced; a device or a pipe is written into; `-`
//! is standard output. A folder and a socket are refused.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

use crate::files::{FileError, parent, write_atomic};

/// Names of standard output.
const STDOUT: [&str; 4] = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

/// Links that one path may lead over, as many as Linux follows.
const MAX_LINKS: usize = 40;

/// Where the bytes go.
enum Target {
    Stdout,
    /// What there is already and is no regular file.
    Stream(PathBuf),
    /// A regular file, or nothing yet.
    Regular(PathBuf),
}

/// Whether `path` stands for standard output.
pub fn is_stdout(path: &Path) -> bool {
    STDOUT.iter().any(|name| path.as_os_str() == *name)
}

/// Refuses what cannot be written to, before anything takes long. Nothing is opened or made.
///
/// # Errors
/// [`FileError`] naming `path` and what to do instead.
pub fn check(path: &Path) -> Result<(), FileError> {
    target(path).map(drop)
}

/// The regular file behind `path`, there already or not, for what is not written from front to back.
///
/// # Errors
/// As [`check`], and for standard output, devices and pipes.
pub fn regular(path: &Path) -> Result<PathBuf, FileError> {
    match target(path)? {
        Target::Regular(file) => Ok(file),
        Target::Stdout | Target::Stream(_) => {
            let what = "it is no regular file, and this is not written from front to back: name a \
                        file";
            Err(refused(path, ErrorKind::InvalidInput, what))
        }
    }
}

/// Writes what `fill` says to `path`.
///
/// # Errors
/// [`FileError`] naming `path` when a step fails; a regular file that was there is then untouched.
pub fn write(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), FileError> {
    match target(path)? {
        Target::Regular(file) => write_atomic(&file, fill),
        Target::Stream(stream) => {
            // Neither made nor cut: it is there, and has no length.
            let file = OpenOptions::new().write(true).open(&stream);
            into(file.map_err(FileError::at("open", path))?, path, fill)
        }
        Target::Stdout => into(io::stdout().lock(), path, fill),
    }
}

/// [`write`] for bytes that are already in memory.
///
/// # Errors
/// As [`write`].
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write(path, |out| out.write_all(bytes))
}

fn into(
    out: impl Write,
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), FileError> {
    let mut buffered = BufWriter::with_capacity(1 << 16, out);
    fill(&mut buffered).and_then(|()| buffered.flush()).map_err(FileError::at("write", path))
}

fn target(path: &Path) -> Result<Target, FileError> {
    if is_stdout(path) {
        if io::stdout().is_terminal() {
            let what = "it is a terminal: send standard output to a file or a pipe";
            return Err(refused(path, ErrorKind::InvalidInput, what));
        }
        return Ok(Target::Stdout);
    }
    let kind = match fs::metadata(path) {
        Ok(there) => there.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return follow(path.to_path_buf()).map(Target::Regular);
        }
        Err(error) => return Err(FileError::at("write", path)(error)),
    };
    if kind.is_dir() {
        let what = "it is a folder: name a file in it";
        return Err(refused(path, ErrorKind::IsADirectory, what));
    }
    if is_socket(kind) {
        let what = "it is a socket, which takes no file: name another path";
        return Err(refused(path, ErrorKind::InvalidInput, what));
    }
    match kind.is_file() && !is_descriptor(path) {
        true => follow(path.to_path_buf()).map(Target::Regular),
        false => Ok(Target::Stream(path.to_path_buf())),
    }
}

/// What a link leads to, which need not be there; any other path is itself.
fn follow(path: PathBuf) -> Result<PathBuf, FileError> {
    let mut at = path.clone();
    for _ in 0..MAX_LINKS {
        let link = fs::symlink_metadata(&at).is_ok_and(|found| found.file_type().is_symlink());
        if !link {
            return Ok(at);
        }
        let to = fs::read_link(&at).map_err(FileError::at("follow", &at))?;
        at = parent(&at).join(to);
    }
    Err(refused(&path, ErrorKind::InvalidInput, "its links lead in a circle: name a file"))
}

/// A file that this process has open already: it is written into, whatever it is.
fn is_descriptor(path: &Path) -> bool {
    path == Path::new("/dev/stderr") || path.starts_with("/dev/fd") || path.starts_with("/proc")
}

#[cfg(unix)]
fn is_socket(kind: fs::FileType) -> bool {
    use std::os::unix::fs::FileTypeExt;
    kind.is_socket()
}

#[cfg(not(unix))]
fn is_socket(_kind: fs::FileType) -> bool {
    false
}

fn refused(path: &Path, kind: ErrorKind, what: &str) -> FileError {
    FileError::at("write", path)(io::Error::new(kind, what))
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    fn content(path: &Path) -> Vec<u8> {
        fs::read(path).unwrap()
    }

    fn message(result: Result<(), FileError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let [far, link, second] = ["sub/far", "link", "second"].map(|n| dir.path().join(n));
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(&far, "old").unwrap();
        symlink("sub/far", &link).unwrap();
        symlink(&link, &second).unwrap();
        write_bytes(&second, b"new").unwrap();
        assert_eq!(content(&far), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::symlink_metadata(&second).unwrap().is_symlink());
        // A failed write leaves the old content.
        let failed = write(&link, |out| {
            out.write_all(b"newer")?;
            Err(io::Error::other("disk full"))
        });
        assert!(message(failed).contains("disk full"));
        assert_eq!(content(&far), b"new");
        assert_eq!(fs::read_dir(dir.path().join("sub")).unwrap().count(), 1);

        let dangling = dir.path().join("dangling");
        symlink("sub/new", &dangling).unwrap();
        write_bytes(&dangling, b"made").unwrap();
        assert_eq!(content(&dir.path().join("sub/new")), b"made");
        assert_eq!(regular(&dangling).unwrap(), dir.path().join("sub/new"));

        let [a, b] = ["a", "b"].map(|n| dir.path().join(n));
        symlink(&a, &b).unwrap();
        symlink(&b, &a).unwrap();
        assert!(write_bytes(&a, b"x").is_err());
    }

    #[test]
    fn devices_and_pipes_are_written_into() {
        let dir = tempfile::tempdir().unwrap();
        let null = dir.path().join("null");
        symlink("/dev/null", &null).unwrap();
        for path in [Path::new("/dev/null"), &null] {
            write_bytes(path, b"gone").unwrap();
            assert!(!fs::metadata(path).unwrap().is_file());
        }
        if Path::new("/dev/full").exists() {
            assert!(message(write_bytes(Path::new("/dev/full"), b"x")).contains("`/dev/full`"));
            assert!(!fs::metadata("/dev/full").unwrap().is_file());
        }
        let pipe = dir.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || content(&pipe)
        });
        write_bytes(&pipe, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        assert!(!fs::metadata(&pipe).unwrap().is_file());
        assert!(message(regular(&pipe).map(drop)).contains("no regular file"));
    }

    #[test]
    fn folders_and_sockets_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        assert!(message(check(dir.path())).ends_with("it is a folder: name a file in it"));
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(message(write_bytes(&socket, b"x")).contains("it is a socket"));
        check(&dir.path().join("new/file")).unwrap();
        assert!(!dir.path().join("new").exists(), "asking makes nothing");
    }
}
