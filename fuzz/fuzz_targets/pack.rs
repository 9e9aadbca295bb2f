//! A pack whose header and table have the checksums of what they say.
#![no_main]

use jit_data::pack::{Pack, check};
use jit_fuzz::{read_images, summed, with_file};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    with_file(&summed(bytes), |path| {
        read_images(path, Pack::scan(path));
        let _ = check(path, 1, &|_, _| {});
    });
});
