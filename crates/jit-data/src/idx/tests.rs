use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;
use crate::{DataConfig, Dataset};

fn idx(sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let sizes: Vec<u8> = sizes.iter().flat_map(|size| size.to_be_bytes()).collect();
    [&[0, 0, 8, (sizes.len() / 4) as u8][..], &sizes, data].concat()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn place(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
    dir
}

/// Label and shade of each image.
fn images(path: &Path, split: &str) -> Result<Vec<(u32, u8)>, String> {
    let (path, split) = (path.display().to_string(), split.to_owned());
    let config = DataConfig { path, split, ..DataConfig::default() };
    let dataset: Dataset = crate::open(&config, 2, 1, 0).map_err(|error| error.to_string())?;
    let image = |i: usize| {
        let mut planes = vec![0; 4];
        dataset.load(i, &mut planes).unwrap();
        (dataset.label(i), planes[3])
    };
    Ok((0..dataset.len()).map(image).collect())
}

/// Three images of 2 × 2 and their classes, and one to test with.
fn mnist() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("t10k-images-idx3-ubyte", idx(&[1, 2, 2], &[9; 4])),
        ("t10k-labels-idx1-ubyte", idx(&[1], &[0])),
        ("train-images-idx3-ubyte", idx(&[3, 2, 2], &[1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3])),
        ("train-labels-idx1-ubyte", idx(&[3], &[2, 0, 1])),
    ]
}

#[test]
fn mnists_files_are_read_as_downloaded_and_unpacked() {
    let train = [(2, 1), (0, 2), (1, 3)];
    let plain = place(&mnist());
    let names: Vec<String> = mnist().iter().map(|(name, _)| format!("{name}.gz")).collect();
    let packed: Vec<(&str, Vec<u8>)> =
        names.iter().zip(mnist()).map(|(name, (_, bytes))| (&name[..], gz(&bytes))).collect();
    let packed = place(&packed);
    let both = place(&mnist());
    fs::write(both.path().join("train-images-idx3-ubyte.gz"), gz(&mnist()[2].1)).unwrap();
    for dir in [&plain, &packed, &both] {
        assert_eq!(images(dir.path(), "").unwrap(), train);
        assert_eq!(images(dir.path(), "test").unwrap(), [(0, 9)]);
    }
    assert_eq!(images(&plain.path().join("train-images-idx3-ubyte"), "").unwrap(), train);
    // As torchvision leaves them, a folder deeper.
    let root = tempfile::tempdir().unwrap();
    fs::rename(plain.path(), root.path().join("raw")).unwrap();
    assert_eq!(images(root.path(), "").unwrap(), train);
    let alone = place(&mnist()[2..3]);
    assert_eq!(images(alone.path(), "").unwrap(), [(0, 1), (0, 2), (0, 3)]);
}

#[test]
fn what_cannot_be_used_says_why() {
    let told = |at: usize, bytes: Vec<u8>, part: &str| {
        for packed in [false, true] {
            let mut files = mnist();
            files[at].1 = if packed { gz(&bytes) } else { bytes.clone() };
            let dir = place(&files);
            let message = images(dir.path(), "").unwrap_err();
            assert!(message.contains(files[at].0) && message.contains(part), "{message}");
        }
    };
    told(2, idx(&[3, 2, 2], &[0; 11]), "claims [3, 2, 2], and it has 27 bytes");
    told(2, idx(&[3, 2, 2], &[0; 13]), "and it has 29 bytes");
    told(2, idx(&[u32::MAX; 3], &[0; 13]), "its header claims");
    told(2, idx(&[3, 0, 2], &[]), "images of 0 × 2, which are none");
    told(2, idx(&[3], &[0; 3]), "no IDX file of bytes in 3 dimensions");
    told(2, b"<html>".to_vec(), "no IDX file");
    told(3, idx(&[2], &[0; 2]), "it has 2 classes for 3 images");
    let mut files = mnist();
    files[2].1 = gz(&files[2].1)[..20].to_vec();
    assert!(images(place(&files).path(), "").unwrap_err().contains("damaged or cut short"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Damage is an error or other pictures, and never a panic or a huge allocation.
    #[test]
    fn no_damage_takes_the_program_down(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        packed in any::<bool>(),
    ) {
        let mut files = mnist();
        let bytes = &mut files[2].1;
        if packed {
            *bytes = gz(bytes);
        }
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = images(place(&files).path(), "");
    }
}
