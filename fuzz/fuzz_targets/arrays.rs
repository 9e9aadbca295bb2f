//! NumPy arrays of images and of classes, in an archive that is sound.
#![no_main]

use jit_data::scan::ScanOptions;
use jit_fuzz::{archive, read_images, with_file};

libfuzzer_sys::fuzz_target!(|arrays: (&[u8], &[u8])| {
    let entries = [("images.npy", arrays.0), ("labels.npy", arrays.1)];
    with_file(&archive(&entries), |path| {
        read_images(path, jit_data::npz::file(path, &ScanOptions::default()));
    });
});
