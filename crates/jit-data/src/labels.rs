//! Classes of pictures that lie in no folder of their class, told by a list beside them: the ground
//! truth of ILSVRC's validation archive in its usual forms. And names for classes.
//!
//! ```text
//! ILSVRC2012_devkit_t12.tar.gz    ILSVRC's own: a number a picture, and which WordNet id it stands for
//! LOC_val_solution.csv            Kaggle's: ImageId,PredictionString with a WordNet id in front
//! NAME,CLASS                      CSV, with quotes where a name has commas; `;` and tabs separate, too
//! NAME CLASS                      a line a picture, in any order
//! CLASS                           a line a picture, in the order of the pictures' names
//! ```
//!
//! A class is a WordNet id or any word, and classes are numbered in the order of these, as those of
//! the training archive are; or it is its number, from 0 on.

mod devkit;
mod list;

use jit_core::text::Show;
use std::collections::HashMap;
use std::path::Path;

use crate::error::DataError;
use crate::folder::Folder;
use list::List;

/// Longest list, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// Gives the pictures of `folder`, which have no classes, those of the list `path`.
///
/// # Errors
/// [`DataError::Archive`] naming the list, and what in it or in the pictures does not fit.
pub fn apply(folder: &mut Folder, path: &Path) -> Result<(), DataError> {
    let refused = |reason: String| DataError::Archive { path: path.to_path_buf(), reason };
    if !folder.class_names.is_empty() {
        let from = &folder.classes_from;
        let reason = format!("the images have classes already, from {from}: leave it out");
        return Err(refused(reason));
    }
    let list = match path.extension().is_some_and(|e| e == "gz" || e == "tgz") {
        true => List::InOrder(devkit::classes(path)?),
        false => List::parse(&text(path)?).map_err(refused)?,
    };
    let classes = list.of(folder).map_err(refused)?;
    folder.class_names = number(folder, &classes).map_err(refused)?;
    folder.classes_from = format!("`{}`", path.shown());
    Ok(())
}

/// Numbers the classes, gives the numbers to the files and returns the names.
fn number(folder: &mut Folder, classes: &[String]) -> Result<Vec<String>, String> {
    if let Some(class) = classes.iter().find(|class| class.parse().is_ok_and(|n: i64| n < 0)) {
        return Err(format!("it has the class {class}: numbers of classes start at 0"));
    }
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
    let have = &folder.class_names;
    let mut by_key: HashMap<String, String> = HashMap::new();
    for (key, name) in text.lines().filter_map(split) {
        match by_key.get(&key).filter(|other| **other != name && have.contains(&key)) {
            Some(other) => {
                let reason = format!("it calls the class `{key}` both `{other}` and `{name}`");
                return Err(refused(reason));
            }
            None => by_key.insert(key, name),
        };
    }
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
    let lines: Vec<String> = text.trim_end().lines().map(|line| line.trim().to_owned()).collect();
    if lines.len() != have.len() || lines.iter().any(String::is_empty) {
        let (n, classes) = (lines.len(), have.len());
        let reason = format!("it has no name for the class `{missing}`, nor a line a class");
        return Err(refused(format!("{reason}: {n} lines for {classes} classes")));
    }
    folder.class_names = lines;
    Ok(())
}

fn text(path: &Path) -> Result<String, DataError> {
    let text = jit_core::input::read_text(path, MAX_BYTES)?;
    // The mark that some editors put in front.
    Ok(text.strip_prefix('\u{FEFF}').map(str::to_owned).unwrap_or(text))
}

#[cfg(test)]
mod tests;
