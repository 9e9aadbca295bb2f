//! No mutation of a picture makes a decoder panic: not even inside, where it would be caught, since
//! a panic prints on standard error.
#![allow(clippy::unwrap_used, clippy::panic)] // `allow-unwrap-in-tests` does not reach helpers

use std::panic;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use jit_core::rng::{Purpose, Stream};
use jit_data::decode::decode_bytes;

/// What panicked.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A picture and its name.
type Picture = (String, Vec<u8>);

/// Pictures whose names end so.
fn pictures(ending: &str) -> Vec<Picture> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decode");
    let mut found: Vec<Picture> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .map(|path| (path.display().to_string(), std::fs::read(path).unwrap()))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no picture ends with {ending}");
    found
}

/// Random choices, which a number repeats.
struct Choices {
    stream: Stream,
    drawn: u32,
}

impl Choices {
    fn new(number: u64) -> Self {
        Self { stream: Stream::new(0, Purpose::Subset, number, 0), drawn: 0 }
    }

    /// A number below `end`, or 0.
    fn below(&mut self, end: usize) -> usize {
        self.drawn += 4;
        self.stream.below(self.drawn, end.max(1) as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        const EDGES: [u8; 8] = [0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF, 0xD9];
        match self.below(2) {
            0 => EDGES[self.below(EDGES.len())],
            _ => self.below(256) as u8,
        }
    }

    /// A few changes to `bytes`, which keep the first two: those tell the format.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = 2 + self.below(bytes.len().saturating_sub(2));
            match self.below(8) {
                0 => bytes.truncate(at),
                1 => {
                    let new: Vec<u8> = (0..self.below(9)).map(|_| self.byte()).collect();
                    bytes.splice(at.min(bytes.len())..at.min(bytes.len()), new);
                }
                2 => {
                    let end = bytes.len().min(at + self.below(40));
                    bytes.drain(at.min(end)..end);
                }
                // A part of the file once more, somewhere.
                3 => {
                    let end = bytes.len().min(at + self.below(80));
                    let part = bytes[at.min(end)..end].to_vec();
                    let place = 2 + self.below(bytes.len() - 2);
                    bytes.splice(place..place, part);
                }
                _ => {
                    // Headers are where it hurts.
                    let at = if self.below(2) == 0 { 2 + self.below(60) } else { at };
                    for _ in 0..=self.below(4) {
                        let byte = self.byte();
                        if let Some(place) = bytes.get_mut(at) {
                            *place = byte;
                        }
                    }
                }
            }
            if bytes.len() < 4 {
                return;
            }
        }
    }
}

/// Tries mutations of `pictures` until `enough` says so, and returns how many.
fn try_mutations(pictures: &[Picture], enough: impl Fn(u64) -> bool) -> u64 {
    panic::set_hook(Box::new(|info| PANICS.lock().unwrap().push(info.to_string())));
    let mut tried = 0;
    while !enough(tried) {
        let (name, picture) = &pictures[tried as usize % pictures.len()];
        let mut bytes = picture.clone();
        Choices::new(tried).mutate(&mut bytes);
        let decoded = decode_bytes(&bytes);
        let panics = std::mem::take(&mut *PANICS.lock().unwrap());
        if !panics.is_empty() {
            let _default = panic::take_hook();
            let kept = std::env::temp_dir().join("jit-decode-panicked");
            std::fs::write(&kept, &bytes).unwrap();
            panic!("mutation {tried} of {name} ({}): {panics:?}", kept.display());
        }
        if let Ok(image) = decoded {
            assert_eq!(image.data().len(), image.width() * image.height() * 3);
        }
        tried += 1;
    }
    let _default = panic::take_hook();
    tried
}

#[test]
fn some_mutations_of_every_picture() {
    let all: Vec<Picture> =
        [".jpg", ".png", ".gif", ".bmp", ".webp"].into_iter().flat_map(pictures).collect();
    try_mutations(&all, |tried| tried >= 3000);
}

/// `JIT_MUTATE=.jpg JIT_MUTATE_SECONDS=600 cargo test --release -p jit-data --test decode_mutations --
/// --ignored --nocapture`
#[test]
#[ignore = "runs as long as it is told"]
fn many_mutations_of_one_format() {
    let ending = std::env::var("JIT_MUTATE").unwrap_or_else(|_| ".jpg".into());
    let seconds = std::env::var("JIT_MUTATE_SECONDS").ok().and_then(|s| s.parse().ok());
    let (start, limit) = (Instant::now(), Duration::from_secs(seconds.unwrap_or(60)));
    let tried = try_mutations(&pictures(&ending), |_| start.elapsed() > limit);
    println!("{tried} mutations of {ending} in {limit:?}");
}
