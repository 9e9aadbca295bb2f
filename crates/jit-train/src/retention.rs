//! Which checkpoints stay: the last K, and every Nth for good.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use jit_core::files::FileError;

use crate::checkpoint::{self, State};
use crate::config::TrainConfig;

/// Names that the run's own unfinished business starts with, and nothing else.
const TEMPORARY: &str = ".tmp-";

/// Whether the checkpoint of `step` is one of every Nth.
pub fn is_kept(config: &TrainConfig, step: u64) -> bool {
    let (n, every) = (config.keep_every, config.save_every);
    n > 0 && every > 0 && step.is_multiple_of(every) && (step / every).is_multiple_of(n)
}

/// Removes all checkpoints in `dir` but the newest `keep_last` and those marked to keep. Called
/// when the newest is durable, so no moment exists without a whole checkpoint.
///
/// # Errors
/// [`FileError`] when one cannot be removed.
pub fn prune(dir: &Path, keep_last: usize) -> Result<(), FileError> {
    let mut all = checkpoint::list(dir)?;
    all.truncate(all.len().saturating_sub(keep_last));
    for (step, path) in all {
        if !is_marked(&path) {
            // Renamed first: a folder that is half removed must not look like a checkpoint.
            let doomed = dir.join(format!("{TEMPORARY}removed-{step}"));
            fs::rename(&path, &doomed).map_err(FileError::at("rename", &path))?;
            fs::remove_dir_all(&doomed).map_err(FileError::at("remove", &doomed))?;
        }
    }
    Ok(())
}

fn is_marked(path: &Path) -> bool {
    let state = fs::read(path.join("state.json")).ok();
    let state = state.and_then(|text| serde_json::from_slice::<State>(&text).ok());
    state.is_some_and(|state| state.keep)
}

/// Removes what an interrupted process left in `dir`: temporary files and folders.
///
/// # Errors
/// [`FileError`] when something cannot be listed or removed.
pub fn clean(dir: &Path) -> Result<(), FileError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(FileError::at("list", dir))?,
    };
    for entry in entries {
        let entry = entry.map_err(FileError::at("list", dir))?;
        if !entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            continue;
        }
        let path = entry.path();
        let kind = entry.file_type().map_err(FileError::at("inspect", &path))?;
        let removed =
            if kind.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(FileError::at("remove", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nth_checkpoint_is_for_good() {
        let train = |save_every, keep_every| TrainConfig {
            save_every,
            keep_every,
            ..TrainConfig::default()
        };
        let kept = |config: TrainConfig| {
            (1..=20).filter(|&step| is_kept(&config, step)).collect::<Vec<u64>>()
        };
        assert_eq!(kept(train(2, 3)), [6, 12, 18]);
        assert_eq!(kept(train(2, 0)).len(), 0);
        assert_eq!(kept(train(0, 3)).len(), 0);
    }

    #[test]
    fn leftovers_are_removed_and_the_rest_is_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(".tmp-x/y")).unwrap();
        fs::write(dir.path().join(".tmp-z"), "z").unwrap();
        fs::write(dir.path().join("mine"), "m").unwrap();
        clean(dir.path()).unwrap();
        let left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["mine"]);
        clean(&dir.path().join("absent")).unwrap();
    }
}
