use std::fs;
use std::io::{Cursor, Write};

use proptest::prelude::*;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;
use crate::Dataset;
use crate::grid::png_bytes;

fn picture(shade: u8) -> Vec<u8> {
    png_bytes(&[shade; 24], 6, 4, 1).unwrap()
}

fn zip_of(files: &[(&str, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        let options = SimpleFileOptions::default().compression_method(method);
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Name, label and shade.
type Seen = (String, u32, u8);

/// What every image is, and the names of the classes.
fn images(bytes: &[u8]) -> Result<(Vec<Seen>, Vec<String>), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.zip");
    fs::write(&path, bytes).unwrap();
    let dataset = Dataset::folder(&path, 4, 1).map_err(|error| error.to_string())?;
    let image = |i: usize| {
        let mut planes = vec![0; dataset.sample_len()];
        dataset.load(i, &mut planes).map_err(|error| error.to_string())?;
        Ok((dataset.name(i), dataset.label(i), planes[0]))
    };
    let images = (0..dataset.len()).map(image).collect::<Result<_, String>>()?;
    Ok((images, dataset.class_names().to_vec()))
}

/// As EDM's `dataset_tool.py` writes them.
fn edm(list: &str) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("00000/img00000000.png", picture(10)),
        ("00000/img00000001.png", picture(20)),
        ("00001/img00001000.png", picture(30)),
        ("dataset.json", list.into()),
    ]
}

const LABELS: &str = r#"{"labels": [["00000/img00000001.png", 0], ["00000/img00000000.png", 2],
                        ["00001/img00001000.png", 2]]}"#;

#[test]
fn edms_archives_have_the_classes_of_their_list() {
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let (files, names) = images(&zip_of(&edm(LABELS), method)).unwrap();
        let shades: Vec<(u32, u8)> =
            files.iter().map(|(_, label, shade)| (*label, *shade)).collect();
        assert_eq!(shades, [(2, 10), (0, 20), (2, 30)]);
        assert_eq!(files[2].0, "00001/img00001000.png");
        assert_eq!(names, ["0", "1", "2"]);
        // Without labels the folders are no classes.
        assert!(images(&zip_of(&edm(r#"{"labels": null}"#), method)).unwrap().1.is_empty());
    }
    // The same unpacked.
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in edm(LABELS) {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let dataset = Dataset::folder(dir.path(), 4, 1).unwrap();
    assert_eq!((0..3).map(|i| dataset.label(i)).collect::<Vec<_>>(), [2, 0, 2]);
    assert_eq!(dataset.describe()[1..], ["classes: 3, from `dataset.json`"]);
    // Another file of that name tells nothing.
    for other in ["{}", "no JSON"] {
        fs::write(dir.path().join("dataset.json"), other).unwrap();
        assert_eq!(Dataset::folder(dir.path(), 4, 1).unwrap().class_names(), ["00000", "00001"]);
        let (_, names) = images(&zip_of(&edm(other), CompressionMethod::Stored)).unwrap();
        assert_eq!(names, ["00000", "00001"]);
    }
}

#[test]
fn other_archives_have_a_class_a_folder() {
    let files = [
        ("photos/dog/b.png", picture(2)),
        ("photos/cat/a.png", picture(1)),
        ("__MACOSX/photos/cat/._a.png", vec![]),
        ("photos/readme.txt", vec![]),
    ];
    let (images, names) = images(&zip_of(&files, CompressionMethod::Deflated)).unwrap();
    assert_eq!(names, ["cat", "dog"]);
    assert_eq!(images[1], ("photos/dog/b.png".to_owned(), 1, 2));
}

#[test]
fn what_cannot_be_used_says_why() {
    let told = |list: &str, part: &str| {
        let message = images(&zip_of(&edm(list), CompressionMethod::Stored)).unwrap_err();
        assert!(message.contains("x.zip") && message.contains(part), "{message}");
    };
    told(r#"{"labels": 7}"#, "its `dataset.json`: invalid type: integer `7`");
    told(r#"{"labels": []}"#, "does not tell the class of `00000/img00000000.png`");
    told(r#"{"labels": [["a", [0.5, 0.5]]]}"#, "gives `a` the class [0.5,0.5]");
    told(r#"{"labels": [["a", -1]]}"#, "gives `a` the class -1");
    told(r#"{"labels": [["a", 1], ["a", 2]]}"#, "gives `a` two classes");
    let whole = zip_of(&edm(LABELS), CompressionMethod::Stored);
    assert!(images(&whole[..whole.len() / 2]).unwrap_err().contains("cut short"));
    assert!(images(b"no zip").unwrap_err().contains("no zip archive"));
    // A directory that claims a gigabyte for the first picture.
    let mut lies = whole.clone();
    let at = lies.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    lies[at + 20..at + 28].copy_from_slice(&[0, 0, 0, 0x40, 0, 0, 0, 0x40]);
    assert!(images(&lies).unwrap_err().contains("ends in the middle of `00000/img00000000.png`"));
    // One that claims more for it than it unpacks to.
    let mut lies = zip_of(&edm(LABELS), CompressionMethod::Deflated);
    let at = lies.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    lies[at + 24] ^= 1;
    assert!(images(&lies).unwrap_err().contains("its compressed bytes are damaged"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Damage is an error or other pictures, and never a panic or a huge allocation.
    #[test]
    fn no_damage_takes_the_program_down(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..10),
        stored in any::<bool>(), tail in any::<bool>(),
    ) {
        let method = if stored { CompressionMethod::Stored } else { CompressionMethod::Deflated };
        let mut bytes = zip_of(&edm(LABELS), method);
        for (at, value) in changes {
            // Half of the cases damage the directory.
            let from = if tail { bytes.len() * 2 / 3 } else { 0 };
            let at = from + at.index(bytes.len() - from);
            bytes[at] = value;
        }
        let _ = images(&bytes);
    }
}
