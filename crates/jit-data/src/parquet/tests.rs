use std::fs;

use proptest::prelude::*;

use super::*;
use crate::Dataset;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/parquet/{name}.parquet"))
}

fn open(path: &Path) -> Result<Dataset, DataError> {
    Dataset::folder(path, 4, 1)
}

/// The shade of every image, asked for from the last to the first and then again.
fn shades(dataset: &Dataset) -> Vec<u8> {
    let shade = |i: usize| {
        let mut planes = vec![0; dataset.sample_len()];
        dataset.load(i, &mut planes).unwrap();
        planes[0]
    };
    let mut backwards: Vec<u8> = (0..dataset.len()).rev().map(shade).collect();
    backwards.reverse();
    assert_eq!(backwards, (0..dataset.len()).map(shade).collect::<Vec<_>>());
    backwards
}

fn labels(dataset: &Dataset) -> Vec<u32> {
    (0..dataset.len()).map(|i| dataset.label(i)).collect()
}

fn message(path: &Path) -> String {
    open(path).unwrap_err().to_string()
}

#[test]
fn files_of_every_kind_give_their_pictures_and_classes() {
    for name in ["hub", "plain", "zstd_v2", "gzip_flat"] {
        let dataset = open(&path(name)).unwrap().uncached();
        assert_eq!(shades(&dataset), [10, 11, 12, 13, 14, 15, 16], "{name}");
        assert_eq!(labels(&dataset), [2, 0, 1, 1, 2, 0, 0], "{name}");
        let names = if name == "gzip_flat" { ["0", "1", "2"] } else { ["cat", "dog", "owl"] };
        assert_eq!(dataset.class_names(), names);
        assert_eq!(dataset.name(5), format!("{name}.parquet/000005"));
    }
    // The hub's own: the second row group's dictionary page.
    let repeated = open(&path("repeated")).unwrap().uncached();
    assert_eq!(shades(&repeated), [10, 10, 11, 10, 11, 11, 10]);
}

/// The class of each row by name, and what is told of them.
fn classes(path: &Path, label: &str, image: &str) -> Result<(Vec<String>, String), String> {
    let options = ScanOptions {
        label_column: label.to_owned(),
        image_column: image.to_owned(),
        ..ScanOptions::default()
    };
    let found = crate::scan::scan_with(path, &options).map_err(|error| error.to_string())?;
    let name = |file: &FileEntry| found.class_names.get(file.label as usize).cloned();
    let names = found.files.iter().filter_map(name).collect();
    Ok((names, format!("{} {}", found.classes_from, found.notes.join(" "))))
}

#[test]
fn classes_of_every_type_are_classes_or_told() {
    let of = |name: &str| classes(&path(name), "", "").unwrap();
    for name in ["words", "words_plain"] {
        assert_eq!(of(name).0, ["owl", "cat", "dog", "dog", "owl", "cat", "cat"], "{name}");
        assert_eq!(open(&path(name)).unwrap().class_names(), ["cat", "dog", "owl"]);
    }
    for name in ["truths", "truths_v2"] {
        assert_eq!(labels(&open(&path(name)).unwrap()), [1, 0, 1, 1, 0, 0, 1], "{name}");
        assert_eq!(open(&path(name)).unwrap().class_names(), ["false", "true"]);
    }
    for name in ["whole", "whole_f32"] {
        assert_eq!(labels(&open(&path(name)).unwrap()), [2, 0, 1, 1, 2, 0, 0], "{name}");
    }
    assert_eq!(of("more").0, ["2", "0", "1", "1", "2", "0", "0"]);
    assert_eq!(of("more").1, "column `Category` ");
    let (names, told) = of("parts");
    assert!(names.is_empty() && told.contains("`label` is not taken for classes: it holds 0.5"));
    let (names, told) = of("lists");
    assert!(names.is_empty() && told.contains("holds no single values"), "{told}");
}

#[test]
fn columns_that_are_asked_for_are_taken() {
    let shade = |column: &str| {
        let config = crate::DataConfig {
            path: path("more").display().to_string(),
            image_column: column.to_owned(),
            label_column: "sex".to_owned(),
            ..crate::DataConfig::default()
        };
        let dataset = crate::open(&config, 4, 1, 0).unwrap();
        (shades(&dataset)[0], dataset.class_names().to_vec())
    };
    let sex = ["cat", "dog", "owl"].map(str::to_owned).to_vec();
    assert_eq!((shade("pic"), shade("image.bytes")), ((10, sex.clone()), (50, sex)));
    let told = |name: &str, label: &str, image: &str, part: &str| {
        let message = classes(&path(name), label, image).unwrap_err();
        assert!(message.contains(part), "{message}");
    };
    told("more", "breed", "", "no column `breed` of classes among `pic.bytes`, `pic.path`");
    told("more", "", "sexes", "no column `sexes` of pictures");
    told("parts", "label", "", "column `label` holds no classes: it holds 0.5");
    told("lists", "label", "", "no column `label` of classes");
}

#[test]
fn words_of_all_shards_are_numbered_together() {
    let dir = tempfile::tempdir().unwrap();
    let place = |from: &str, to: &str| fs::copy(path(from), dir.path().join(to)).unwrap();
    place("truths", "0.parquet");
    place("words", "1.parquet");
    let dataset = open(dir.path()).unwrap();
    assert_eq!(dataset.class_names(), ["cat", "dog", "false", "owl", "true"]);
    assert_eq!(labels(&dataset), [4, 2, 4, 4, 2, 2, 4, 3, 0, 1, 1, 3, 0, 0]);
    place("gzip_flat", "2.parquet");
    assert!(message(dir.path()).contains("classes are not those of"));
    fs::remove_file(dir.path().join("2.parquet")).unwrap();
    place("whole", "2.parquet");
    assert!(message(dir.path()).contains("classes are not those of"));
}

#[test]
fn pictures_in_the_middle_of_large_pages_are_whole() {
    let (table, ..) =
        Table::open(&path("blocks"), &Arc::default(), &ScanOptions::default()).unwrap();
    let first = table.image(0).unwrap();
    assert_eq!((first.len(), &first[..2]), (69_366, &b"BM"[..]));
    for row in [3, 1, 2, 0] {
        let bytes = table.image(row).unwrap();
        assert_eq!(bytes[60..69], [row as u8; 9]);
        assert_eq!((&bytes[..60], &bytes[69..]), (&first[..60], &first[69..]));
    }
    assert!(table.image(4).is_err());
    assert_eq!(open(&path("blocks")).unwrap().num_classes(), 0);
}

#[test]
fn rows_without_a_picture_are_damaged_images() {
    let mut dataset = open(&path("gap")).unwrap();
    let message = dataset.check(false, 1, &|_, _| {}).unwrap_err().to_string();
    assert!(
        message.contains("2 files") && message.contains("row 1: it has no picture"),
        "{message}"
    );
    dataset.check(true, 1, &|_, _| {}).unwrap();
    assert_eq!(shades(&dataset), [10, 12]);
}

#[test]
fn shards_are_one_data_set_and_splits_are_kept_apart() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("repo/data");
    fs::create_dir_all(&data).unwrap();
    let place = |from: &str, to: &str| fs::copy(path(from), data.join(to)).unwrap();
    place("hub", "train-00000-of-00002.parquet");
    assert!(message(&data).contains("lacks `train-00001-of-00002.parquet`, and has 1 of 2 shards"));
    assert_eq!(open(&data.join("train-00000*.parquet")).unwrap().len(), 7);
    place("repeated", "train-00001-of-00002.parquet");
    place("hub", "validation-00000-of-00001.parquet");
    fs::write(dir.path().join("repo/README.md"), "# Data").unwrap();
    for root in ["repo", "repo/data"] {
        let train = open(&dir.path().join(root)).unwrap();
        assert_eq!((train.len(), shades(&train)[13]), (14, 10));
    }
    let validation = open(&data.join("validation-*.parquet")).unwrap();
    assert_eq!((validation.len(), validation.num_classes()), (7, 3));
    assert!(message(&data.join("test-*.parquet")).contains("no Parquet files"));
    fs::remove_file(data.join("train-00001-of-00002.parquet")).unwrap();
    place("gzip_flat", "train-00001-of-00002.parquet");
    let message = message(&data);
    assert!(message.contains("train-00001-of") && message.contains("classes are not those of"));
}

#[test]
fn what_cannot_be_used_says_why() {
    let told = |name: &str, part: &str| {
        let message = message(&path(name));
        assert!(
            message.contains(&format!("{name}.parquet")) && message.contains(part),
            "{message}"
        );
    };
    told("unlabelled", "row 0 has the label −1");
    told("beyond", "row 1: column `label` has class 3 of 3");
    told("table", "no column of pictures (`image.bytes`) among `x`, `y`");
    told("brotli", "column `label`, row group 0: its pages have compression BROTLI");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.parquet");
    let whole = fs::read(path("hub")).unwrap();
    let written = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        message(&file)
    };
    assert!(written(&whole[..whole.len() / 2]).contains("cut short or still being written"));
    assert!(written(b"<html>404 not found</html>").contains("it is no Parquet file"));
    assert!(written(b"PAR1").contains("too short"));
    // The metadata claims two gigabytes of itself.
    let mut lies = whole.clone();
    let at = lies.len() - 8;
    lies[at..at + 4].copy_from_slice(&0x7FFF_FFFFu32.to_le_bytes());
    assert!(written(&lies).contains("it claims 2147483647 bytes of metadata"));
    // The front, where the first row group was, is gone: another file's pages.
    let end = whole.len() - 300;
    let moved = [&whole[..4], &whole[end..]].concat();
    assert!(written(&moved).contains("claims"), "{}", written(&moved));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Damage is an error or other pictures, and never a panic or a huge allocation.
    #[test]
    fn no_damage_takes_the_program_down(
        name in prop::sample::select(vec![
            "hub", "plain", "zstd_v2", "gzip_flat", "repeated", "gap", "words", "words_plain",
            "truths", "truths_v2", "whole",
        ]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        tail in any::<bool>(),
    ) {
        let mut bytes = fs::read(path(name)).unwrap();
        for (at, value) in changes {
            // Half of the cases damage what the metadata says.
            let from = if tail { bytes.len() / 2 } else { 0 };
            let at = from + at.index(bytes.len() - from);
            bytes[at] = value;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.parquet");
        fs::write(&file, bytes).unwrap();
        if let Ok(mut dataset) = open(&file) {
            let _ = dataset.check(true, 1, &|_, _| {});
        }
    }
}
