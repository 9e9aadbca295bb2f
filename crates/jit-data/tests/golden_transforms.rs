//! Decoding and transforms against what Pillow computed.

use std::path::Path;

use jit_data::decode::decode_file;
use jit_data::transform::{center_crop, squash};
use safetensors::SafeTensors;

#[test]
fn crops_and_squashes_equal_pillows() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let bytes = std::fs::read(dir.join("transforms.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let mut cases = golden.tensors();
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(cases.len(), 40);
    for (name, expected) in cases {
        let (file, how) = name.rsplit_once('@').unwrap();
        let image = decode_file(&dir.join("images").join(file)).unwrap();
        let ours = match how.strip_prefix("squash") {
            Some(size) => squash(image, size.parse().unwrap()),
            None => center_crop(image, how.parse().unwrap()),
        };
        assert_eq!(expected.shape(), [ours.height(), ours.width(), ours.channels()], "{name}");
        let pairs = || ours.data().iter().zip(expected.data());
        let largest = pairs().map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        let differing = pairs().filter(|(a, b)| a != b).count();
        println!("{name}: {differing} of {} differ, by at most {largest}", expected.data().len());
    }
}
