//! A file of images as MNIST has them, and one of classes beside it.
#![no_main]

use jit_fuzz::{read_images, with_files};

libfuzzer_sys::fuzz_target!(|files: (&[u8], &[u8])| {
    let files = [("x-images-idx3-ubyte", files.0), ("x-labels-idx1-ubyte.gz", files.1)];
    with_files(&files, |dir| read_images(dir, jit_data::scan::scan(dir)));
});
