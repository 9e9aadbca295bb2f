//! An array within a sound archive: its header and its numbers.
#![no_main]

use jit_fuzz::{archive, read_npz, with_file};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let entries = [("arr_0.npy", bytes), ("mu.npy", bytes), ("sigma.npy", bytes)];
    with_file(&archive(&entries), read_npz);
});
