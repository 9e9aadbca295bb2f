//! Damaged and hostile bytes end in an error or a picture, never in a panic or a huge allocation.
#![allow(clippy::unwrap_used)] // `allow-unwrap-in-tests` does not reach helpers outside a test

use std::path::Path;
use std::sync::LazyLock;

use jit_data::decode::{DecodeError, decode_bytes};
use proptest::prelude::*;

static PICTURES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decode");
    let mut paths: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e != "rgb" && e != "md"));
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode_bytes(&bytes).is_err());
    }

    #[test]
    fn truncated_files(file in any::<prop::sample::Index>(), end in any::<prop::sample::Index>()) {
        let bytes = file.get(&PICTURES[..]);
        // PNG, GIF and BMP may end early and still hold every pixel; what counts is to return.
        let _ = decode_bytes(&bytes[..end.index(bytes.len())]);
    }

    #[test]
    fn files_with_wrong_bytes(
        file in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = file.get(&PICTURES[..]).clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(image) = decode_bytes(&bytes) {
            prop_assert_eq!(image.data().len(), image.width() * image.height() * 3);
        }
    }
}

#[test]
fn a_header_that_announces_a_huge_picture_is_refused() {
    // A PNG header for 2³⁰×2³⁰ pixels, a BMP and a GIF whose sides are as large as they go.
    let mut png = PICTURES.iter().find(|b| b.starts_with(b"\x89PNG")).unwrap().clone();
    png[16..24].copy_from_slice(&[0x40, 0, 0, 0, 0x40, 0, 0, 0]);
    let mut bmp = PICTURES.iter().find(|b| b.starts_with(b"BM")).unwrap().clone();
    bmp[18..26].copy_from_slice(&[0xFF, 0xFF, 0xFF, 0x3F, 0xFF, 0xFF, 0xFF, 0x3F]);
    let mut gif = PICTURES.iter().find(|b| b.starts_with(b"GIF")).unwrap().clone();
    gif[6..10].copy_from_slice(&[0xFF; 4]);
    for bytes in [png, bmp, gif] {
        assert!(decode_bytes(&bytes).is_err());
    }
    let mut jpeg = PICTURES.iter().find(|b| b.starts_with(&[0xFF, 0xD8])).unwrap().clone();
    let frame = jpeg.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xFF, 0xDC, 0xFF, 0xDC]);
    assert!(decode_bytes(&jpeg).unwrap_err().to_string().contains("limit"));
}

#[test]
fn other_formats_are_named_as_such() {
    for bytes in [&b""[..], b"II*\0\x08\0\0\0", b"<svg/>", b"\0\0\x01\0"] {
        assert!(matches!(decode_bytes(bytes), Err(DecodeError::Format)));
    }
}

/// Pillow reads the last three. They are damaged, and so refused, by a message that tells why.
#[test]
fn damaged_pngs_say_what_is_wrong() {
    let png = PICTURES.iter().find(|b| b.starts_with(b"\x89PNG")).unwrap();
    let refusal = |bytes: &[u8]| decode_bytes(bytes).unwrap_err().to_string();
    let data = png.windows(4).position(|w| w == b"IDAT").unwrap();
    let end = png.windows(4).position(|w| w == b"IEND").unwrap();

    assert_eq!(refusal(&png[..data + 10]), "the file is cut off");
    assert_eq!(refusal(&png[..end - 4]), "the file is cut off");
    let mut wrong = png.clone();
    wrong[end - 5] ^= 1;
    assert!(refusal(&wrong).contains("CRC"));
    let mut unknown = png.clone();
    let chunk = [&[0, 0, 0, 0][..], b"ABCD", &[0xDB, 0x17, 0x20, 0xA5]].concat();
    unknown.splice(data - 4..data - 4, chunk);
    let said = refusal(&unknown);
    assert!(said.contains("ABCD"), "{said}");
}
