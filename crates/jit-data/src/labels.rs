//! Classes of pictures that lie in no folder of their class, told by a list beside them: the ground
//! truth of ILSVRC's validation archive in its usual forms. And names for classes.
//!
//! ```text
//! ILSVRC2012_devkit_t12.tar.gz    ILSVRC's own: a number a picture, and which WordNet id it stands for
//! LOC_val_solution.csv            Kaggle's: ImageId,PredictionString with a WordNet id in front
//! NAME CLASS                      a line a picture, in any order
//! CLASS                           a line a picture, in the order of the pictures' names
//! ```
//!
//! A class is a WordNet id or any word, and classes are numbered in the order of these, as those of
//! the training archive are; or it is its number, from 0 on.

mod devkit;

use std::collections::HashMap;
use std::path::Path;

use crate::error::DataError;
use crate::folder::Folder;

/// Longest list, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// Gives the pictures of `folder`, which have no classes, those of the list `path`.
///
/// # Errors
/// [`DataError::Archive`] naming the list, and what in it or in the pictures does not fit.
pub fn apply(folder: &mut Folder, path: &Path) -> Result<(), DataError> {
    let refused = |reason: String| DataError::Archive { path: path.to_path_buf(), reason };
    if !folder.class_names.is_empty() {
        let reason = "the images have classes already: leave it out".to_owned();
        return Err(refused(reason));
    }
    let list = match path.extension().is_some_and(|e| e == "gz" || e == "tgz") {
        true => List::InOrder(devkit::classes(path)?),
        false => List::parse(&text(path)?).map_err(refused)?,
    };
    let classes = list.of(folder).map_err(refused)?;
    folder.class_names = number(folder, &classes).map_err(refused)?;
    Ok(())
}

/// Numbers the classes, gives the numbers to the files and returns the names.
fn number(folder: &mut Folder, classes: &[String]) -> Result<Vec<String>, String> {
    let numbers: Option<Vec<u32>> = classes.iter().map(|class| class.parse().ok()).collect();
    let (labels, names) = match numbers {
        Some(numbers) => {
            let most = numbers.iter().copied().max().unwrap_or(0);
            if numbers.iter().min() == Some(&1) {
                return Err(
                    "its numbers start at 1 and have to start at 0; of ILSVRC's own ground \
                            truth, whose numbers have an order of their own, give the archive \
                            ILSVRC2012_devkit_t12.tar.gz, which tells it"
                        .into(),
                );
            }
            if most as usize >= MAX_CLASSES {
                return Err(format!("class {most} is beyond the {MAX_CLASSES} that are read"));
            }
            (numbers, (0..=most).map(|class| class.to_string()).collect())
        }
        None => {
            let mut names = classes.to_vec();
            names.sort_unstable();
            names.dedup();
            let label = |class| names.binary_search(class).unwrap_or(0) as u32;
            (classes.iter().map(label).collect(), names)
        }
    };
    for (file, label) in folder.files.iter_mut().zip(labels) {
        file.label = label;
    }
    Ok(names)
}

const MAX_CLASSES: usize = 1 << 20;

/// What a list tells.
enum List {
    /// The class of each picture in the order of their names.
    InOrder(Vec<String>),
    /// The class of each name, which has no extension.
    ByName(HashMap<String, String>),
}

impl List {
    fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).peekable();
        if lines.peek().is_some_and(|line| line.eq_ignore_ascii_case(KAGGLE)) {
            lines.next();
        }
        let words = |line: &str| -> Vec<String> {
            let parts = line.split(|c: char| c == ',' || c.is_whitespace());
            parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let lines: Vec<Vec<String>> = lines.map(words).collect();
        // The shortest tells: Kaggle's have boxes behind the class.
        match lines.iter().map(Vec::len).min() {
            None => Err("it is empty".into()),
            Some(0) => Err("it has a line of commas alone".into()),
            Some(1) if lines.iter().all(|line| line.len() == 1) => {
                Ok(Self::InOrder(lines.into_iter().flatten().collect()))
            }
            Some(1) => {
                Err("some lines have one word and some have more: expected a class a line, \
                            or the name of a picture and its class"
                    .into())
            }
            Some(_) => Ok(Self::ByName(
                lines.into_iter().map(|line| (stem(&line[0]), line[1].clone())).collect(),
            )),
        }
    }

    /// The class of each picture.
    fn of(self, folder: &Folder) -> Result<Vec<String>, String> {
        let pictures = folder.files.len();
        match self {
            Self::InOrder(classes) if classes.len() != pictures => {
                Err(format!("it has {} classes for {pictures} images", classes.len()))
            }
            Self::InOrder(classes) => Ok(classes),
            Self::ByName(classes) => {
                let class = |name: String| {
                    let class = classes.get(&stem(&name)).cloned();
                    class.ok_or_else(|| format!("it does not tell the class of `{name}`"))
                };
                let files = folder.files.iter();
                files.map(|file| class(file.path.to_string_lossy().into_owned())).collect()
            }
        }
    }
}

const KAGGLE: &str = "ImageId,PredictionString";

/// A name without folders and extension.
fn stem(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned()
}

/// Gives the classes of `folder` the names of the list `path`: a line a class, in their order; or what
/// a class is called now and its name, as `LOC_synset_mapping.txt` and `words.txt` have it, of which
/// the part up to a comma is taken.
///
/// # Errors
/// [`DataError::Archive`] naming the list and a class that it lacks.
pub fn rename(folder: &mut Folder, path: &Path) -> Result<(), DataError> {
    let refused = |reason: String| DataError::Archive { path: path.to_path_buf(), reason };
    let text = text(path)?;
    let split = |line: &str| {
        let (key, name) = line.trim().split_once(char::is_whitespace)?;
        let name = name.split(',').next().unwrap_or(name).trim();
        Some((key.to_owned(), name.to_owned()))
    };
    let by_key: HashMap<String, String> = text.lines().filter_map(split).collect();
    let have = &folder.class_names;
    let missing = have.iter().find(|class| !by_key.contains_key(*class));
    let Some(missing) = missing else {
        let names: Vec<&String> = have.iter().map(|class| &by_key[class]).collect();
        let mut times: HashMap<&String, u32> = HashMap::new();
        names.iter().for_each(|name| *times.entry(name).or_default() += 1);
        // Two kinds of crane.
        let name = |(name, key): (&&String, &String)| match times[*name] {
            1 => (*name).clone(),
            _ => format!("{name} ({key})"),
        };
        folder.class_names = names.iter().zip(have).map(name).collect();
        return Ok(());
    };
    let lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    if lines.len() != have.len() || lines.iter().any(String::is_empty) {
        let (n, classes) = (lines.len(), have.len());
        let reason = format!("it has no name for the class `{missing}`, nor a line a class");
        return Err(refused(format!("{reason}: {n} lines for {classes} classes")));
    }
    folder.class_names = lines;
    Ok(())
}

fn text(path: &Path) -> Result<String, DataError> {
    Ok(jit_core::input::read_text(path, MAX_BYTES)?)
}

#[cfg(test)]
mod tests;
