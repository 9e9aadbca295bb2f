//! The Python version of CIFAR-100, whose files are pickles: images, and names of classes.
#![no_main]

use jit_fuzz::{names_of_cifar, read_images, with_files};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let names = names_of_cifar();
    with_files(&[("train", bytes), ("meta", &names)], |dir| {
        read_images(dir, jit_data::scan::scan(dir));
    });
    with_files(&[("train", &names), ("meta", bytes)], |dir| {
        read_images(dir, jit_data::scan::scan(dir));
    });
});
