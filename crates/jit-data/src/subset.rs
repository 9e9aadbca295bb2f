//! Random subsets, and the record of what a run was trained on.

use jit_core::rng::{Purpose, Stream, permutation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The share `share` (0 to 1] of `0..len`: the head of a permutation drawn by `seed`, sorted. Its
/// length is `share·len` rounded down, as the target paper's 12 811 of 1 281 167 are, at least 1.
pub fn choose(len: usize, share: f64, seed: u64) -> Vec<u32> {
    // The margin keeps 0.29·100 = 28.999… at 29.
    let count = ((len as f64 * share + 1e-6) as usize).clamp(len.min(1), len);
    let mut chosen = permutation(Stream::new(seed, Purpose::Subset, 0, 0), len);
    chosen.truncate(count);
    chosen.sort_unstable();
    chosen
}

/// The images of a run, to be saved with it: enough to find them again and to notice a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The data set: `digits` or the folder.
    pub source: String,
    /// Class names in the order of their numbers; empty without classes.
    pub class_names: Vec<String>,
    /// The images in the order of their ids.
    pub images: Vec<ManifestEntry>,
}

/// One image of a [`Manifest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// Path relative to the folder with `/` between its parts, its name in an archive, or `digits/TILE`.
    pub path: String,
    /// Its class.
    pub label: u32,
    /// Length of the file in bytes; in Parquet files, of the column chunk that holds it.
    pub bytes: u64,
}

impl Manifest {
    /// SHA-256 over every image's path, label and length and over the class names, in hex: equal
    /// for the same data set wherever its folder lies. A run is continued only on equal data.
    pub fn fingerprint(&self) -> String {
        jit_core::hex(&self.digest())
    }

    /// What [`Manifest::fingerprint`] spells.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        // Lengths go in front of strings, so that no two lists share their bytes.
        let mut text = |s: &str| {
            hash.update((s.len() as u64).to_le_bytes());
            hash.update(s.as_bytes());
        };
        self.class_names.iter().for_each(|name| text(name));
        for image in &self.images {
            text(&image.path);
            text(&format!("{} {}", image.label, image.bytes));
        }
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subset_is_drawn_by_the_seed_without_repeats() {
        let a = choose(1000, 0.1, 7);
        assert_eq!(a.len(), 100);
        assert!(a.windows(2).all(|w| w[0] < w[1]) && a[99] < 1000);
        assert_eq!(a, choose(1000, 0.1, 7));
        assert_ne!(a, choose(1000, 0.1, 8));
        assert_ne!(a, (0..100).collect::<Vec<u32>>());
    }

    #[test]
    fn sizes_round_down_but_never_to_nothing() {
        let len = |n, share| choose(n, share, 0).len();
        assert_eq!(len(1_281_167, 0.01), 12_811);
        assert_eq!(len(100, 0.29), 29);
        assert_eq!(len(5, 0.01), 1);
        assert_eq!(len(5, 1.0), 5);
    }

    #[test]
    fn the_fingerprint_notices_every_change_but_the_place() {
        let entry = |path: &str, label, bytes| ManifestEntry { path: path.into(), label, bytes };
        let base = Manifest {
            source: "here".into(),
            class_names: vec!["a".into(), "b".into()],
            images: vec![entry("a/1", 0, 5), entry("b/1", 1, 6)],
        };
        let print = base.fingerprint();
        let changed = |change: fn(&mut Manifest)| {
            let mut other = base.clone();
            change(&mut other);
            other.fingerprint()
        };
        assert_eq!(print.len(), 64);
        assert_eq!(changed(|m| m.source = "there".into()), print);
        assert_ne!(changed(|m| m.images[0].label = 1), print);
        assert_ne!(changed(|m| m.images[0].bytes = 1), print);
        assert_ne!(changed(|m| m.images[0].path.push('x')), print);
        assert_ne!(changed(|m| m.class_names = vec!["ab".into()]), print);
        assert_ne!(changed(|m| drop(m.images.pop())), print);
    }
}
