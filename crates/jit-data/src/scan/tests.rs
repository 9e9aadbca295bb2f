use std::fs;
use std::path::Path;

use super::*;
use crate::grid::png_bytes;

/// A folder of these files, those called `.png` being pictures, `.tar` archives of a picture each.
fn tree(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let picture = png_bytes(&[9; 24], 6, 4, 1).unwrap();
        let bytes = match path.extension().and_then(|e| e.to_str()) {
            Some("png") => picture,
            Some("tar") => tar_of(&[("x.png", &picture)]),
            Some("parquet") => fs::read(table("hub")).unwrap(),
            _ => b"text".to_vec(),
        };
        fs::write(path, bytes).unwrap();
    }
    dir
}

fn table(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/parquet/{name}.parquet"))
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Classes, paths with labels, and notes.
fn found(root: &Path, split: &str) -> Result<(Vec<String>, Vec<String>, String), String> {
    let options = ScanOptions { split: split.to_owned(), ..ScanOptions::default() };
    let folder = scan_with(root, &options).map_err(|error| error.to_string())?;
    for file in &folder.files {
        file.raster(root).unwrap();
    }
    let name = |file: &crate::place::FileEntry| format!("{} {}", file.path.display(), file.label);
    let files = folder.files.iter().map(name).collect();
    Ok((folder.class_names, files, folder.notes.join("\n")))
}

#[test]
fn patterns_stand_for_names() {
    let fits = |pattern: &str| super::matches(pattern, "train-00001-of-00002.parquet");
    assert!(fits("train-*.parquet") && fits("*") && fits("*-of-*") && fits("t*n-*t"));
    assert!(!fits("train-*.tar") && !fits("rain*") && !fits("train") && !fits(""));
}

#[test]
fn split_folders_are_no_classes() {
    let root = tree(&[
        "train/cat/a.png",
        "train/dog/b.png",
        "val/cat/c.png",
        "val/dog/d.png",
        "__MACOSX/x.png",
        "words.txt",
    ]);
    let (classes, files, notes) = found(root.path(), "").unwrap();
    assert_eq!(classes, ["cat", "dog"]);
    assert_eq!(files, ["train/cat/a.png 0", "train/dog/b.png 1"]);
    assert!(notes.contains("`train` is taken, and left out: `validation`"), "{notes}");
    for split in ["val", "validation"] {
        let (_, files, _) = found(root.path(), split).unwrap();
        assert_eq!(files, ["val/cat/c.png 0", "val/dog/d.png 1"]);
    }
    let message = found(root.path(), "test").unwrap_err();
    assert!(message.contains("data.split = test cannot be used"), "{message}");
    // A folder of classes has no splits.
    let message = found(&root.path().join("train"), "val").unwrap_err();
    assert!(message.contains("has no splits"), "{message}");
    // `train` beside other classes is one.
    let root = tree(&["plane/a.png", "train/b.png"]);
    assert_eq!(found(root.path(), "").unwrap().0, ["plane", "train"]);
    // Pictures in splits without classes.
    let root = tree(&["test/a.png", "train/b.png"]);
    assert_eq!(found(root.path(), "").unwrap().1, ["train/b.png 0"]);
    assert!(found(tree(&["test/a.png", "val/b.png"]).path(), "").unwrap_err().contains("--split"));
}

#[test]
fn split_files_are_kept_apart() {
    let root = tree(&["train-0000.tar", "train-0001.tar", "val-0000.tar", "notes.md"]);
    let (classes, files, notes) = found(root.path(), "").unwrap();
    assert_eq!((classes.len(), files.len()), (0, 2));
    assert!(notes.contains("left out: `validation`"), "{notes}");
    assert!(notes.contains("taken for shards"), "{notes}");
    assert_eq!(found(root.path(), "val").unwrap().1, ["val-0000.tar/x.png 0"]);
    // ILSVRC's as downloaded, in one folder.
    let root = tree(&["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "devkit.tar.gz"]);
    assert_eq!(found(root.path(), "").unwrap().1, ["ILSVRC2012_img_train.tar/x.png 0"]);
    // Classes in archives are those of before.
    let root = tree(&["n01440764.tar", "n01443537.tar"]);
    assert_eq!(found(root.path(), "").unwrap().0, ["n01440764", "n01443537"]);

    let root = tree(&["cifar10_train.parquet", "cifar10_test.parquet"]);
    let (_, files, notes) = found(root.path(), "").unwrap();
    assert!(files.len() == 7 && files[0].starts_with("cifar10_train"), "{files:?}");
    assert!(notes.contains("left out: `test`"), "{notes}");
    // A pattern asks for what it stands for.
    let (_, files, notes) = found(&root.path().join("*.parquet"), "").unwrap();
    assert_eq!(files.len(), 14);
    assert!(notes.contains("splits `test`, `train`, all of which are taken"), "{notes}");
    assert_eq!(found(&root.path().join("*.parquet"), "test").unwrap().1.len(), 7);
    let root = tree(&["default/train/0000.parquet", "default/test/0000.parquet"]);
    assert_eq!(found(root.path(), "").unwrap().1.len(), 7);
    assert_eq!(found(root.path(), "test").unwrap().1.len(), 7);
    let root = tree(&["0-of-1.tar", "train-00000-of-00002.tar", "test-0-of-1.tar"]);
    let message = found(root.path(), "").unwrap_err();
    assert!(message.contains("lacks `train-00001-of-00002.tar`"), "{message}");
}

#[test]
fn archives_of_a_folder_are_like_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let png = png_bytes(&[9; 24], 6, 4, 1).unwrap();
    let classes = |names: &[&str]| {
        let files: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, &png[..])).collect();
        let path = dir.path().join("x.tar");
        fs::write(&path, tar_of(&files)).unwrap();
        found(&path, "").unwrap()
    };
    assert_eq!(classes(&["photos/cat/a.png", "photos/dog/b.png"]).0, ["cat", "dog"]);
    assert_eq!(classes(&["cat/a.png"]).0, ["cat"]);
    let (names, files, notes) = classes(&["d/train/cat/a.png", "d/val/cat/b.png"]);
    assert_eq!((names, files), (vec!["cat".to_owned()], vec!["d/train/cat/a.png 0".to_owned()]));
    assert!(notes.contains("left out: `validation`"), "{notes}");
    assert_eq!(classes(&["__MACOSX/cat/._a.png", "cat/a.png", "dog/b.png"]).0, ["cat", "dog"]);
}

#[test]
fn options_that_do_not_go_with_the_data_are_refused() {
    let root = tree(&["cat/a.png"]);
    let options = |key: &str| {
        let of = |name: &str| if name == key { "x".to_owned() } else { String::new() };
        ScanOptions {
            split: of("split"),
            label_key: of("label_key"),
            label_column: of("label_column"),
            image_column: of("image_column"),
        }
    };
    for key in ["split", "label_key", "label_column", "image_column"] {
        let message = scan_with(root.path(), &options(key)).unwrap_err().to_string();
        assert!(message.contains(&format!("data.{key} = x cannot be used")), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_refused() {
    let message = scan(Path::new("/dev/null")).unwrap_err().to_string();
    assert!(message.contains("neither a file nor a folder"), "{message}");
}
