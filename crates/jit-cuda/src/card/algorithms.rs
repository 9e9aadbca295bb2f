//! Which algorithm was fastest for a product, remembered from run to run: it saves the timing, and the same algorithm gives
//! the same bits.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cudarc::cublaslt::sys::cublasLtMatmulAlgo_t;
use sha2::{Digest, Sha256};

use super::compile::cache;

/// The most bytes of a cache file.
const LARGEST: u64 = 4 << 20;

/// cuBLASLt's description of how it multiplies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Algorithm([u64; 8]);

impl Algorithm {
    pub fn of(algorithm: &cublasLtMatmulAlgo_t) -> Self {
        Self(algorithm.data)
    }

    pub fn bits(&self) -> cublasLtMatmulAlgo_t {
        cublasLtMatmulAlgo_t { data: self.0 }
    }
}

/// Those that were timed, by the product's name; a line each in a file.
pub struct Algorithms {
    file: Option<PathBuf>,
    known: BTreeMap<String, Algorithm>,
}

impl Algorithms {
    /// Of a card and a version of the library.
    pub fn load(card: &str, version: usize) -> Self {
        let hash = Sha256::digest(format!("{card}\0{version}"));
        let name: String = hash.iter().take(8).map(|b| format!("{b:02x}")).collect();
        let file = cache().map(|folder| folder.join(format!("products-{name}.txt")));
        // What cannot be read is timed again.
        let text = file.as_ref().and_then(|file| {
            let small = std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.len() <= LARGEST);
            small.then(|| std::fs::read_to_string(file).ok()).flatten()
        });
        let known = parse(&text.unwrap_or_default());
        Self { file, known }
    }

    pub fn get(&self, product: &str) -> Option<Algorithm> {
        self.known.get(product).copied()
    }

    /// Remembers one, in the file too: a cache that cannot be written costs the next start some time, and nothing else.
    pub fn insert(&mut self, product: String, algorithm: Algorithm) {
        self.known.insert(product, algorithm);
        if let Some(file) = &self.file {
            let _ = std::fs::create_dir_all(file.parent().unwrap_or(file));
            let _ = jit_core::files::write_bytes_atomic(file, self.text().as_bytes());
        }
    }

    fn text(&self) -> String {
        let lines = self.known.iter().map(|(name, algorithm)| {
            let words = algorithm.0.map(|word| format!("{word:016x}")).join(" ");
            format!("{name} {words}\n")
        });
        lines.collect()
    }
}

/// Lines of a name and eight words; others are passed over.
fn parse(text: &str) -> BTreeMap<String, Algorithm> {
    let line = |line: &str| {
        let mut parts = line.split(' ');
        let name = parts.next()?.to_string();
        let words: Vec<u64> = parts.map_while(|w| u64::from_str_radix(w, 16).ok()).collect();
        Some((name, Algorithm(words.try_into().ok()?)))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_timed_is_read_again_and_damage_is_passed_over() {
        let algorithm = Algorithm([1, 2, 3, 4, 5, 6, 7, u64::MAX]);
        let known = BTreeMap::from([("forward:1x2x3:1,2,3:_f32".to_string(), algorithm)]);
        let text = Algorithms { file: None, known: known.clone() }.text();
        assert_eq!(parse(&text), known);
        assert_eq!(parse(&format!("nonsense\n{text}forward:x 12 zz\n\n")), known);
    }
}
