//! The pickle within a sound checkpoint that has one storage.
#![no_main]

use jit_fuzz::{archive, read_weights, with_file};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let entries = [("a/data.pkl", bytes), ("a/byteorder", &b"little"[..]), ("a/data/0", &[1; 64])];
    with_file(&archive(&entries), read_weights);
});
