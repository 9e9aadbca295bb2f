use std::fs;
use std::io::Write;

use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::*;
use crate::{DataConfig, Dataset};

/// An array's file as NumPy writes it.
fn npy(kind: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let dict = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = (dict.len() as u16).to_le_bytes();
    [&b"\x93NUMPY\x01\0"[..], &length, dict.as_bytes(), data].concat()
}

fn npz(arrays: &[(&str, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in arrays {
        let options = SimpleFileOptions::default().compression_method(method);
        zip.start_file(format!("{name}.npy"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A label, and a sample of each channel.
type Seen = (u32, [u8; 3]);

/// The labels and the first sample of each channel of the images, and the names of the classes.
fn opened(bytes: &[u8], split: &str) -> Result<(Vec<Seen>, Vec<String>), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npz");
    fs::write(&path, bytes).unwrap();
    let config = DataConfig {
        path: path.display().to_string(),
        split: split.to_owned(),
        ..DataConfig::default()
    };
    let dataset: Dataset = crate::open(&config, 2, 3, 0).map_err(|error| error.to_string())?;
    let image = |i: usize| {
        let mut planes = vec![0; 12];
        dataset.load(i, &mut planes).unwrap();
        (dataset.label(i), [planes[0], planes[4], planes[8]])
    };
    Ok(((0..dataset.len()).map(image).collect(), dataset.class_names().to_vec()))
}

const BOTH: [CompressionMethod; 2] = [CompressionMethod::Stored, CompressionMethod::Deflated];

/// Three images of 2 × 2 RGB with the samples 0, 1, …
fn images() -> Vec<u8> {
    npy("|u1", "(3, 2, 2, 3)", &(0..36).collect::<Vec<u8>>())
}

#[test]
fn images_and_classes_are_found_by_their_names() {
    let labels = npy("<i8", "(3,)", &[2u64, 0, 1].map(u64::to_le_bytes).concat());
    for method in BOTH {
        for (x, y) in [("images", "labels"), ("arr_0", "arr_1"), ("x", "y")] {
            let bytes = npz(&[(y, labels.clone()), (x, images())], method);
            let (files, names) = opened(&bytes, "").unwrap();
            assert_eq!(files, [(2, [0, 1, 2]), (0, [12, 13, 14]), (1, [24, 25, 26])]);
            assert_eq!(names, ["0", "1", "2"]);
        }
        assert_eq!(opened(&npz(&[("images", images())], method), "").unwrap().1.len(), 0);
    }
}

#[test]
fn splits_and_layouts_are_read() {
    // As Keras and MedMNIST have them.
    let grey = npy("|u1", "(2, 2, 2)", &[7, 7, 7, 7, 8, 8, 8, 8]);
    let bytes = npz(
        &[
            ("x_test", images()),
            ("x_train", grey.clone()),
            ("y_train", npy("|u1", "(2, 1)", &[1, 0])),
            ("y_test", npy("<i4", "(3,)", &[0; 12])),
        ],
        CompressionMethod::Stored,
    );
    assert_eq!(opened(&bytes, "").unwrap().0, [(1, [7; 3]), (0, [8; 3])]);
    assert_eq!(opened(&bytes, "test").unwrap().0.len(), 3);
    let planes = npy("|u1", "(1, 3, 2, 2)", &[1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
    let bytes = npz(&[("val_images", grey), ("train_images", planes)], CompressionMethod::Stored);
    assert_eq!(opened(&bytes, "train").unwrap().0, [(0, [1, 2, 3])]);
}

#[test]
fn what_cannot_be_used_says_why() {
    let told = |arrays: &[(&str, Vec<u8>)], part: &str| {
        for method in BOTH {
            let message = opened(&npz(arrays, method), "").unwrap_err();
            assert!(message.contains("x.npz") && message.contains(part), "{message}");
        }
    };
    told(&[("mu", images())], "no array of images (`images`, `arr_0`, `x`) among `mu`");
    told(&[("x", npy("<f4", "(1,)", &[0; 4]))], "`x` is of `<f4`: expected images of 8 bits");
    told(&[("x", npy("|u1", "(9, 9)", &[0; 81]))], "`x` is [9, 9]: expected [N, H, W, 3]");
    told(
        &[("x", npy("|u1", "(9, 9, 9, 9)", &[0]))],
        "claims [9, 9, 9, 9] of `|u1` and has 1 bytes",
    );
    let most = u64::MAX;
    told(&[("x", npy("|u1", &format!("({most}, {most}, 3)"), &[0]))], "claims");
    told(&[("x", npy("|u1", "(0, 2, 2, 3)", &[]))], "holds no picture");
    told(&[("x", npy("|u1", "(3, 0, 2, 3)", &[]))], "which are none");
    told(&[("x", b"no array".to_vec())], "`x.npy` is no NumPy array");
    told(&[("x", images()), ("y", npy("|u1", "(2,)", &[0; 2]))], "expected a class for each of 3");
    told(&[("x", images()), ("y", npy("|i1", "(3,)", &[0, 255, 1]))], "gives image 1 no class");
    told(&[("x", images()), ("y", npy("<f8", "(3,)", &[0; 24]))], "`y` is of `<f8`");
    told(&[("x", images()), ("images", images())], "several arrays of images");
    let mut fortran = npy("|u1", "(3, 2, 2, 3)", &[0; 36]);
    let at = fortran.windows(5).position(|w| w == b"False").unwrap();
    fortran[at..at + 5].copy_from_slice(b"True ");
    told(&[("x", fortran)], "Fortran's order");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Damage is an error or other pictures, and never a panic or a huge allocation.
    #[test]
    fn no_damage_takes_the_program_down(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        stored in any::<bool>(),
    ) {
        let labels = npy("|u1", "(3,)", &[0, 1, 2]);
        let mut bytes = npz(&[("x", images()), ("y", labels)], BOTH[usize::from(stored)]);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = opened(&bytes, "");
    }
}
