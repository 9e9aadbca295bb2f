use std::fs;

use proptest::prelude::*;

use super::*;
use crate::Dataset;
use crate::grid::png_bytes;

/// A grey picture of 6 × 4 pixels.
fn picture(shade: u8) -> Vec<u8> {
    png_bytes(&[shade; 24], 6, 4, 1).unwrap()
}

/// A tar archive of these files.
fn tar_of(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // Not by `set_path`, which refuses names that lead out of a folder.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Two classes as ILSVRC has them: an archive of archives.
fn train() -> Vec<u8> {
    let cats = tar_of(&[("n1_b.JPEG", picture(20)), ("n1_a.JPEG", picture(10))]);
    let dogs = tar_of(&[("n2_a.JPEG", picture(30)), (".hidden.png", vec![])]);
    tar_of(&[("n2.tar", dogs), ("n1.tar", cats)])
}

fn place(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

/// Name, label and shade of every image.
fn images(root: &Path) -> Vec<(String, u32, u8)> {
    let dataset = Dataset::folder(root, 4, 1).unwrap();
    let image = |i: usize| {
        let mut planes = vec![0; dataset.sample_len()];
        dataset.load(i, &mut planes).unwrap();
        (dataset.name(i), dataset.label(i), planes[0])
    };
    (0..dataset.len()).map(image).collect()
}

/// What is said of these files in a folder, or of the one named `root`.
fn refused(files: &[(&str, Vec<u8>)], root: &str) -> String {
    let dir = place(files);
    Dataset::folder(&dir.path().join(root), 4, 1).unwrap_err().to_string()
}

#[test]
fn an_archive_of_class_archives_is_read_in_place() {
    let expected = [
        ("n1.tar/n1_a.JPEG".to_owned(), 0, 10),
        ("n1.tar/n1_b.JPEG".to_owned(), 0, 20),
        ("n2.tar/n2_a.JPEG".to_owned(), 1, 30),
    ];
    let dir = place(&[("train.tar", train())]);
    assert_eq!(images(&dir.path().join("train.tar")), expected);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is unpacked");

    // Unpacked once: a folder of class archives.
    let cats = tar_of(&[("n1_a.JPEG", picture(10)), ("n1_b.JPEG", picture(20))]);
    let dir = place(&[("n2.tar", tar_of(&[("n2_a.JPEG", picture(30))])), ("n1.tar", cats)]);
    assert_eq!(images(dir.path()), expected);
    let dataset = Dataset::folder(dir.path(), 4, 1).unwrap();
    assert_eq!(dataset.class_names(), ["n1", "n2"]);
    assert_eq!(dataset.manifest().images[2].bytes, picture(30).len() as u64);
}

#[test]
fn shards_have_the_labels_of_their_cls_files() {
    let shard = |key: &str, shade: u8, label: &str| {
        tar_of(&[
            (&format!("{key}.cls"), label.into()),
            (&format!("{key}.json"), b"{}".to_vec()),
            (&format!("{key}.png"), picture(shade)),
        ])
    };
    let shards = [("0.tar", shard("000", 7, "2\n")), ("1.tar", shard("001", 8, "0"))];
    let dir = place(&shards);
    let expected = [("0.tar/000.png".to_owned(), 2, 7), ("1.tar/001.png".to_owned(), 0, 8)];
    assert_eq!(images(dir.path()), expected);
    let names = |dir: &Path| Dataset::folder(dir, 4, 1).unwrap().class_names().to_vec();
    assert_eq!(names(dir.path()), ["0", "1", "2"]);
    fs::write(dir.path().join("classnames.txt"), "cat\ndog\nowl\n").unwrap();
    assert_eq!(names(dir.path()), ["cat", "dog", "owl"]);

    fs::write(dir.path().join("classnames.txt"), "cat\ndog\n").unwrap();
    let error = Dataset::folder(dir.path(), 4, 1).unwrap_err().to_string();
    assert!(error.contains("has 2 lines, and there is a label 2"), "{error}");
    let message = refused(&[("0.tar", shard("0", 1, "seven"))], "");
    assert!(message.contains("`0.cls` holds no number of a class: \"seven\""), "{message}");
    let mixed = [shards[0].clone(), ("2.tar", tar_of(&[("a.png", picture(1))]))];
    assert!(refused(&mixed, "").contains("have `.cls` labels and others have none"));
}

/// Name, label and class names of the images in a folder with one archive.
fn labelled(files: &[(&str, Vec<u8>)], key: &str) -> Result<(Vec<String>, Vec<String>), String> {
    let dir = place(&[("a.tar", tar_of(files))]);
    let options = ScanOptions { label_key: key.to_owned(), ..ScanOptions::default() };
    let found = crate::scan::scan_with(dir.path(), &options).map_err(|e| e.to_string())?;
    let name = |file: &crate::place::FileEntry| {
        format!("{} {}", file.path.file_name().unwrap().display(), file.label)
    };
    assert!(found.strays.is_empty(), "{:?}", found.strays);
    Ok((found.files.iter().map(name).collect(), found.class_names))
}

#[test]
fn labels_go_with_the_pictures_that_share_most_of_their_names() {
    let cls = |label: &str| label.as_bytes().to_vec();
    let dotted = [
        ("img.v1.png", picture(1)),
        ("img.v1.cls", cls("1")),
        ("img.v2.png", picture(2)),
        ("img.v2.cls", cls("0")),
    ];
    let (files, _) = labelled(&dotted, "").unwrap();
    assert_eq!(files, ["img.v1.png 1", "img.v2.png 0"]);
    // Several pictures of one sample, and folders with the same names in them.
    let shared = [
        ("a/0.left.png", picture(1)),
        ("a/0.right.png", picture(2)),
        ("a/0.cls", cls("1")),
        ("b.c/0.png", picture(3)),
        ("b.c/0.cls", cls("0")),
        ("a/0.png.cls", cls("3")),
        ("a/0.png", picture(4)),
    ];
    let (files, _) = labelled(&shared, "").unwrap();
    assert_eq!(files, ["0.left.png 1", "0.png 3", "0.right.png 1", "0.png 0"]);
    let twice =
        [("0.png", picture(1)), ("0.cls", cls("1")), ("0.png", picture(2)), ("0.cls", cls("0"))];
    let message = labelled(&twice, "").unwrap_err();
    assert!(message.contains("two `0.cls`: each picture needs a key of its own"), "{message}");
}

#[test]
fn json_files_tell_classes_where_that_is_asked_for() {
    let json = |text: &str| text.as_bytes().to_vec();
    let captions = |a: &str, b: &str| {
        [
            ("0.jpg", picture(1)),
            ("0.json", json(a)),
            ("0.txt", b"a cat".to_vec()),
            ("1.jpg", picture(2)),
            ("1.json", json(b)),
            ("1.txt", b"a dog".to_vec()),
        ]
    };
    let words = captions(r#"{"label": "dog", "x": 1}"#, r#"{"label": "cat"}"#);
    let (files, names) = labelled(&words, "label").unwrap();
    assert_eq!(
        (files, names),
        (vec!["0.jpg 1".into(), "1.jpg 0".into()], vec!["cat".into(), "dog".into()])
    );
    let (files, names) = labelled(&captions(r#"{"y": 2}"#, r#"{"y": 0}"#), "y").unwrap();
    assert_eq!((files, names.len()), (vec!["0.jpg 2".into(), "1.jpg 0".into()], 3));
    // Not asked for, they are passed over.
    assert_eq!(labelled(&words, "").unwrap().1.len(), 0);
    let told = |files: &[(&str, Vec<u8>)], key: &str, part: &str| {
        let message = labelled(files, key).unwrap_err();
        assert!(message.contains(part), "{message}");
    };
    told(&words, "class", "`0.json` has no `class`; it has `label`, `x`");
    told(&captions(r#"{"y": 1.5}"#, "{}"), "y", "says `y`: 1.5, which is no class");
    told(&captions(r#"{"y": -1}"#, "{}"), "y", "says `y`: -1");
    told(&captions("{", "{}"), "y", "`0.json` is no JSON");
    told(&[("0.png", picture(1))], "y", "has no JSON files beside its pictures");
}

#[test]
fn numbered_archives_of_captions_are_shards_and_no_classes() {
    let shard = || tar_of(&[("0.png", picture(1)), ("0.txt", b"a cat".to_vec())]);
    let dir = place(&[
        ("00000.tar", shard()),
        ("00002.tar", shard()),
        ("00000.parquet", vec![1]),
        ("00000_stats.json", vec![1]),
    ]);
    let dataset = Dataset::folder(dir.path(), 4, 1).unwrap();
    assert_eq!((dataset.len(), dataset.num_classes()), (2, 0));
    assert!(dataset.describe()[2].contains("taken for shards and not for classes"));
    assert!(dataset.describe()[3].contains("2 files are no pictures"));
    // With pictures alone and gaps they are classes, as ILSVRC's are.
    let alone = || tar_of(&[("0.png", picture(1))]);
    let dir = place(&[("n00.tar", alone()), ("n02.tar", alone())]);
    assert_eq!(Dataset::folder(dir.path(), 4, 1).unwrap().class_names(), ["n00", "n02"]);
    let dir = place(&[("train_a.tar", alone()), ("train_b.tar", alone())]);
    assert_eq!(Dataset::folder(dir.path(), 4, 1).unwrap().num_classes(), 0);
    let dir = place(&[("cat.tar", shard()), ("dog.tar", shard())]);
    assert_eq!(Dataset::folder(dir.path(), 4, 1).unwrap().class_names(), ["cat", "dog"]);
}

#[test]
fn blank_lines_are_no_names_of_classes() {
    let shard = tar_of(&[("0.png", picture(1)), ("0.cls", b"1".to_vec())]);
    let named = |names: &str| {
        let dir = place(&[("0.tar", shard.clone()), ("classnames.txt", names.into())]);
        let dataset = Dataset::folder(dir.path(), 4, 1).map_err(|e| e.to_string())?;
        Ok::<_, String>(dataset.class_names().to_vec())
    };
    assert_eq!(named("\u{FEFF}cat\r\ndog\r\n\r\n\n").unwrap(), ["cat", "dog"]);
    assert!(named("cat\n\ndog\n").unwrap_err().contains("line 2 is blank"));
}

#[test]
fn links_within_an_archive_are_what_they_link_to_and_sparse_files_are_told() {
    let mut tar = tar::Builder::new(Vec::new());
    let mut entry = |kind: tar::EntryType, name: &str, bytes: &[u8], size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_path(name).unwrap();
        if kind.is_hard_link() {
            header.set_link_name(std::str::from_utf8(bytes).unwrap()).unwrap();
        }
        header.set_cksum();
        tar.append(&header, if kind.is_hard_link() { &[] } else { bytes }).unwrap();
    };
    let png = picture(5);
    entry(tar::EntryType::Regular, "cat/a.png", &png, png.len() as u64);
    entry(tar::EntryType::Link, "dog/b.png", b"cat/a.png", 0);
    entry(tar::EntryType::Link, "dog/c.png", b"cat/z.png", 0);
    // The records that newer versions of tar put in front of a sparse file.
    let record = b"22 GNU.sparse.major=1\n";
    entry(tar::EntryType::XHeader, "x", record, record.len() as u64);
    entry(tar::EntryType::Regular, "GNUSparseFile.7/d.png", b"1\n0\n", 4);
    let dir = place(&[("x.tar", tar.into_inner().unwrap())]);
    let found = file(&dir.path().join("x.tar")).unwrap();
    let names: Vec<_> = found.files.iter().map(|f| f.path.to_str().unwrap()).collect();
    assert_eq!((names, found.class_names.len()), (vec!["cat/a.png", "dog/b.png"], 2));
    assert_eq!(found.files[1].raster(dir.path()).unwrap().data()[0], 5);
    let strays: Vec<String> = found.strays.iter().map(ToString::to_string).collect();
    assert!(strays[0].contains("`GNUSparseFile.7/d.png`: a sparse file"), "{strays:?}");
    assert!(strays[1].contains("`dog/c.png`: a link to `cat/z.png`, which is not in it"));
}

#[test]
fn an_archive_of_folders_has_classes_and_one_of_pictures_none() {
    let folders = tar_of(&[("./dog/b.png", picture(2)), ("./cat/a.png", picture(1))]);
    let alone = tar_of(&[("b.png", picture(2)), ("../../a.png", picture(1))]);
    let dir = place(&[("folders.tar", folders), ("alone.tar", alone)]);
    let folders = images(&dir.path().join("folders.tar"));
    assert_eq!(folders, [("cat/a.png".to_owned(), 0, 1), ("dog/b.png".to_owned(), 1, 2)]);
    // A name that would lead out of a folder is a name, which no file has to have.
    let alone = file(&dir.path().join("alone.tar")).unwrap_err().to_string();
    assert!(alone.contains("it mixes pictures and folders"), "{alone}");
    let message = refused(&[("a.tar", tar_of(&[("notes.txt", vec![1])]))], "a.tar");
    assert!(message.contains("holds no picture"), "{message}");
}

#[test]
fn what_is_no_picture_is_told_by_name() {
    let bytes = tar_of(&[("a.png", picture(1)), ("b.png", b"no png".to_vec()), ("c.txt", vec![])]);
    let dir = place(&[("photos.tar", bytes)]);
    let mut dataset = Dataset::folder(&dir.path().join("photos.tar"), 4, 1).unwrap();
    let message = dataset.check(false, 1, &|_, _| {}).unwrap_err().to_string();
    assert!(message.contains("`b.png`: not a PNG") && !message.contains("c.txt"), "{message}");
    assert!(dataset.describe()[2].contains("1 file is no picture by its name"));
    let mut dataset = Dataset::folder(&dir.path().join("photos.tar"), 4, 1).unwrap();
    assert_eq!(dataset.check(true, 2, &|_, _| {}).unwrap().len(), 1);
    assert_eq!(dataset.len(), 1);
}

#[test]
fn damaged_archives_are_refused_by_name() {
    let mut cut = tar_of(&[("a.png", picture(1)), ("b.png", picture(2))]);
    cut.truncate(512 + 512 + 512 + 20);
    let message = refused(&[("cut.tar", cut)], "cut.tar");
    assert!(
        message.contains("cut.tar") && message.contains("in the middle of `b.png`"),
        "{message}"
    );

    // A header that claims an exabyte.
    let mut lies = tar_of(&[("a.png", picture(1))]);
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(&lies[..512]);
    header.set_size(1 << 60);
    header.set_cksum();
    lies[..512].copy_from_slice(header.as_bytes());
    assert!(refused(&[("lies.tar", lies)], "lies.tar").contains("in the middle of `a.png`"));

    for length in [100, 2000] {
        let message = refused(&[("x.tar", vec![7; length])], "x.tar");
        assert!(message.contains("x.tar` cannot be used: it is no tar archive"), "{message}");
    }
    let mut bad = tar_of(&[("a.png", picture(1)), ("b.png", picture(2))]);
    bad[1024] ^= 1;
    let message = refused(&[("bad.tar", bad)], "bad.tar");
    assert!(message.contains("the header after `a.png` is damaged"), "{message}");
    assert!(refused(&[("x.tar", vec![0; 1024])], "x.tar").contains("holds no picture"));
    let message = refused(&[("x.tar", train()), ("a.png", picture(1))], "");
    assert!(message.contains("beside them, `a.png`"), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Damage is an error or other pictures, and never a panic or a huge allocation.
    #[test]
    fn no_damage_takes_the_program_down(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        keep in any::<prop::sample::Index>(),
    ) {
        let mut bytes = train();
        for (at, value) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        bytes.truncate(keep.index(bytes.len()) + 1);
        let dir = place(&[("train.tar", bytes)]);
        if let Ok(mut dataset) = Dataset::folder(&dir.path().join("train.tar"), 4, 3) {
            let _ = dataset.check(true, 1, &|_, _| {});
        }
    }
}
