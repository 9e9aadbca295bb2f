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
