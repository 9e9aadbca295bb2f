//! A JPEG file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| jit_fuzz::read_picture(&[0xFF, 0xD8, 0xFF], bytes));
