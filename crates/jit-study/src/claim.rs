//! Who works on a run: a lock that the operating system frees when its holder dies, so that several
//! processes, and machines that share a file system with locks, can work on one study.

use std::fmt;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use jit_core::files::FileError;
use jit_core::lock::{self, Lock};
use serde::{Deserialize, Serialize};

use crate::clock::now;

/// Name of the file, in the run's folder.
const FILE: &str = ".claim";

/// No claim comes near this size.
const MAX_BYTES: u64 = 4096;

/// The right to work on a run, for as long as this lives.
#[derive(Debug)]
pub struct Claim {
    /// When anyone first worked on the run.
    pub started: String,
    _lock: Lock,
}

/// Who holds a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Holder {
    /// The machine's name.
    pub machine: String,
    /// The process.
    pub process: u32,
    /// Since when.
    pub since: String,
    /// When anyone first worked on the run.
    pub started: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.process {
            0 => f.write_str("another process"),
            process => write!(f, "process {process} on {} since {}", self.machine, self.since),
        }
    }
}

/// Tries to claim the run in the folder `dir`, which is created if need be; tells who holds it otherwise.
///
/// # Errors
/// [`FileError`] when the file system refuses.
pub fn claim(dir: &Path) -> Result<Result<Claim, Holder>, FileError> {
    std::fs::create_dir_all(dir).map_err(FileError::at("create folder", dir))?;
    let path = dir.join(FILE);
    let mut file = lock::open(&path)?;
    // A lock that was just freed may still hold a torn text: then nothing is known.
    let mut text = String::new();
    let told = (&mut file).take(MAX_BYTES).read_to_string(&mut text).is_ok();
    let before: Holder = match told {
        true => serde_json::from_str(&text).unwrap_or_default(),
        false => Holder::default(),
    };
    // Who finds a run held comes back to it: no patience here.
    let lock = Lock::of(file, Duration::ZERO).map_err(FileError::at("lock", &path))?;
    let Some(mut file) = lock else { return Ok(Err(before)) };
    let since = now();
    let started = if before.started.is_empty() { since.clone() } else { before.started };
    let process = std::process::id();
    let holder = Holder { machine: machine(), process, since, started: started.clone() };
    let text = serde_json::to_string(&holder).unwrap_or_default();
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(text.as_bytes()))
        .map_err(FileError::at("write", &path))?;
    Ok(Ok(Claim { started, _lock: file }))
}

/// The machine's name, as far as the system tells.
fn machine() -> String {
    let file = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = file.or_else(|| std::env::var("HOSTNAME").ok());
    let name = name.or_else(|| std::env::var("COMPUTERNAME").ok());
    name.map_or_else(|| "this machine".into(), |name| name.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_a_run_and_the_next_knows_when_it_began() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("runs/a/seed-0");
        let first = claim(&run).unwrap().unwrap();
        let holder = claim(&run).unwrap().unwrap_err();
        assert_eq!((holder.process, &holder.started), (std::process::id(), &first.started));
        let told = holder.to_string();
        assert!(told.starts_with(&format!("process {} on ", std::process::id())), "{told}");
        let started = first.started.clone();
        drop(first);
        // As if the first had begun yesterday.
        let text = std::fs::read_to_string(run.join(FILE)).unwrap();
        std::fs::write(run.join(FILE), text.replace(&started, "2020-01-01T00:00:00Z")).unwrap();
        assert_eq!(claim(&run).unwrap().unwrap().started, "2020-01-01T00:00:00Z");
        std::fs::write(run.join(FILE), "{\"machi").unwrap();
        assert!(claim(&run).unwrap().unwrap().started.ends_with('Z'));
    }
}
