//! The `[data]` section of a run's configuration.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::digits;
use crate::error::DataError;
use crate::folder::Folder;
use crate::scan::ScanOptions;
use crate::{labels, scan};

/// What to train on. The documentation of a field is what users read as its help.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// `digits` for the embedded MNIST digits; an image folder: one subfolder a class, or
    /// pictures without subfolders to train without classes; tar archives, which are read in
    /// place: one of folders, of pictures or of one archive a class (as ILSVRC comes), or a folder
    /// of class archives or of WebDataset shards; Parquet files as the Hugging Face hub has them: one,
    /// a folder of shards, or a pattern such as `data/validation-*.parquet`; zip archives and
    /// NumPy's `.npz`; CIFAR and MNIST as downloaded; or a pack that `jit data pack` wrote.
    pub path: String,
    /// The split to take, such as `validation`, where the data set comes in several: folders
    /// `train` and `val`, files `train-0000.tar` and `val-0000.tar`. Empty for the one for training.
    // The texts here are not written while empty, so that runs and studies from before go on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub split: String,
    /// List of the classes of pictures that lie in no folder of their class, such as those of
    /// ILSVRC's validation archive: its devkit (`ILSVRC2012_devkit_t12.tar.gz`), Kaggle's
    /// `LOC_val_solution.csv`, or a text with `NAME CLASS`, `NAME,CLASS` or `CLASS` a line. Empty for
    /// none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub labels: String,
    /// List of names for the classes: a name a line, or a class and its name a line, such as
    /// `LOC_synset_mapping.txt` and `words.txt`. Empty for the names that the data set has.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub class_names: String,
    /// In WebDataset shards without `.cls` files, the key of the `.json` files whose value is the
    /// class: a number, or text. Empty for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub label_key: String,
    /// In Parquet files, the column of the classes: numbers, or texts, which are numbered in their
    /// order. Empty for the one that the file's metadata or its name tells.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub label_column: String,
    /// In Parquet files, the column of the pictures. Empty for the one that the file's metadata or its
    /// name tells.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image_column: String,
    /// Share of the images to train on, above 0 and up to 1: a random subset drawn by the seed.
    pub subset: f64,
    /// Mirror each image with probability one half, drawn anew every epoch.
    pub flip: bool,
    /// Leave out damaged and unsupported files, listing them, instead of stopping.
    pub skip_damaged: bool,
    /// Background threads that decode images; 0 chooses by the number of cores.
    pub workers: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            path: digits::NAME.to_owned(),
            split: String::new(),
            labels: String::new(),
            class_names: String::new(),
            label_key: String::new(),
            label_column: String::new(),
            image_column: String::new(),
            subset: 1.0,
            flip: true,
            skip_damaged: false,
            workers: 0,
        }
    }
}

impl DataConfig {
    /// Number of background threads: `workers`, or the number of cores up to 8 where that is 0.
    pub fn worker_threads(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(8),
            n => n,
        }
    }

    /// What of it decides how a path is read.
    fn scan_options(&self) -> ScanOptions {
        ScanOptions {
            split: self.split.clone(),
            label_key: self.label_key.clone(),
            label_column: self.label_column.clone(),
            image_column: self.image_column.clone(),
        }
    }
}

/// Opens the data set that `config` describes, for images of `[channels, image_size, image_size]`.
/// Nothing is decoded yet: see [`Dataset::check`]. `seed` draws the subset.
///
/// # Errors
/// [`DataError`] when the path, the layout or an option does not fit; the message says what would.
pub fn open(
    config: &DataConfig,
    image_size: usize,
    channels: usize,
    seed: u64,
) -> Result<Dataset, DataError> {
    let option = |option, value: String, expected: &str| DataError::Option {
        option,
        value,
        expected: expected.to_owned(),
    };
    if !(config.subset > 0.0 && config.subset <= 1.0) {
        let expected = "the share of the images is above 0 and at most 1";
        return Err(option("data.subset", config.subset.to_string(), expected));
    }
    if !matches!(channels, 1 | 3) {
        let expected = "images have 1 channel (grey) or 3 (RGB)";
        return Err(option("model.channels", channels.to_string(), expected));
    }
    if image_size == 0 || image_size > MAX_SIZE {
        let expected = format!("the side of the images is 1 to {MAX_SIZE} pixels");
        return Err(option("model.image_size", image_size.to_string(), &expected));
    }
    if let Err(expected) = jit_core::threads::within(config.workers) {
        return Err(option("data.workers", config.workers.to_string(), &expected));
    }
    let path = Path::new(&config.path);
    if config.path == digits::NAME {
        let given = [
            ("data.split", &config.split),
            ("data.labels", &config.labels),
            ("data.class_names", &config.class_names),
            ("data.label_key", &config.label_key),
            ("data.label_column", &config.label_column),
            ("data.image_column", &config.image_column),
        ];
        if let Some((name, value)) = given.into_iter().find(|(_, value)| !value.is_empty()) {
            return Err(option(name, value.clone(), "the digits have classes and names"));
        }
        let digits = Dataset::digits(digits::Split::Train, image_size, channels)?;
        return Ok(digits.subset(config.subset, seed));
    }
    if !scan::exists(path) {
        let hint = jit_core::suggest::hint(&config.path, [digits::NAME]);
        return Err(DataError::NotFound { path: config.path.clone(), hint });
    }
    let dataset = Dataset::of(path, list(config)?, image_size, channels)?;
    Ok(dataset.subset(config.subset, seed))
}

/// The images that `config` describes, which are not the digits, with classes and names.
///
/// # Errors
/// As [`scan::scan`], [`labels::apply`] and [`labels::rename`].
pub fn list(config: &DataConfig) -> Result<Folder, DataError> {
    let mut folder = scan::scan_with(Path::new(&config.path), &config.scan_options())?;
    if !config.labels.is_empty() {
        labels::apply(&mut folder, Path::new(&config.labels))?;
    }
    if !config.class_names.is_empty() {
        labels::rename(&mut folder, Path::new(&config.class_names))?;
    }
    Ok(folder)
}

/// Largest side of a training image.
pub(crate) const MAX_SIZE: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_options_say_what_would_do() {
        let message = |change: fn(&mut DataConfig), size, channels| {
            let mut config = DataConfig::default();
            change(&mut config);
            open(&config, size, channels, 0).unwrap_err().to_string()
        };
        let none: fn(&mut DataConfig) = |_| {};
        assert!(message(|c| c.subset = 0.0, 28, 1).contains("above 0 and at most 1"));
        assert!(message(|c| c.subset = f64::NAN, 28, 1).contains("data.subset = NaN"));
        assert!(message(|c| c.path = "digts".into(), 28, 1).contains("did you mean `digits`?"));
        assert!(message(none, 28, 4).contains("model.channels = 4"));
        assert!(message(|c| c.workers = 100_000, 28, 1).contains("data.workers = 100000"));
        assert!(message(none, 30, 1).contains("28 or 32"));
        assert!(message(none, 0, 1).contains("1 to 8192"));
    }

    #[test]
    fn unknown_keys_are_refused_and_missing_ones_default() {
        let parse = serde_json::from_str::<DataConfig>;
        assert_eq!(parse("{}").unwrap(), DataConfig::default());
        assert!(parse(r#"{"pth": "x"}"#).unwrap_err().to_string().contains("`pth`"));
    }
}
