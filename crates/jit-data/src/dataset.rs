//! A data set: numbered images of one shape, with labels.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jit_core::text::Show;

use crate::digits::{self, Split};
use crate::error::{DamagedFile, DataError};
use crate::folder::{Folder, Passed};
use crate::place::{FileEntry, Place};
use crate::scan::scan;
use crate::subset::{self, Manifest, ManifestEntry};
use crate::transform::center_crop;

mod check;

pub use check::Damage;
pub(crate) use check::none_left;

/// Cropped images are kept in memory when all of them fit into this many bytes.
const CACHE_BYTES: usize = 2 << 30;

/// Images `0..len`, each `[channels, size, size]` u8 once loaded. Cheap to share between threads
/// behind an `Arc`.
#[derive(Debug)]
pub struct Dataset {
    size: usize,
    channels: usize,
    class_names: Vec<String>,
    source: Source,
    about: About,
}

#[derive(Debug)]
enum Source {
    /// Tiles of the embedded sheet.
    Digits { tiles: &'static [u8], chosen: Vec<u32> },
    /// Images in `root`, what is no picture by name, and whether crops are kept.
    Folder { root: PathBuf, files: Vec<File>, strays: Vec<DamagedFile>, cached: bool },
}

/// What there is to tell of a data set.
#[derive(Debug, Default)]
struct About {
    /// The kind of files that the images lie in.
    form: &'static str,
    /// What tells the classes.
    classes_from: String,
    /// Files that were passed over.
    passed: Passed,
    notes: Vec<String>,
}

#[derive(Debug)]
struct File {
    entry: FileEntry,
    /// The crop `[channels, size, size]` once it was loaded, if crops are kept.
    crop: OnceLock<Box<[u8]>>,
}

impl Dataset {
    /// A split of the embedded digits at `size` 28 or 32 and 1 or 3 channels.
    ///
    /// # Errors
    /// [`DataError::Option`] for another size.
    pub fn digits(split: Split, size: usize, channels: usize) -> Result<Self, DataError> {
        if !digits::supports(size) {
            return Err(DataError::Option {
                option: "model.image_size",
                value: size.to_string(),
                expected: "the digits come in sizes 28 or 32".to_owned(),
            });
        }
        let chosen = split.range().map(|tile| tile as u32).collect();
        let source = Source::Digits { tiles: digits::tiles()?, chosen };
        let classes_from = "the digits themselves".to_owned();
        let about = About { form: "this program", classes_from, ..About::default() };
        Ok(Self { size, channels, class_names: digits::class_names(), source, about })
    }

    /// The images at `root` ([`scan`]), every picture centre-cropped to `size` and turned grey if
    /// `channels` is 1. Lists the pictures and decodes none.
    ///
    /// # Errors
    /// As [`scan`] and [`Dataset::of`].
    pub fn folder(root: &Path, size: usize, channels: usize) -> Result<Self, DataError> {
        Self::of(root, scan(root)?, size, channels)
    }

    /// The images that were found at `root`.
    ///
    /// # Errors
    /// [`DataError::Option`] beyond 2³² images, or for a pack of another size.
    pub fn of(root: &Path, found: Folder, size: usize, channels: usize) -> Result<Self, DataError> {
        let Folder { files, class_names, strays, passed, form, classes_from, notes, .. } = found;
        if let Some(Place::Record { pack, .. }) = files.first().map(|file| &file.place) {
            let (have, need) = ([pack.channels(), pack.size()], [channels, size]);
            if have != need {
                let text = |[c, s]: [usize; 2]| format!("{c} × {s} × {s}");
                let reason = format!(
                    "it holds images of {}, and {} are needed: pack the originals anew with --size \
                     {size} --channels {channels}",
                    text(have),
                    text(need)
                );
                return Err(DataError::Archive { path: root.to_path_buf(), reason });
            }
        }
        if u32::try_from(files.len()).is_err() {
            return Err(DataError::Option {
                option: "data.path",
                value: root.display().to_string(),
                expected: format!("{} files are more than 2³² − 1", files.len()),
            });
        }
        let files = files.into_iter().map(|entry| File { entry, crop: OnceLock::new() }).collect();
        let source = Source::Folder { root: root.to_path_buf(), files, strays, cached: false };
        let about = About { form, classes_from, passed, notes };
        let mut dataset = Self { size, channels, class_names, source, about };
        dataset.decide_caching();
        Ok(dataset)
    }

    /// The share `share` of the images, drawn by `seed`; 1 keeps all.
    #[must_use]
    pub fn subset(mut self, share: f64, seed: u64) -> Self {
        if share >= 1.0 {
            return self;
        }
        let chosen = subset::choose(self.len(), share, seed);
        match &mut self.source {
            Source::Digits { chosen: tiles, .. } => {
                *tiles = chosen.iter().map(|&i| tiles[i as usize]).collect();
            }
            Source::Folder { files, .. } => {
                let mut keep = vec![false; files.len()];
                chosen.iter().for_each(|&i| keep[i as usize] = true);
                let mut keep = keep.into_iter();
                files.retain(|_| keep.next() == Some(true));
            }
        }
        self.decide_caching();
        self
    }

    fn decide_caching(&mut self) {
        let fits = self.len().saturating_mul(self.sample_len()) <= CACHE_BYTES;
        if let Source::Folder { cached, files, .. } = &mut self.source {
            let packed = matches!(files.first(), Some(file) if file.entry.place.is_packed());
            *cached = fits && !packed;
        }
    }

    /// The same images without classes.
    #[must_use]
    pub fn without_classes(mut self) -> Self {
        self.class_names.clear();
        "which were not asked for".clone_into(&mut self.about.classes_from);
        if let Source::Folder { files, .. } = &mut self.source {
            files.iter_mut().for_each(|file| file.entry.label = 0);
        }
        self
    }

    /// What is to be known before anything is made of the images: how many there are, which classes,
    /// where both come from, and what was left out. A line each.
    pub fn describe(&self) -> Vec<String> {
        let About { form, classes_from, passed, notes } = &self.about;
        let source = match &self.source {
            Source::Digits { .. } => digits::NAME.to_owned(),
            Source::Folder { root, .. } => root.display().to_string(),
        };
        let mut lines = vec![format!("images: {} in {form}, `{}`", self.len(), source.shown())];
        lines.push(match self.class_names.len() {
            0 if classes_from.is_empty() => "classes: none".to_owned(),
            0 => format!("classes: none, {classes_from}"),
            count => format!("classes: {count}, from {}", classes_from.shown()),
        });
        lines.extend(notes.iter().map(|note| format!("note: {}", note.shown())));
        lines.extend(passed.told().map(|told| format!("note: {told}")));
        lines
    }

    /// Keeps no crop in memory: for a data set that is read once.
    #[must_use]
    pub fn uncached(mut self) -> Self {
        if let Source::Folder { cached, .. } = &mut self.source {
            *cached = false;
        }
        self
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        match &self.source {
            Source::Digits { chosen, .. } => chosen.len(),
            Source::Folder { files, .. } => files.len(),
        }
    }

    /// Whether there is nothing to train on; a data set that opened has at least one image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Side of the images in pixels.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Channels of the images, 1 or 3.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Values of one image: channels·size².
    pub fn sample_len(&self) -> usize {
        self.channels * self.size * self.size
    }

    /// Class names in the order of their numbers; empty without classes.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Number of classes; 0 without classes, every label then being 0, the null class.
    pub fn num_classes(&self) -> usize {
        self.class_names.len()
    }

    /// The class of image `i` (below [`Dataset::len`]).
    pub fn label(&self, i: usize) -> u32 {
        match &self.source {
            Source::Digits { .. } if self.class_names.is_empty() => 0,
            Source::Digits { chosen, .. } => digits::label(chosen[i] as usize),
            Source::Folder { files, .. } => files[i].entry.label,
        }
    }

    /// What image `i` is called in messages and in the manifest.
    pub fn name(&self, i: usize) -> String {
        match &self.source {
            Source::Digits { chosen, .. } => format!("{}/{:04}", digits::NAME, chosen[i]),
            Source::Folder { files, .. } => {
                let parts = files[i].entry.path.iter().map(|part| part.to_string_lossy());
                parts.collect::<Vec<_>>().join("/")
            }
        }
    }

    /// Loads image `i` (below [`Dataset::len`]) into `out`, `[channels, size, size]`. Kept crops
    /// and those of a pack are copied; otherwise the picture is decoded.
    ///
    /// # Errors
    /// [`DataError`] naming the file, and the picture in it.
    pub fn load(&self, i: usize, out: &mut [u8]) -> Result<(), DataError> {
        match &self.source {
            Source::Digits { tiles, chosen } => {
                const TILE: usize = digits::SIDE * digits::SIDE;
                let tile = &tiles[chosen[i] as usize * TILE..][..TILE];
                digits::write_planes(tile, self.size, out);
            }
            Source::Folder { root, files, cached, .. } => {
                let file = &files[i];
                if let Some(crop) = file.crop.get() {
                    out.copy_from_slice(crop);
                    return Ok(());
                }
                if let Place::Record { pack, record } = &file.entry.place {
                    out.copy_from_slice(pack.planes(*record, &file.entry.path)?);
                    return Ok(());
                }
                let image = file.entry.raster(root)?;
                let image = if self.channels == 1 { image.into_luma() } else { image };
                center_crop(image, self.size).write_planes(out);
                if *cached {
                    file.crop.get_or_init(|| (&*out).into());
                }
            }
        }
        Ok(())
    }

    /// The record of these images, to be saved with a run.
    pub fn manifest(&self) -> Manifest {
        let source = match &self.source {
            Source::Digits { .. } => digits::NAME.to_owned(),
            Source::Folder { root, .. } => root.display().to_string(),
        };
        let bytes = |i: usize| match &self.source {
            Source::Digits { .. } => (digits::SIDE * digits::SIDE) as u64,
            Source::Folder { files, .. } => files[i].entry.bytes,
        };
        let images = (0..self.len())
            .map(|i| ManifestEntry { path: self.name(i), label: self.label(i), bytes: bytes(i) })
            .collect();
        Manifest { source, class_names: self.class_names.clone(), images }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::save_png;

    /// Two classes, five pictures of 6×4, picture i filled with 10·i + channel.
    pub(super) fn photos() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for i in 0..5u8 {
            let class = if i < 3 { "cat" } else { "dog" };
            let pixels: Vec<u8> = (0..24).flat_map(|_| (0..3).map(move |c| 10 * i + c)).collect();
            save_png(&root.path().join(format!("{class}/{i}.png")), &pixels, 6, 4, 3).unwrap();
        }
        root
    }

    pub(super) fn load(dataset: &Dataset, i: usize) -> Vec<u8> {
        let mut out = vec![0; dataset.sample_len()];
        dataset.load(i, &mut out).unwrap();
        out
    }

    #[test]
    fn folders_load_as_planes_with_their_labels() {
        let root = photos();
        let mut dataset = Dataset::folder(root.path(), 4, 3).unwrap();
        assert_eq!((dataset.len(), dataset.num_classes()), (5, 2));
        assert_eq!((0..5).map(|i| dataset.label(i)).collect::<Vec<_>>(), [0, 0, 0, 1, 1]);
        assert_eq!(dataset.name(4), "dog/4.png");
        assert_eq!(load(&dataset, 2), [[20; 16], [21; 16], [22; 16]].concat());
        let grey = Dataset::folder(root.path(), 4, 1).unwrap();
        assert_eq!(load(&grey, 2), [21; 16]);
        assert!(dataset.check(false, 2, &|_, _| ()).unwrap().is_empty());
    }

    #[test]
    fn a_subset_keeps_images_labels_and_classes_together() {
        let root = photos();
        let dataset = Dataset::folder(root.path(), 4, 3).unwrap().subset(0.4, 1);
        assert_eq!((dataset.len(), dataset.num_classes()), (2, 2));
        for i in 0..2 {
            let number = load(&dataset, i)[0] / 10;
            assert_eq!(dataset.name(i).as_bytes()[4], b'0' + number);
            assert_eq!(dataset.label(i), u32::from(number >= 3));
        }
        let manifest = dataset.manifest();
        assert_eq!(manifest.images[1].path, dataset.name(1));
        assert_eq!(manifest.class_names, ["cat", "dog"]);
        let all = Dataset::folder(root.path(), 4, 3).unwrap();
        assert_ne!(all.manifest().fingerprint(), manifest.fingerprint());
    }

    #[test]
    fn digits_come_in_two_sizes_and_splits() {
        let small = Dataset::digits(Split::Train, 28, 1).unwrap();
        let padded = Dataset::digits(Split::Train, 32, 3).unwrap();
        let held_out = Dataset::digits(Split::HeldOut, 28, 1).unwrap();
        assert_eq!((small.len(), held_out.len(), small.num_classes()), (8000, 2000, 10));
        let (a, b) = (load(&small, 9), load(&padded, 9));
        assert_eq!(a[28 * 10 + 14], b[32 * 12 + 16]);
        assert_eq!(b[..1024], b[2048..]);
        assert_eq!(held_out.label(0), digits::label(8000));
        assert_eq!(small.subset(0.01, 0).len(), 80);
    }
}
