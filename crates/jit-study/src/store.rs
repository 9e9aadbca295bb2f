//! The study's own file: who comes first writes it, whoever follows must mean the same study.

use std::path::Path;

use jit_core::files::{FileError, write_bytes_atomic};
use jit_core::input::{self, MAX_CONFIG};
use jit_core::lock::{self, Lock};
use jit_train::RunConfig;
use jit_train::compatibility::Difference;
use jit_train::config::PrecisionChoice;
use serde::Deserialize;

use crate::error::StudyError;
use crate::layout;
use crate::plan::table;
use crate::settings::{differences, get};
use crate::suite::Suite;

/// Options of the base that may differ between processes: where the same images lie, and how they
/// are read.
const FREE: [&str; 2] = ["data.path", "data.workers"];

/// The suite that a study's folder holds; `None` for a new one.
///
/// # Errors
/// [`StudyError`] for a file that cannot be read or is no suite.
pub fn read(study: &Path) -> Result<Option<Suite>, StudyError> {
    let path = layout::suite(study);
    let text = match input::read_text(&path, MAX_CONFIG) {
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let name = path.display().to_string();
    Suite::from_toml(&text).map(Some).map_err(|source| StudyError::Syntax { name, source })
}

/// The precision in which a study was started: runs of other machines keep to it.
///
/// # Errors
/// As [`read`].
pub fn precision(study: &Path) -> Result<Option<PrecisionChoice>, StudyError> {
    let told = |suite: Suite| get(&suite.base, "train.precision")?.clone().try_into().ok();
    Ok(read(study)?.and_then(told))
}

/// Writes the effective suite into the study's folder, or adds its new cells and seeds to the one that
/// is there.
///
/// # Errors
/// [`StudyError::Differs`] when the folder holds another study; nothing is changed then.
pub fn settle(study: &Path, suite: &Suite) -> Result<(), StudyError> {
    std::fs::create_dir_all(study).map_err(FileError::at("create folder", study))?;
    let _lock = lock(study)?;
    let merged = match read(study)? {
        None => suite.clone(),
        Some(saved) => merge(study, saved, suite)?,
    };
    let name = suite.name.clone();
    let text = merged.to_toml().map_err(|source| StudyError::Unwritable { name, source })?;
    Ok(write_bytes_atomic(&layout::suite(study), text.as_bytes())?)
}

/// Waits for the short time in which another process may be settling.
fn lock(study: &Path) -> Result<Lock, FileError> {
    let path = study.join(".lock");
    Lock::wait(lock::open(&path)?).map_err(FileError::at("lock", &path))
}

fn merge(study: &Path, mut saved: Suite, now: &Suite) -> Result<Suite, StudyError> {
    // Options that an earlier version of this program did not know had their built-in values.
    let name = || layout::suite(study).display().to_string();
    let base = RunConfig::deserialize(saved.base);
    let base = base.map_err(|source| StudyError::Syntax { name: name(), source })?;
    saved.base = table(&base, &saved.name)?;
    let mut found = differences(&saved.base, &now.base);
    found.retain(|difference| !FREE.contains(&&*difference.key));
    let texts = [("name", &saved.name, &now.name)];
    for (key, saved, now) in texts.into_iter().filter(|(_, saved, now)| saved != now) {
        found.push(Difference { key: key.into(), saved: saved.clone(), now: now.clone() });
    }
    for cell in &now.cells {
        let Some(old) = saved.cell(&cell.name) else { continue };
        let told = differences(&old.set, &cell.set).into_iter();
        found.extend(told.map(|d| Difference { key: format!("{}: {}", cell.name, d.key), ..d }));
    }
    if !found.is_empty() {
        return Err(StudyError::Differs { dir: study.into(), differences: found });
    }
    let mut merged = now.clone();
    let gone = saved.cells.iter().filter(|cell| now.cell(&cell.name).is_none());
    merged.cells.extend(gone.cloned());
    merged.seeds.extend(&saved.seeds);
    merged.seeds.sort_unstable();
    merged.seeds.dedup();
    // The images' place stays as the first process wrote it.
    merged.base = saved.base;
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    fn suite(cells: &[(&str, usize)], seeds: &[u64], change: fn(&mut RunConfig)) -> Suite {
        let mut text = format!("name = 's'\ntitle = 'S'\nseeds = {seeds:?}\n");
        for (name, depth) in cells {
            text += &format!("[[cells]]\nname = '{name}'\nset.model.depth = {depth}\n");
        }
        let mut base = RunConfig::default();
        change(&mut base);
        Plan::new(Suite::from_toml(&text).unwrap(), base).unwrap().suite
    }

    #[test]
    fn cells_and_seeds_may_be_added_and_nothing_else_may_change() {
        let dir = tempfile::tempdir().unwrap();
        let study = dir.path().join("new");
        assert_eq!(read(&study).unwrap(), None);
        settle(&study, &suite(&[("a", 5)], &[0, 1], |_| {})).unwrap();
        settle(&study, &suite(&[("a", 5), ("b", 6)], &[0, 2], |c| c.data.path = "x".into()))
            .unwrap();
        let settled = read(&study).unwrap().unwrap();
        assert_eq!(settled, suite(&[("a", 5), ("b", 6)], &[0, 1, 2], |_| {}));
        assert_eq!(precision(&study).unwrap(), Some(PrecisionChoice::Auto));

        // A file of an earlier version, without an option that there is now.
        let text = std::fs::read_to_string(layout::suite(&study)).unwrap();
        let older = text.replace("keep_every = 0\n", "");
        assert_ne!(older, text);
        std::fs::write(layout::suite(&study), older).unwrap();
        settle(&study, &suite(&[("a", 5)], &[0], |_| {})).unwrap();
        assert_eq!(read(&study).unwrap().unwrap(), settled);

        let other = suite(&[("a", 7)], &[0], |c| c.optim.lr = 0.5);
        let message = settle(&study, &other).unwrap_err().to_string();
        assert!(message.contains("optim.lr: started with 0.0, now 0.5"), "{message}");
        assert!(message.contains("a: model.depth: started with 5, now 7"), "{message}");
        assert_eq!(read(&study).unwrap().unwrap(), settled, "nothing was changed");
    }
}
