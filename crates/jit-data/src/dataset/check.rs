//! Whether every image of a data set loads, found out before anything depends on it; by several
//! processes together, too.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Dataset, Source};
use crate::error::{DamagedFile, DataError, SKIP};
use crate::parallel;

/// Images that do not load, by their ids, and what is wrong with each. The findings of several
/// processes about one data set add up to those of one.
pub type Damage = BTreeMap<usize, String>;

impl Dataset {
    /// Decodes every file once, on `threads` threads, so that a damaged one is found now and not
    /// hours into a run. The records of a pack decoded when it was written; they have checksums, which
    /// are verified whenever one is read.
    /// `progress` is called with (files done, files in all) from any thread.
    /// With `skip` the unusable files are left out and returned; image ids close the gaps.
    ///
    /// # Errors
    /// [`DataError::Damaged`] with every unusable file, unless `skip` is set and some are left.
    pub fn check(
        &mut self,
        skip: bool,
        threads: usize,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Vec<DamagedFile>, DataError> {
        let damage = self.check_share(0..self.len(), threads, progress);
        if skip {
            return self.leave_out(&damage);
        }
        self.refuse(&damage).map(|()| Vec::new())
    }

    /// The part of [`Dataset::check`] that looks at the images `share` (within `0..len`) and changes
    /// nothing. Shares that cover all images, whoever checks them, find what a check finds;
    /// [`Dataset::refuse`] or [`Dataset::leave_out`] concludes.
    pub fn check_share(
        &self,
        share: Range<usize>,
        threads: usize,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Damage {
        let Source::Folder { files, .. } = &self.source else { return Damage::new() };
        if files.iter().all(|file| file.entry.place.is_packed()) {
            return Damage::new();
        }
        let done = AtomicUsize::new(0);
        let damage = Mutex::new(Damage::new());
        let planes = || vec![0; self.sample_len()];
        parallel::for_each(share.len(), threads, planes, |planes, n| {
            let i = share.start + n;
            if let Err(error) = self.load(i, planes) {
                damage.lock().unwrap_or_else(PoisonError::into_inner).insert(i, reason(error));
            }
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, share.len());
            ControlFlow::Continue(())
        });
        damage.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts a data set without any damage.
    ///
    /// # Errors
    /// [`DataError::Damaged`] with every unusable file: those of `damage`, and what is no picture.
    pub fn refuse(&self, damage: &Damage) -> Result<(), DataError> {
        let Source::Folder { root, .. } = &self.source else { return Ok(()) };
        let files = self.unusable(damage);
        if files.is_empty() {
            return Ok(());
        }
        Err(DataError::Damaged { root: root.clone(), files, mend: SKIP })
    }

    /// Leaves out the images of `damage` and what is no picture, and returns them; image ids close
    /// the gaps. The same damage leaves the same data set everywhere.
    ///
    /// # Errors
    /// [`DataError::Damaged`] if none is left.
    pub fn leave_out(&mut self, damage: &Damage) -> Result<Vec<DamagedFile>, DataError> {
        let unusable = self.unusable(damage);
        let Source::Folder { root, files, strays, .. } = &mut self.source else {
            return Ok(Vec::new());
        };
        strays.clear();
        let mut ids = 0..;
        files.retain(|_| ids.next().is_some_and(|i| !damage.contains_key(&i)));
        if files.is_empty() {
            return Err(none_left(root.clone(), unusable));
        }
        self.decide_caching();
        Ok(unusable)
    }

    /// The images of `damage` and what is no picture, sorted by path.
    fn unusable(&self, damage: &Damage) -> Vec<DamagedFile> {
        let mut files = self.strays().to_vec();
        files.extend(
            damage.range(..self.len()).map(|(&i, reason)| DamagedFile {
                path: self.name(i).into(),
                reason: reason.clone(),
            }),
        );
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    }

    /// Image `i`, which failed to load, for a list of such.
    pub(crate) fn damaged(&self, i: usize, error: DataError) -> DamagedFile {
        DamagedFile { path: self.name(i).into(), reason: reason(error) }
    }

    /// What is no picture by its name.
    pub(crate) fn strays(&self) -> &[DamagedFile] {
        match &self.source {
            Source::Digits { .. } => &[],
            Source::Folder { strays, .. } => strays,
        }
    }
}

/// That leaving out what is damaged leaves nothing.
pub(crate) fn none_left(root: PathBuf, files: Vec<DamagedFile>) -> DataError {
    DataError::Damaged { root, files, mend: "These are all pictures that there are: repair them" }
}

/// Why an image failed to load. Its path is told beside the reason, so the decoder's part suffices.
fn reason(error: DataError) -> String {
    match error {
        DataError::Decode { source, .. } => source.to_string(),
        DataError::File(error) => error.source.to_string(),
        DataError::Archive { reason, .. } => reason,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::tests::{load, photos};

    /// The same with two of them damaged, and a file that is no picture.
    fn damaged_photos() -> tempfile::TempDir {
        let root = photos();
        std::fs::write(root.path().join("cat/1.png"), "no picture").unwrap();
        let png = std::fs::read(root.path().join("dog/3.png")).unwrap();
        std::fs::write(root.path().join("dog/3.png"), &png[..png.len() / 2]).unwrap();
        std::fs::write(root.path().join("dog/notes.txt"), "hello").unwrap();
        root
    }

    #[test]
    fn checked_images_are_kept_and_need_no_file_any_more() {
        let root = photos();
        let mut dataset = Dataset::folder(root.path(), 4, 3).unwrap();
        let seen = AtomicUsize::new(0);
        let count = |done: usize, all: usize| {
            assert!(done <= all && all == 5);
            seen.fetch_add(1, Ordering::Relaxed);
        };
        dataset.check(false, 3, &count).unwrap();
        assert_eq!(seen.into_inner(), 5);
        std::fs::remove_file(root.path().join("cat/1.png")).unwrap();
        assert_eq!(load(&dataset, 1)[0], 10);
    }

    #[test]
    fn damaged_files_stop_the_run_by_name_or_are_left_out() {
        let root = damaged_photos();
        let mut dataset = Dataset::folder(root.path(), 4, 3).unwrap();
        let message = dataset.check(false, 2, &|_, _| ()).unwrap_err().to_string();
        for expected in ["2 files", "cat/1.png", "dog/3.png", "--skip-damaged"] {
            assert!(message.contains(expected), "{expected} is missing in: {message}");
        }
        assert!(dataset.describe()[2].contains("`dog/notes.txt`"));
        let mut dataset = Dataset::folder(root.path(), 4, 3).unwrap();
        let skipped = dataset.check(true, 2, &|_, _| ()).unwrap();
        let names: Vec<_> = skipped.iter().map(|s| s.path.to_str().unwrap()).collect();
        assert_eq!(names, ["cat/1.png", "dog/3.png"]);
        assert_eq!(dataset.len(), 3);
        assert_eq!((0..3).map(|i| load(&dataset, i)[0]).collect::<Vec<_>>(), [0, 20, 40]);
        assert_eq!((0..3).map(|i| dataset.label(i)).collect::<Vec<_>>(), [0, 0, 1]);
    }

    #[test]
    fn without_classes_all_images_are_of_none() {
        let root = damaged_photos();
        let dataset = Dataset::folder(root.path(), 4, 3).unwrap();
        assert_eq!(dataset.describe()[1], "classes: 2, from their folders");
        let dataset = dataset.without_classes();
        assert_eq!((dataset.num_classes(), dataset.label(4)), (0, 0));
        assert_eq!(dataset.describe()[1], "classes: none, which were not asked for");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_told_of_a_data_set_is_a_line_each() {
        let root = photos();
        std::fs::write(root.path().join("cat/\u{1b}[31m\n.txt"), "x").unwrap();
        let told = Dataset::folder(root.path(), 4, 3).unwrap().describe();
        assert!(told[2].ends_with("passed over: `cat/\\u001b[31m\\n.txt`"), "{}", told[2]);
        let list = root.path().join("a\nb.csv");
        std::fs::write(&list, "0.png,x\n").unwrap();
        let mut found = crate::scan::scan(&root.path().join("cat")).unwrap();
        found.files.truncate(1);
        crate::labels::apply(&mut found, &list).unwrap();
        let told = Dataset::of(root.path(), found, 4, 3).unwrap().describe();
        assert!(told[1].contains("a\\nb.csv"), "{}", told[1]);
    }

    #[test]
    fn shares_together_find_what_one_finds_and_each_only_its_own() {
        let root = damaged_photos();
        let dataset = Dataset::folder(root.path(), 4, 3).unwrap();
        let whole = dataset.check_share(0..5, 2, &|_, _| ());
        assert_eq!(whole.keys().collect::<Vec<_>>(), [&1, &3]);
        for cut in 0..=5 {
            let dataset = Dataset::folder(root.path(), 4, 3).unwrap();
            let seen = AtomicUsize::new(0);
            let count = |_: usize, all: usize| {
                assert_eq!(all, cut);
                seen.fetch_add(1, Ordering::Relaxed);
            };
            let mut damage = dataset.check_share(0..cut, 2, &count);
            assert_eq!(seen.into_inner(), cut);
            assert!(damage.keys().all(|&i| i < cut));
            let others = dataset.check_share(cut..5, 2, &|_, _| ());
            assert!(others.keys().all(|&i| i >= cut));
            damage.extend(others);
            assert_eq!(damage, whole);
        }
    }

    #[test]
    fn who_did_not_look_concludes_as_who_did() {
        let root = damaged_photos();
        let open = || Dataset::folder(root.path(), 4, 3).unwrap();
        let damage = open().check_share(0..5, 2, &|_, _| ());
        let (mut looked, mut told) = (open(), open());
        let refused = looked.check(false, 2, &|_, _| ()).unwrap_err().to_string();
        assert_eq!(told.refuse(&damage).unwrap_err().to_string(), refused);
        let skipped = looked.check(true, 2, &|_, _| ()).unwrap();
        assert_eq!(told.leave_out(&damage).unwrap(), skipped);
        assert_eq!(told.manifest(), looked.manifest());
        assert_eq!((0..3).map(|i| load(&told, i)[0]).collect::<Vec<_>>(), [0, 20, 40]);
        // What was left out is gone.
        told.refuse(&Damage::new()).unwrap();
        let all = (0..3).map(|i| (i, String::new())).collect();
        let message = told.leave_out(&all).unwrap_err().to_string();
        assert!(message.contains("3 files") && message.contains("all pictures that there are"));
    }
}
