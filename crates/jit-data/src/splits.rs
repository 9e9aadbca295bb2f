//! Splits of a data set, and whether all shards of one are there: told by names, in the same way for
//! folders, archives, Parquet files and whatever else comes in parts.
//!
//! ```text
//! data/train/CLASS  data/val/CLASS             folders
//! train-0000.tar    val-0000.tar               the first word of a name that is a split's
//! cifar10_train.parquet  cifar10_test.parquet
//! train-00000-of-00003.parquet                 shards with their number
//! ```

use jit_core::text::Show;
use std::collections::BTreeMap;
use std::path::Path;

use crate::error::DataError;

/// The split that a data set of several is taken for.
pub const TRAIN: &str = "train";

/// The usual splits, and what each is called.
const KNOWN: [(&str, &[&str]); 3] = [
    (TRAIN, &["train", "training", "trainset"]),
    ("validation", &["val", "valid", "validation", "valset", "dev"]),
    ("test", &["test", "testing", "testset", "t10k"]),
];

/// The usual split that a word stands for.
fn usual(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    // `train2017`
    let plain = word.trim_end_matches(|c: char| c.is_ascii_digit());
    let is = |names: &[&str]| names.contains(&&*word) || names.contains(&plain);
    KNOWN.iter().find(|(_, names)| is(names)).map(|(split, _)| *split)
}

fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// The usual split that a word of `name`, which has no extension, tells: `train` of `cifar10_train`.
pub fn told(name: &str) -> Option<&'static str> {
    words(name).find_map(usual)
}

/// The split of a file whose name always begins with it: `extra` of `extra-00000-of-00002`, and
/// nothing of `0000`.
pub fn leading(stem: &str) -> String {
    if let Some(split) = told(stem) {
        return split.to_owned();
    }
    let end = stem.find(|c: char| !c.is_alphanumeric()).unwrap_or(stem.len());
    stem[..end].trim_end_matches(|c: char| c.is_ascii_digit()).to_owned()
}

/// The splits that subfolders of these names are; `None` where they are classes. They are splits if
/// all of them are, or if there is a training split and another; a class `train` beside a class
/// `plane` is neither.
pub fn of_folders(names: &[&str]) -> Option<Vec<String>> {
    let whole = |name: &str| {
        // The hub converts what is too large in part.
        let name = name.strip_prefix("partial-").unwrap_or(name);
        usual(name).map(str::to_owned).unwrap_or_default()
    };
    let exact: Vec<String> = names.iter().map(|name| whole(name)).collect();
    let found = distinct(&exact).len();
    let all = !exact.is_empty() && exact.iter().all(|split| !split.is_empty());
    if all || (found > 1 && exact.iter().any(|split| split == TRAIN)) {
        return Some(exact);
    }
    let told: Option<Vec<String>> = names.iter().map(|n| told(n).map(str::to_owned)).collect();
    told.filter(|splits| distinct(splits).len() > 1)
}

/// The splits that archives of these names, without extensions, are of; `None` where they are not,
/// and may be classes: a class `train` beside a class `plane`.
pub fn of_archives(stems: &[String]) -> Option<Vec<String>> {
    let told = |stem: &String| told(stem).unwrap_or_default().to_owned();
    let all: Vec<String> = stems.iter().map(told).collect();
    if !all.is_empty() && all.iter().all(|split| !split.is_empty()) {
        return Some(all);
    }
    let first =
        |stem: &String| words(stem).next().and_then(usual).map(str::to_owned).unwrap_or_default();
    let first: Vec<String> = stems.iter().map(first).collect();
    let found = distinct(&first);
    (found.len() > 1 && found.contains(&TRAIN)).then_some(first)
}

/// The names of splits, each once.
pub fn distinct(splits: &[String]) -> Vec<&str> {
    let mut found: Vec<&str> =
        splits.iter().map(String::as_str).filter(|split| !split.is_empty()).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// What was chosen of several splits.
#[derive(Debug)]
pub struct Chosen<T> {
    /// The parts of the split.
    pub taken: Vec<T>,
    /// Its name, where there was a choice.
    pub split: Option<String>,
    /// What to tell of it: which others were left out.
    pub note: Option<String>,
}

/// Chooses among parts that are named with their split, which is empty where there is none: the split
/// `wanted`; without a wish, of several the one for training.
///
/// # Errors
/// [`DataError::Option`] where there is no such split, [`DataError::Archive`] where there are several
/// and none for training.
pub fn choose<T>(
    root: &Path,
    parts: Vec<(String, T)>,
    wanted: &str,
) -> Result<Chosen<T>, DataError> {
    let all: Vec<String> = parts.iter().map(|(split, _)| split.clone()).collect();
    let found = distinct(&all);
    let list = || format!("`{}`", found.join("`, `"));
    let split = if !wanted.is_empty() {
        let same = |split: &&&str| {
            split.eq_ignore_ascii_case(wanted)
                || usual(split).is_some_and(|s| usual(wanted) == Some(s))
        };
        let split = found.iter().find(same).copied();
        split.ok_or_else(|| no_such(root, wanted, &found))?
    } else if found.len() < 2 {
        let taken = parts.into_iter().map(|(_, part)| part).collect();
        return Ok(Chosen { taken, split: None, note: None });
    } else if found.contains(&TRAIN) {
        TRAIN
    } else {
        let reason = format!(
            "it holds the splits {} and none called `{TRAIN}`: choose one with --split NAME",
            list()
        );
        return Err(DataError::Archive { path: root.to_path_buf(), reason });
    };
    let mut others: Vec<String> =
        found.iter().filter(|other| **other != split).map(|other| format!("`{other}`")).collect();
    let unnamed = all.iter().filter(|split| split.is_empty()).count();
    if unnamed > 0 {
        others.push(format!("{unnamed} without a split in their names"));
    }
    let note = (!others.is_empty()).then(|| {
        let left = others.join(", ");
        format!("the split `{split}` is taken, and left out: {left}; --split NAME takes another")
    });
    let split = split.to_owned();
    let taken = parts.into_iter().filter(|(name, _)| *name == split).map(|(_, part)| part);
    Ok(Chosen { taken: taken.collect(), split: Some(split), note })
}

/// That the split `wanted` is none of those `found`.
pub fn no_such(root: &Path, wanted: &str, found: &[&str]) -> DataError {
    let have = match found {
        [] => "has no splits".to_owned(),
        found => format!("has the splits `{}`", found.join("`, `")),
    };
    DataError::Option {
        option: "data.split",
        value: wanted.to_owned(),
        expected: format!("`{}` {have}", root.shown()),
    }
}

/// The part before the number, the number and the count of `train-00000-of-00294…`.
fn numbered(stem: &str) -> Option<(&str, &str, &str)> {
    let (at, len) =
        ["-of-", "_of_"].iter().find_map(|of| stem.rfind(of).map(|at| (at, of.len())))?;
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).count();
    let (before, after) = (&stem[..at], &stem[at + len..]);
    let base = before.trim_end_matches(|c: char| c.is_ascii_digit());
    let (number, count) = (&before[base.len()..], &after[..digits(after)]);
    (!number.is_empty() && !count.is_empty()).then_some((base, number, count))
}

/// Checks that of files with a number of how many none is missing; those that are not `expected` may be.
///
/// # Errors
/// [`DataError::Archive`] naming the first that is missing, or that is there twice.
pub fn complete(
    root: &Path,
    names: &[String],
    expected: impl Fn(&str) -> bool,
) -> Result<(), DataError> {
    /// More shards than this are not counted.
    const MOST: u64 = 1 << 20;
    let refused = |reason: String| DataError::Archive { path: root.to_path_buf(), reason };
    let mut series: BTreeMap<&str, BTreeMap<u64, &str>> = BTreeMap::new();
    let mut counts: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for name in names {
        let Some((base, number, count)) = numbered(name) else { continue };
        let (Ok(index), Ok(total)) = (number.parse::<u64>(), count.parse::<u64>()) else {
            continue;
        };
        let (before, first) = *counts.entry(base).or_insert((total, name));
        if before != total {
            let reason = format!(
                "`{first}` is of {before} shards and `{name}` of {total}: remove those of the old \
                 download"
            );
            return Err(refused(reason));
        }
        if let Some(other) = series.entry(base).or_default().insert(index, name) {
            let reason = format!("`{other}` and `{name}` are the same shard: remove one");
            return Err(refused(reason));
        }
    }
    for (base, shards) in series {
        let (total, example) = counts[base];
        let Some((_, number, _)) = numbered(example) else { continue };
        let missing = |index: u64| {
            let width = number.len();
            example.replacen(&format!("{base}{number}"), &format!("{base}{index:0width$}"), 1)
        };
        let wanted = (0..total.min(MOST)).filter(|index| !shards.contains_key(index));
        if let Some(name) = wanted.map(missing).find(|name| expected(name)) {
            let reason = format!(
                "it lacks `{name}`, and has {} of {total} shards: fetch it, or take those that are \
                 there by a pattern such as `{base}0*`",
                shards.len()
            );
            return Err(refused(reason));
        }
    }
    Ok(())
}

/// How the names of several archives are numbered, as those of shards are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// With leading zeros, from 0 or 1 on, without a gap.
    Whole,
    /// With leading zeros.
    Gaps,
}

/// The numbering of these names, without extensions; `None` where they are not alike, as those of
/// classes.
pub fn numbering(stems: &[String]) -> Option<Numbering> {
    if !stems.is_empty() && stems.iter().all(|stem| numbered(stem).is_some()) {
        return Some(Numbering::Whole);
    }
    let parts: Option<Vec<(&str, u64)>> = stems.iter().map(|stem| number_at_end(stem)).collect();
    let mut parts = parts?;
    let alike = stems.len() > 1
        && stems.iter().any(|stem| {
            number_at_end(stem).is_some_and(|(base, _)| stem[base.len()..].starts_with('0'))
        })
        && stems.iter().all(|stem| stem.len() == stems[0].len())
        && parts.iter().all(|(base, _)| *base == parts[0].0);
    if !alike {
        return None;
    }
    parts.sort_unstable_by_key(|(_, number)| *number);
    let whole = parts[0].1 < 2 && parts.windows(2).all(|pair| pair[0].1 + 1 == pair[1].1);
    // `0` to `9` may be classes.
    let zeros = stems[0].len() - parts[0].0.len() > 1;
    zeros.then_some(if whole { Numbering::Whole } else { Numbering::Gaps })
}

fn number_at_end(stem: &str) -> Option<(&str, u64)> {
    let base = stem.trim_end_matches(|c: char| c.is_ascii_digit());
    stem[base.len()..].parse().ok().map(|number| (base, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str], wanted: &str) -> Result<(Vec<String>, String), String> {
        let parts = names.iter().map(|n| (leading(n), (*n).to_owned())).collect();
        let chosen = choose(Path::new("d"), parts, wanted).map_err(|e| e.to_string())?;
        Ok((chosen.taken, chosen.note.unwrap_or_default()))
    }

    #[test]
    fn splits_are_words_of_names() {
        let split = |name: &str| leading(name);
        assert_eq!(split("train-00000-of-00294"), "train");
        assert_eq!(split("cifar10_test"), "test");
        assert_eq!(split("ILSVRC2012_img_val"), "validation");
        assert_eq!(split("val2017"), "validation");
        assert_eq!(split("extra-00000-of-00002"), "extra");
        assert_eq!(split("0000"), "");
        assert_eq!(told("restraint-contest"), None);
        assert_eq!(told("n01440764"), None);
    }

    #[test]
    fn training_is_taken_and_the_rest_is_told() {
        let (taken, note) = chosen(&["test-0", "train-0", "train-1"], "").unwrap();
        assert_eq!(taken, ["train-0", "train-1"]);
        assert!(note.contains("left out: `test`; --split NAME"), "{note}");
        assert_eq!(chosen(&["test-0", "train-0"], "test").unwrap().0, ["test-0"]);
        assert_eq!(chosen(&["val-0", "train-0"], "validation").unwrap().0, ["val-0"]);
        assert_eq!(chosen(&["train-0", "0000"], "").unwrap().0.len(), 2);
        let message = chosen(&["test-0", "val-0"], "").unwrap_err();
        assert!(
            message.contains("`test`, `validation`") && message.contains("--split"),
            "{message}"
        );
        let message = chosen(&["test-0", "train-0"], "dev").unwrap_err();
        assert!(message.contains("data.split = dev") && message.contains("`test`, `train`"));
        assert!(chosen(&["a.tar"], "train").unwrap_err().contains("has the splits `a`"));
    }

    #[test]
    fn folders_are_splits_together_and_classes_alone() {
        let of = |names: &[&str]| of_folders(names);
        assert_eq!(of(&["train", "val"]).unwrap(), ["train", "validation"]);
        assert_eq!(of(&["annotations", "test", "train"]).unwrap(), ["", "test", "train"]);
        assert_eq!(of(&["train"]).unwrap(), ["train"]);
        assert_eq!(of(&["partial-train", "test"]).unwrap(), ["train", "test"]);
        assert_eq!(of(&["ILSVRC2012_img_train", "ILSVRC2012_img_val"]).unwrap().len(), 2);
        assert_eq!(of(&["plane", "train"]), None);
        assert_eq!(of(&["bullet_train", "cat", "test_tube"]), None);
        assert_eq!(of(&["cat", "dog"]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn archives_are_splits_where_their_names_begin_with_them() {
        let of = |names: &[&str]| {
            of_archives(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(of(&["train-0", "val-0", "extra"]).unwrap(), ["train", "validation", ""]);
        assert_eq!(of(&["x_train", "x_test"]).unwrap(), ["train", "test"]);
        assert_eq!(of(&["bullet_train", "cat", "test_tube"]), None);
        assert_eq!(of(&["plane", "train"]), None);
    }

    #[test]
    fn a_missing_shard_is_named() {
        let check = |names: &[&str], pattern: &str| {
            let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
            complete(Path::new("d"), &names, |name| name.starts_with(pattern))
                .map_err(|error| error.to_string())
        };
        let two = ["train-00000-of-00003.tar", "train-00002-of-00003.tar"];
        let message = check(&two, "").unwrap_err();
        assert!(message.contains("lacks `train-00001-of-00003.tar`, and has 2 of 3"), "{message}");
        // Asked for by a pattern that the missing one is not of.
        check(&two, "train-00000").unwrap();
        check(&["a-0-of-1.tar", "b-0-of-1.tar", "c.tar"], "").unwrap();
        let twice = ["t-0-of-1-abc.parquet", "t-0-of-1-def.parquet"];
        assert!(check(&twice, "").unwrap_err().contains("are the same shard"));
        assert!(check(&["t-0-of-1", "t-0-of-2"], "").unwrap_err().contains("is of 1 shards"));
    }

    #[test]
    fn shards_are_numbered_and_classes_are_not() {
        let of =
            |names: &[&str]| numbering(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["00000", "00001"]), Some(Numbering::Whole));
        assert_eq!(of(&["x-001", "x-002", "x-003"]), Some(Numbering::Whole));
        assert_eq!(of(&["00000", "00002"]), Some(Numbering::Gaps));
        assert_eq!(of(&["train-00000-of-00002"]), Some(Numbering::Whole));
        assert_eq!(of(&["n01440764", "n01443537"]), Some(Numbering::Gaps));
        for names in [&["0", "1"][..], &["cat", "dog"], &["a00", "b01"], &["00000"], &[]] {
            assert_eq!(of(names), None, "{names:?}");
        }
    }
}
