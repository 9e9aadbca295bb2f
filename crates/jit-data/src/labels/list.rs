//! The lists themselves: what separates a name from its class, and which picture a name means.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::folder::Folder;

/// What a list tells.
#[derive(Debug)]
pub enum List {
    /// The class of each picture in the order of their names.
    InOrder(Vec<String>),
    /// The class of each name.
    ByName(Vec<(String, String)>),
}

/// What the columns of names and of classes are called, in lower case, where there are others.
const NAMES: [&str; 14] = [
    "image",
    "imageid",
    "image_id",
    "image_name",
    "image_path",
    "img",
    "id",
    "file",
    "filename",
    "file_name",
    "filepath",
    "fname",
    "name",
    "path",
];
const CLASSES: [&str; 13] = [
    "label",
    "labels",
    "class",
    "class_id",
    "class_name",
    "category",
    "category_id",
    "target",
    "cls",
    "predictionstring",
    "species",
    "breed",
    "wnid",
];

impl List {
    /// Reads a list.
    ///
    /// # Errors
    /// What in it has no meaning.
    pub fn parse(text: &str) -> Result<Self, String> {
        let first =
            text.lines().map(str::trim).find(|line| !line.is_empty()).ok_or("it is empty")?;
        // A class may have commas where tabs separate, and blanks where commas do.
        match ['\t', ',', ';'].into_iter().find(|&c| first.contains(c)) {
            Some(separator) => table(text, separator as u8),
            None => words(text),
        }
    }

    /// The class of each picture.
    ///
    /// # Errors
    /// A picture without a class.
    pub fn of(self, folder: &Folder) -> Result<Vec<String>, String> {
        let pictures = folder.files.len();
        match self {
            Self::InOrder(classes) if classes.len() != pictures => {
                Err(format!("it has {} classes for {pictures} images", classes.len()))
            }
            Self::InOrder(classes) => in_order(classes, folder),
            Self::ByName(lines) => by_name(&lines, folder),
        }
    }
}

/// A line each, the first word of which is a name and the rest its class, or a class alone.
fn words(text: &str) -> Result<List, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<Vec<&str>> =
        lines.map(|line| line.splitn(2, char::is_whitespace).map(str::trim).collect()).collect();
    if lines.iter().all(|line| line.len() == 1) {
        return Ok(List::InOrder(lines.concat().into_iter().map(str::to_owned).collect()));
    }
    let pair = |line: &Vec<&str>| match line[..] {
        [name, class] => Ok((name.to_owned(), class.to_owned())),
        _ => Err("some lines have one word and some have more: expected a class a line, or the \
                  name of a picture and its class"
            .to_owned()),
    };
    Ok(List::ByName(lines.iter().map(pair).collect::<Result<_, _>>()?))
}

/// Columns, with a line of their names or without.
fn table(text: &str, separator: u8) -> Result<List, String> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .delimiter(separator)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let lines: Vec<csv::StringRecord> =
        reader.records().collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    let Some(head) = lines.first() else { return Err("it is empty".into()) };
    let named = |known: &[&str]| {
        head.iter().position(|column| known.contains(&&*column.to_ascii_lowercase()))
    };
    let columns = (named(&NAMES), named(&CLASSES));
    let (name, class, skip) = match columns {
        (Some(name), Some(class)) => (name, class, 1),
        // Boxes may follow.
        _ if head.iter().skip(2).all(|column| column.parse::<f64>().is_ok()) => (0, 1, 0),
        _ => {
            let head: Vec<&str> = head.iter().take(20).collect();
            return Err(format!(
                "its columns `{}` are not told apart: expected two, the name of a picture and its \
                 class, or a first line with `image` and `label`",
                head.join("`, `")
            ));
        }
    };
    // Kaggle's have boxes behind the class.
    let boxes = head.get(class).is_some_and(|c| c.eq_ignore_ascii_case("PredictionString"));
    let pair = |line: &csv::StringRecord| {
        let class = line.get(class).unwrap_or_default();
        let class = if boxes { class.split_whitespace().next().unwrap_or_default() } else { class };
        match line.get(name).unwrap_or_default() {
            name if !name.is_empty() && !class.is_empty() => {
                Ok((name.to_owned(), class.to_owned()))
            }
            _ => {
                let at = line.position().map_or(0, csv::Position::line);
                Err(format!("line {at} lacks a name or a class"))
            }
        }
    };
    Ok(List::ByName(lines.iter().skip(skip).map(pair).collect::<Result<_, _>>()?))
}

/// Refuses lines that name pictures after all, separated in a way that is not known.
fn in_order(classes: Vec<String>, folder: &Folder) -> Result<Vec<String>, String> {
    let file = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let names: HashSet<String> =
        folder.files.iter().filter_map(|picture| file(&picture.path)).collect();
    let front = |class: &str| {
        let end = class.find(|c: char| !c.is_alphanumeric() && !"._-".contains(c));
        names.contains(&class[..end.unwrap_or(class.len())])
    };
    match classes.iter().find(|class| front(class)) {
        Some(class) => Err(format!(
            "`{class}` names a picture: expected a name and its class, as `NAME,CLASS`"
        )),
        None => Ok(classes),
    }
}

/// The classes of pictures by their paths, by their names, or by these without extension.
fn by_name(lines: &[(String, String)], folder: &Folder) -> Result<Vec<String>, String> {
    let mut exact: HashMap<&str, &str> = HashMap::with_capacity(lines.len());
    // Several names, of other folders or with other extensions, may come to one: `None`.
    let mut loose: HashMap<&str, Option<&str>> = HashMap::with_capacity(lines.len());
    for (name, class) in lines {
        let name = name.strip_prefix("./").unwrap_or(name);
        if let Some(other) = exact.insert(name, class) {
            return Err(format!("it tells `{name}` twice, as `{other}` and as `{class}`"));
        }
        loose.entry(stem(base(name))).and_modify(|class| *class = None).or_insert(Some(class));
    }
    let class = |path: &Path| {
        let path = path.to_string_lossy();
        let forms = [&path, stem(&path), base(&path), stem(base(&path))];
        let found = forms.into_iter().find_map(|form| exact.get(form).copied());
        let found = found.or_else(|| loose.get(stem(base(&path))).copied().flatten());
        found.map(str::to_owned).ok_or_else(|| format!("it does not tell the class of `{path}`"))
    };
    folder.files.iter().map(|file| class(&file.path)).collect()
}

/// A name without folders.
fn base(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

/// A name without extension.
fn stem(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, extension)) if !extension.contains('/') => stem,
        _ => name,
    }
}
