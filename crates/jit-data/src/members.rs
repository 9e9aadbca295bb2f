//! The files in archives, tar or zip, and what class each picture among them has: that of a `.cls` or
//! JSON file beside it, of its archive, of its folder, or none.

use jit_core::text::Show;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value as Json;

use crate::archive;
use crate::error::{DamagedFile, DataError};
use crate::folder::{self, Folder};
use crate::place::{FileEntry, Place, inflate, read_range};
use crate::scan::ScanOptions;
use crate::splits::{self, Numbering};

/// Labels are below this: more classes are no classification.
pub(crate) const MAX_CLASSES: u32 = 1 << 20;

/// Longest `.cls` file, in bytes.
const MAX_LABEL_BYTES: u64 = 64;

/// Longest JSON file of a picture, in bytes.
const MAX_JSON_BYTES: u64 = 1 << 20;

/// A regular file of an archive.
#[derive(Debug)]
pub(crate) struct Member {
    pub name: PathBuf,
    pub bytes: u64,
    pub place: Place,
}

impl Member {
    pub fn has_extension(&self, wanted: &str) -> bool {
        self.name.extension().is_some_and(|e| e.eq_ignore_ascii_case(wanted))
    }

    /// What the files of a WebDataset sample share: the path up to the first dot of its last part.
    fn key(&self) -> PathBuf {
        let name = self.name.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        self.name.with_file_name(name.split('.').next().unwrap_or_default())
    }

    /// Its first bytes, at most `most`.
    pub fn head(&self, most: u64) -> Result<Vec<u8>, DataError> {
        match &self.place {
            Place::Range { archive, offset } => read_range(archive, *offset, self.bytes.min(most)),
            Place::Deflated { archive, offset, packed } if self.bytes.max(*packed) <= most => {
                let stored = read_range(archive, *offset, *packed)?;
                inflate(&stored, self.bytes).ok_or_else(|| {
                    let reason = format!("`{}` is damaged", self.name.shown());
                    DataError::Archive { path: archive.to_path_buf(), reason }
                })
            }
            _ => Ok(Vec::new()),
        }
    }
}

/// What a picture's class is called by a file beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Label {
    Number(u32),
    Word(String),
}

/// A picture of an archive.
struct Picture {
    entry: FileEntry,
    /// How many parts of its path come before its name within the archive.
    outer: usize,
    /// What its archive is called, where that may be a class.
    archive: Option<Arc<str>>,
    label: Option<Label>,
}

/// What the archives hold.
pub(crate) struct Found<'a> {
    options: &'a ScanOptions,
    pictures: Vec<Picture>,
    /// What each archive that may be a class is called.
    archives: Vec<String>,
    /// Whether there are other files with the key of a picture.
    companions: bool,
    /// Names of classes beside the archives.
    pub class_names: Vec<String>,
    /// What else is told of them. Its pictures are added at the end.
    pub folder: Folder,
}

impl<'a> Found<'a> {
    pub fn new(options: &'a ScanOptions, form: &'static str) -> Self {
        Self {
            options,
            pictures: Vec::new(),
            archives: Vec::new(),
            companions: false,
            class_names: Vec::new(),
            folder: Folder { form, ..Folder::default() },
        }
    }

    /// Adds the members of an archive. `class` is what all of them may be of; their names in the data
    /// set begin with `prefix`.
    pub fn add(
        &mut self,
        source: &Path,
        prefix: &Path,
        members: Vec<Member>,
        class: Option<&str>,
    ) -> Result<(), DataError> {
        let labels = self.labels(source, &members)?;
        let mut keys = HashSet::new();
        if members.iter().any(|member| !folder::is_picture(&member.name)) {
            let pictures = members.iter().filter(|member| folder::is_picture(&member.name));
            keys.extend(pictures.map(Member::key));
        }
        self.archives.extend(class.map(str::to_owned));
        let (outer, class) = (prefix.iter().count(), class.map(Arc::<str>::from));
        for member in members {
            let path = prefix.join(&member.name);
            if !folder::is_picture(&path) {
                // Beside a picture there may be anything: captions, JSON.
                if keys.contains(&member.key()) {
                    self.companions = true;
                } else {
                    self.folder.beside(path);
                }
                continue;
            }
            let label = labels.of(&member.name).cloned();
            if label.is_none() && !labels.by_stem.is_empty() {
                let reason = format!("it has no {}, which others of its archive have", labels.kind);
                self.folder.strays.push(DamagedFile { path, reason });
                continue;
            }
            let entry = FileEntry { path, label: 0, bytes: member.bytes, place: member.place };
            self.pictures.push(Picture { entry, outer, archive: class.clone(), label });
        }
        Ok(())
    }

    /// What the files beside pictures tell.
    fn labels(&self, source: &Path, members: &[Member]) -> Result<Labels, DataError> {
        let key = &self.options.label_key;
        let refused = |reason| DataError::Archive { path: source.to_path_buf(), reason };
        let (extension, kind) = match key.is_empty() {
            true => ("cls", "`.cls` file"),
            false => ("json", "JSON file"),
        };
        let mut labels = Labels { by_stem: HashMap::new(), kind };
        for member in members.iter().filter(|member| member.has_extension(extension)) {
            let name = member.name.shown();
            let label = match key.is_empty() {
                true => number(&member.head(MAX_LABEL_BYTES)?)
                    .map_err(|text| format!("`{name}` holds no number of a class: {text:?}")),
                false if member.bytes > MAX_JSON_BYTES => {
                    Err(format!("`{name}` has {} bytes, more than are read", member.bytes))
                }
                false => json_label(&member.head(MAX_JSON_BYTES)?, key)
                    .map_err(|reason| format!("`{name}` {reason}")),
            };
            let label = label.map_err(refused)?;
            let stem = member.name.with_extension("");
            if labels.by_stem.insert(stem, label).is_some() {
                let reason = format!("it has two `{name}`: each picture needs a key of its own");
                return Err(refused(reason));
            }
        }
        Ok(labels)
    }

    /// The pictures sorted by path, with their labels.
    pub fn finish(mut self, root: &Path) -> Result<Folder, DataError> {
        let mixed = |reason: &str| DataError::Archive { path: root.into(), reason: reason.into() };
        if self.pictures.is_empty() {
            return Err(self.folder.empty(root));
        }
        let labelled = self.pictures.iter().filter(|picture| picture.label.is_some()).count();
        if labelled > 0 && labelled < self.pictures.len() {
            let kind = if self.options.label_key.is_empty() { "`.cls`" } else { "JSON" };
            let reason = format!("some of its archives have {kind} labels and others have none");
            return Err(mixed(&reason));
        }
        let key = &self.options.label_key;
        if labelled > 0 {
            self.by_label().map_err(|reason| mixed(&reason))?;
        } else if !key.is_empty() {
            return Err(DataError::Option {
                option: "data.label_key",
                value: key.clone(),
                expected: format!("`{}` has no JSON files beside its pictures", root.shown()),
            });
        } else if self.by_archive() {
            let archive = |picture: &Picture| picture.archive.clone();
            let names: Vec<Option<Arc<str>>> = self.pictures.iter().map(archive).collect();
            self.by_name(&names, "their archives");
        } else {
            self.by_folder(root)?;
        }
        let Self { pictures, mut folder, .. } = self;
        folder.files.extend(pictures.into_iter().map(|picture| picture.entry));
        folder.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        folder.strays.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(folder)
    }

    /// Whether archives are classes, and not the numbered shards of one data set.
    fn by_archive(&mut self) -> bool {
        let shards = match splits::numbering(&self.archives) {
            Some(Numbering::Whole) => true,
            // ILSVRC's `n01440764.tar` have pictures alone.
            Some(Numbering::Gaps) => self.companions,
            // What tells a split by its name is none, either.
            None => {
                let splits = splits::of_archives(&self.archives);
                self.archives.is_empty()
                    || splits.is_some_and(|splits| splits.iter().all(|split| !split.is_empty()))
            }
        };
        if shards && !self.archives.is_empty() {
            let note = "the archives are taken for shards and not for classes, which is what their \
                        names tell; `.cls` files beside the pictures tell classes, or --label-key KEY \
                        takes them from JSON files";
            self.folder.notes.push(note.to_owned());
        }
        !shards
    }

    /// Numbers are classes as they are; if there are words, all are words, numbered in their order.
    fn by_label(&mut self) -> Result<(), String> {
        let key = &self.options.label_key;
        let label = |picture: &Picture| match &picture.label {
            Some(Label::Number(number)) => Some(*number),
            _ => None,
        };
        let numbers: Option<Vec<u32>> = self.pictures.iter().map(label).collect();
        self.folder.classes_from = match key.is_empty() {
            true => "`.cls` files".to_owned(),
            false => format!("`{key}` of the JSON files"),
        };
        let Some(numbers) = numbers else {
            let word = |picture: &Picture| match &picture.label {
                Some(Label::Number(number)) => Some(number.to_string()),
                Some(Label::Word(word)) => Some(word.clone()),
                None => None,
            };
            let names: Vec<Option<String>> = self.pictures.iter().map(word).collect();
            let from = std::mem::take(&mut self.folder.classes_from);
            self.by_name(&names, &from);
            return Ok(());
        };
        let most = numbers.iter().copied().max().unwrap_or(0) as usize;
        let mut names = std::mem::take(&mut self.class_names);
        if names.is_empty() {
            names = (0..=most).map(|label| label.to_string()).collect();
        }
        if names.len() <= most {
            let (file, lines) = (archive::CLASS_NAMES, names.len());
            return Err(format!("`{file}` has {lines} lines, and there is a label {most}"));
        }
        self.folder.class_names = names;
        for (picture, number) in self.pictures.iter_mut().zip(numbers) {
            picture.entry.label = number;
        }
        Ok(())
    }

    /// Classes are folders within the archives, in which all may lie in one more, or in splits.
    fn by_folder(&mut self, root: &Path) -> Result<(), DataError> {
        let part = |picture: &Picture, depth: usize| {
            let mut parts = picture.entry.path.iter().skip(picture.outer + depth);
            let part = parts.next()?.to_string_lossy().into_owned();
            // The last part is the picture itself.
            parts.next().map(|_| part)
        };
        let mut depth = 0;
        loop {
            let mut names: Vec<Option<String>> =
                self.pictures.iter().map(|picture| part(picture, depth)).collect();
            let mut distinct: Vec<&str> = names.iter().flatten().map(String::as_str).collect();
            distinct.sort_unstable();
            distinct.dedup();
            let none = names.iter().filter(|name| name.is_none()).count();
            if none == names.len() {
                return Ok(());
            }
            if none > 0 {
                let reason = "it mixes pictures and folders of pictures".to_owned();
                return Err(DataError::Archive { path: root.to_path_buf(), reason });
            }
            if let Some(splits) = splits::of_folders(&distinct)
                && self.folder.split.is_none()
            {
                let parts = distinct.iter().map(|name| (*name).to_owned());
                let parts: Vec<(String, String)> = splits.into_iter().zip(parts).collect();
                let chosen = splits::choose(root, parts, &self.options.split)?;
                self.folder.split = Some(chosen.split.unwrap_or_else(|| chosen.taken.join(" ")));
                self.folder.notes.extend(chosen.note);
                let mut names = names.drain(..);
                let taken = |name: Option<String>| name.is_some_and(|n| chosen.taken.contains(&n));
                self.pictures.retain(|_| names.next().is_some_and(taken));
            } else if distinct.len() > 1
                || self.pictures.iter().any(|picture| part(picture, depth + 1).is_none())
            {
                self.by_name(&names, "their folders");
                return Ok(());
            }
            depth += 1;
        }
    }

    /// Classes are names, one for each picture, numbered in their order.
    fn by_name<S: AsRef<str>>(&mut self, names: &[Option<S>], from: &str) {
        let mut classes: Vec<&str> = names.iter().flatten().map(AsRef::as_ref).collect();
        classes.sort_unstable();
        classes.dedup();
        for (picture, name) in self.pictures.iter_mut().zip(names) {
            let label = name.as_ref().and_then(|name| classes.binary_search(&name.as_ref()).ok());
            picture.entry.label = label.unwrap_or(0) as u32;
        }
        self.folder.class_names = classes.into_iter().map(str::to_owned).collect();
        from.clone_into(&mut self.folder.classes_from);
    }
}

/// The labels of an archive by the names of their files without extension.
struct Labels {
    by_stem: HashMap<PathBuf, Label>,
    /// What the files are called.
    kind: &'static str,
}

impl Labels {
    /// The label of the picture `name`: that of the longest name that its own begins with, up to a
    /// dot. So `a.v1.png` goes with `a.v1.cls`, and `a.left.png` and `a.right.png` with `a.cls`.
    fn of(&self, name: &Path) -> Option<&Label> {
        if self.by_stem.is_empty() {
            return None;
        }
        if let Some(label) = self.by_stem.get(name) {
            return Some(label);
        }
        let file = name.file_name()?.to_string_lossy().into_owned();
        let mut stem = file.as_str();
        while let Some((shorter, _)) = stem.rsplit_once('.') {
            if let Some(label) = self.by_stem.get(&name.with_file_name(shorter)) {
                return Some(label);
            }
            stem = shorter;
        }
        None
    }
}

/// The number in a `.cls` file, or what there is instead.
fn number(bytes: &[u8]) -> Result<Label, String> {
    let text = String::from_utf8_lossy(bytes);
    let label = text.trim().parse::<u32>().ok().filter(|label| *label < MAX_CLASSES);
    label.map(Label::Number).ok_or_else(|| text.trim().to_owned())
}

/// What a JSON file says under `key`, or what is wrong with it.
fn json_label(bytes: &[u8], key: &str) -> Result<Label, String> {
    let json: Json =
        serde_json::from_slice(bytes).map_err(|error| format!("is no JSON: {error}"))?;
    let wrong = |value: &Json| {
        Err(format!("says `{key}`: {value}, which is no class: expected a whole number or text"))
    };
    match json.get(key) {
        Some(value @ Json::Number(number)) => {
            let number = number.as_u64().and_then(|number| u32::try_from(number).ok());
            number.filter(|n| *n < MAX_CLASSES).map(Label::Number).map_or_else(|| wrong(value), Ok)
        }
        Some(Json::String(word)) => Ok(Label::Word(word.clone())),
        Some(Json::Bool(truth)) => Ok(Label::Word(truth.to_string())),
        Some(value) => wrong(value),
        None => {
            let keys = json.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>().join("`, `"));
            Err(format!("has no `{key}`; it has `{}`", keys.unwrap_or_default()))
        }
    }
}
