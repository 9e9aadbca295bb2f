//! `metrics.jsonl` and `evals.jsonl`: one JSON object a line, appended as steps are done.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

use jit_core::files::{FileError, write_atomic};
use jit_core::input;
use serde::{Deserialize, Serialize};

/// The file, open for appending.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: File,
    last: u64,
}

/// The one key that matters when a run goes on.
#[derive(Deserialize)]
struct Line {
    step: u64,
}

impl Metrics {
    /// Opens the file of a run of which `step` steps are done. Lines of later steps, which are about
    /// to be done again, and a line that was cut off are removed, as if the run had never stopped.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read or written.
    pub fn open(path: &Path, step: u64) -> Result<Self, FileError> {
        let last = match input::open(path) {
            Ok(old) => keep_until(path, BufReader::new(old), step)?,
            Err(error) if error.source.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let file = OpenOptions::new().append(true).create(true).open(path);
        Ok(Self { path: path.into(), file: file.map_err(FileError::at("open", path))?, last })
    }

    /// The step of the last line when the file was opened; 0 for none.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Appends a line.
    ///
    /// # Errors
    /// [`FileError`] when the file system refuses.
    pub fn append(&mut self, report: &impl Serialize) -> Result<(), FileError> {
        let line = serde_json::to_string(report).map(|line| line + "\n");
        // One write a line: readers and interruptions see whole lines.
        line.map_err(std::io::Error::from)
            .and_then(|line| self.file.write_all(line.as_bytes()))
            .map_err(FileError::at("write", &self.path))
    }

    /// Makes all lines durable: a checkpoint promises that the steps before it are on record.
    ///
    /// # Errors
    /// [`FileError`] when the file system refuses.
    pub fn sync(&self) -> Result<(), FileError> {
        self.file.sync_data().map_err(FileError::at("sync", &self.path))
    }
}

/// Rewrites the file with its whole lines up to `step`; returns the step of the last one.
fn keep_until(path: &Path, mut old: impl BufRead, step: u64) -> Result<u64, FileError> {
    let mut last = 0;
    write_atomic(path, |new| {
        let mut line = Vec::new();
        loop {
            line.clear();
            if old.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let whole = line.last() == Some(&b'\n');
            let told = serde_json::from_slice(&line).ok().map(|line: Line| line.step);
            if let (true, Some(kept)) = (whole, told.filter(|&told| told <= step)) {
                last = kept;
                new.write_all(&line)?;
            }
        }
    })?;
    Ok(last)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_beyond_the_checkpoint_and_torn_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let line = |step: u64| format!("{{\"step\":{step},\"loss\":0.5}}\n");
        let whole: String = (1..=5).map(line).collect();
        let kept: String = (1..=3).map(line).collect();
        fs::write(&path, whole + "{\"step\":2,\"lo").unwrap();
        let metrics = Metrics::open(&path, 3).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap(), metrics.last()), (kept, 3));
        drop(metrics);
        Metrics::open(&path, 0).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }
}
