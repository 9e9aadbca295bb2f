//! A whole `.npz` archive.
#![no_main]

use jit_fuzz::{read_npz, with_file};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| with_file(bytes, read_npz));
