//! A list of the classes of pictures, and one of names of classes.
#![no_main]

use jit_data::{DataConfig, config};
use jit_fuzz::with_files;

libfuzzer_sys::fuzz_target!(|lists: (&[u8], &[u8])| {
    let files = [("data/a.png", &b""[..]), ("data/b c.png", b""), ("l", lists.0), ("n", lists.1)];
    with_files(&files, |dir| {
        let path = |name: &str| dir.join(name).display().to_string();
        let config = DataConfig {
            path: path("data"),
            labels: path("l"),
            class_names: path("n"),
            ..DataConfig::default()
        };
        if let Ok(folder) = config::list(&config) {
            assert!(folder.files.iter().all(|f| (f.label as usize) < folder.class_names.len()));
        }
    });
});
