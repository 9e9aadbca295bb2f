//! Decoding and transforms against what Pillow 13 computed: equal in every sample.

use std::path::{Path, PathBuf};

use jit_data::decode::decode_file;
use jit_data::transform::{center_crop, squash};
use safetensors::SafeTensors;

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

#[test]
fn crops_and_squashes_equal_pillows() {
    let dir = tests().join("golden");
    let bytes = std::fs::read(dir.join("transforms.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(golden.len(), 40);
    for (name, expected) in golden.tensors() {
        let (file, how) = name.rsplit_once('@').unwrap();
        let image = decode_file(&dir.join("images").join(file)).unwrap();
        let ours = match how.strip_prefix("squash") {
            Some(size) => squash(image, size.parse().unwrap()),
            None => center_crop(image, how.parse().unwrap()),
        };
        assert_eq!(expected.shape(), [ours.height(), ours.width(), ours.channels()], "{name}");
        assert_same(&name, ours.data(), expected.data());
    }
}

/// Every layout of samples that the formats know, 23×17, beside `convert('RGB')` of it.
#[test]
fn every_kind_of_file_converts_as_pillow_does() {
    let mut kinds = 0;
    for entry in std::fs::read_dir(tests().join("decode")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "rgb" || e == "md") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let expected = std::fs::read(path.with_file_name(format!("{name}.rgb"))).unwrap();
        let ours = decode_file(&path).unwrap();
        assert_eq!((ours.width(), ours.height()), (23, 17), "{name}");
        assert_same(name, ours.data(), &expected);
        kinds += 1;
    }
    assert_eq!(kinds, 68);
}

fn assert_same(name: &str, ours: &[u8], expected: &[u8]) {
    assert_eq!(ours.len(), expected.len(), "{name}");
    let pairs = || ours.iter().zip(expected);
    let largest = pairs().map(|(a, b)| a.abs_diff(*b)).max();
    let differing = pairs().filter(|(a, b)| a != b).count();
    assert_eq!(differing, 0, "{name}: of {} samples, by at most {largest:?}", expected.len());
}
