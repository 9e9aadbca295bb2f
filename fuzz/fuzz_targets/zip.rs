//! A zip archive of pictures.
#![no_main]

use jit_data::scan::ScanOptions;
use jit_fuzz::{read_images, with_file};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    with_file(bytes, |path| {
        read_images(path, jit_data::zipped::file(path, &ScanOptions::default()));
    });
});
