//! A BMP file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| jit_fuzz::read_picture(&*b"BM", bytes));
