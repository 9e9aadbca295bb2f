//! Which columns of a Parquet file hold pictures and classes.

use serde_json::Value as Json;

use super::Fault;
use super::footer::{Footer, Leaf, Physical};
use crate::scan::ScanOptions;

/// Columns of classes by their names, in lower case, the first that is there.
const LABELS: [&str; 14] = [
    "label",
    "labels",
    "cls",
    "class",
    "class_id",
    "target",
    "fine_label",
    "class_label",
    "class_name",
    "label_name",
    "label_id",
    "category",
    "category_id",
    "coarse_label",
];

/// Which columns hold what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// The leaf with the pictures' bytes.
    pub image: usize,
    /// The leaf with the classes.
    pub label: Option<usize>,
    /// What that is called.
    pub label_name: Option<String>,
    /// Whether these are words, and not numbers.
    pub words: bool,
    /// Names of the classes, where the file tells them.
    pub names: Option<Vec<String>>,
    /// What to tell of a column that looks like classes and is none.
    pub note: Option<String>,
}

impl Columns {
    /// Those that are asked for, that the metadata tells, or that have the type and the name.
    ///
    /// # Errors
    /// Where there is no column of pictures, or none that was asked for.
    pub fn choose(footer: &Footer, options: &ScanOptions) -> Result<Self, Fault> {
        let json = footer.huggingface.as_deref().map(serde_json::from_str::<Json>);
        let json = json.and_then(Result::ok).unwrap_or_default();
        let features = json.pointer("/info/features").and_then(Json::as_object);
        let is = |name: &str, kind: &str| {
            let feature = features.and_then(|features| features.get(name));
            feature.is_some_and(|feature| feature["_type"] == *kind)
        };
        let leaves: Vec<(usize, &Leaf)> = footer.leaves.iter().enumerate().collect();
        let list = || {
            let names: Vec<String> = leaves.iter().map(|(_, leaf)| leaf.path.join(".")).collect();
            format!("`{}`", names.join("`, `"))
        };
        let missing = |name: &str, kind: &str| {
            Fault::new(format!("it has no column `{name}` of {kind} among {}", list()))
        };
        let image = if options.image_column.is_empty() {
            image(&leaves, |name| is(name, "Image")).ok_or_else(|| {
                let columns = list();
                Fault::new(format!("it has no column of pictures (`image.bytes`) among {columns}"))
            })?
        } else {
            let name = &options.image_column;
            let named = |leaf: &Leaf| leaf.path[0] == *name || leaf.path.join(".") == *name;
            let found = leaves.iter().find(|(_, leaf)| bytes(leaf) && inner(leaf) && named(leaf));
            found.map(|(i, _)| *i).ok_or_else(|| missing(name, "pictures"))?
        };
        let mut note = None;
        let label = if options.label_column.is_empty() {
            let values = || leaves.iter().filter(|(i, leaf)| *i != image && whole(leaf));
            let number = |leaf: &Leaf| matches!(leaf.kind, Some(Physical::Int32 | Physical::Int64));
            let told =
                |(_, leaf): &&(usize, &Leaf)| number(leaf) && is(&leaf.path[0], "ClassLabel");
            let called = |leaf: &Leaf, name: &str| leaf.path[0].eq_ignore_ascii_case(name);
            let by_name =
                || LABELS.iter().find_map(|name| values().find(|(_, leaf)| called(leaf, name)));
            let found = values().find(told).or_else(by_name);
            let other =
                leaves.iter().find(|(_, leaf)| LABELS.iter().any(|name| called(leaf, name)));
            note = other.filter(|_| found.is_none()).map(|(_, leaf)| {
                let column = leaf.path.join(".");
                format!("column `{column}` holds no single values, and is not taken for classes")
            });
            found
        } else {
            let name = &options.label_column;
            let named = |leaf: &Leaf| leaf.path.join(".") == *name && !leaf.repeated;
            let found = leaves.iter().find(|(_, leaf)| leaf.kind.is_some() && named(leaf));
            Some(found.ok_or_else(|| missing(name, "classes"))?)
        };
        let label_name = label.map(|(_, leaf)| leaf.path.join("."));
        let feature = label_name.as_ref().and_then(|name| features?.get(name));
        let names = feature.and_then(|feature| feature["names"].as_array()).map(|names| {
            let text = |name: &Json| name.as_str().map_or_else(|| name.to_string(), str::to_owned);
            names.iter().map(text).collect()
        });
        let kind = label.and_then(|(_, leaf)| leaf.kind);
        let words = matches!(kind, Some(Physical::Bytes | Physical::Boolean));
        Ok(Self { image, label: label.map(|(i, _)| *i), label_name, words, names, note })
    }
}

/// Whether a column has one value a row, of a type that may be a class.
fn whole(leaf: &Leaf) -> bool {
    leaf.path.len() == 1 && !leaf.repeated && leaf.kind.is_some()
}

fn bytes(leaf: &Leaf) -> bool {
    leaf.kind == Some(Physical::Bytes) && !leaf.repeated
}

/// Whether it may hold the bytes of pictures: by itself, or as a member of a structure.
fn inner(leaf: &Leaf) -> bool {
    match &leaf.path[..] {
        [_] => true,
        [_, member] => member == "bytes",
        _ => false,
    }
}

/// The leaf with the bytes of pictures: of the first column that is told to hold them, else the first
/// by name.
fn image(leaves: &[(usize, &Leaf)], is_image: impl Fn(&str) -> bool) -> Option<usize> {
    let fits = || leaves.iter().filter(|(_, leaf)| bytes(leaf) && inner(leaf));
    let known = |name: &str| ["image", "img", "image.bytes", "jpg", "png", "webp"].contains(&name);
    let told = fits().find(|(_, leaf)| is_image(&leaf.path[0]));
    let found = told.or_else(|| fits().find(|(_, leaf)| known(&leaf.path[0])));
    // A structure with bytes is a picture by its form.
    let found = found.or_else(|| fits().find(|(_, leaf)| leaf.path.len() == 2));
    found.map(|(i, _)| *i)
}
