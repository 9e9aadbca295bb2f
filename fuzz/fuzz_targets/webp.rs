//! A WebP file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| jit_fuzz::read_picture(&*b"RIFF\0\0\0\0WEBP", bytes));
