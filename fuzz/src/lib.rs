//! What the fuzz targets share: bytes as a file, and archives around bytes. A valid checksum lets the
//! fuzzer reach what lies behind it.

use std::io::{Cursor, Write};
use std::path::Path;

use jit_data::DataError;
use jit_data::folder::Folder;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Calls `read` with the path of a file of these bytes.
pub fn with_file(bytes: &[u8], read: impl FnOnce(&Path)) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("file");
    std::fs::write(&path, bytes).expect("a temporary file");
    read(&path);
}

/// Calls `read` with the path of a folder of these files.
pub fn with_files(files: &[(&str, &[u8])], read: impl FnOnce(&Path)) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (name, bytes) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, bytes).expect("a temporary file");
    }
    read(dir.path());
}

/// CIFAR-100's file with the names of its classes, as Python pickles it.
pub fn names_of_cifar() -> Vec<u8> {
    let text = |text: &str| [&[b'U', text.len() as u8], text.as_bytes()].concat();
    let names: Vec<u8> = (0..100).flat_map(|i| text(&i.to_string())).collect();
    [&b"\x80\x02}("[..], &text("fine_label_names"), b"](", &names, b"eu."].concat()
}

/// A zip archive of these entries.
pub fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default()).expect("an entry");
        zip.write_all(bytes).expect("an entry's bytes");
    }
    zip.finish().expect("a directory").into_inner()
}

/// A pack of these bytes with checksums that hold: CRC-32C of the table at byte 20 of the header, of
/// the header's first 88 bytes behind them.
pub fn summed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() < 92 {
        return bytes;
    }
    let start = u64::from_le_bytes(bytes[32..40].try_into().expect("eight bytes"));
    if let Some(table) = usize::try_from(start).ok().and_then(|start| bytes.get(start..)) {
        let sum = crc32c::crc32c(table).to_le_bytes();
        bytes[20..24].copy_from_slice(&sum);
    }
    let sum = crc32c::crc32c(&bytes[..88]).to_le_bytes();
    bytes[88..92].copy_from_slice(&sum);
    bytes
}

/// Decodes a picture that begins with `magic`, whatever the fuzzer put there. A panic is found although
/// [`jit_data::decode`] would catch it: libFuzzer's hook ends the process before.
pub fn read_picture(magic: &[u8], bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    // Of a WebP file the length of the whole stands in the middle.
    for (at, &byte) in magic.iter().enumerate().filter(|(_, byte)| **byte != 0) {
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
    }
    if let Ok(picture) = jit_data::decode::decode_bytes(&bytes) {
        assert_eq!(picture.data().len(), picture.width() * picture.height() * 3);
    }
}

/// Decodes the first images of a data set.
pub fn read_images(root: &Path, found: Result<Folder, DataError>) {
    const FIRST: usize = 64;
    let Ok(folder) = found else { return };
    for file in folder.files.iter().take(FIRST) {
        assert!((file.label as usize) < folder.class_names.len().max(1));
        let _ = file.raster(root);
    }
}

/// Reads every array of an `.npz`, and what it says as statistics and as images.
pub fn read_npz(path: &Path) {
    if let Ok(npz) = jit_model::weights::Npz::open(path) {
        for name in npz.names() {
            if let Ok(array) = npz.array(&name) {
                assert_eq!(array.shape.iter().product::<usize>(), array.data.len());
            }
        }
    }
    let _ = jit_eval::Stats::read(path);
    let images = path.with_extension("npz");
    if std::fs::rename(path, &images).is_ok()
        && let Ok(source) = jit_eval::Source::open(&images)
    {
        let _ = source.for_each(None, &mut |_| Ok(()));
    }
}

/// Reads every tensor of a file of weights, and the state of a model in it.
pub fn read_weights(path: &Path) {
    if let Ok(file) = jit_model::weights::File::open(path) {
        for name in file.names() {
            let _ = file.info(&name);
            if let Ok(tensor) = file.tensor(&name) {
                assert_eq!(tensor.shape.iter().product::<usize>(), tensor.data.len());
            }
        }
    }
    let _ = jit_model::weights::load_state(path, None);
}
