//! A whole file of weights, `.pth` or safetensors.
#![no_main]

use jit_fuzz::{read_weights, with_file};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| with_file(bytes, read_weights));
