//! Images to evaluate, a few at a time: whatever can be trained on, or a NumPy archive.

use std::io::Read;
use std::path::{Path, PathBuf};

use jit_data::digits::{self, Split};
use jit_data::grid::interleave;
use jit_data::place::{FileEntry, Place};
use jit_data::scan::{exists, scan};
use jit_data::transform::{center_crop, squash};
use jit_data::{DataError, Dataset, Raster};
use jit_model::weights::{Npz, TensorData};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::EvalError;
use crate::extractor::Images;

/// What the digits that no model was trained on are called.
pub const HELD_OUT_DIGITS: &str = "digits-held-out";

/// Images handed on at once.
const CHUNK: usize = 64;

/// How real images are brought to the size of the generated ones (spec §6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Centre crop, as in training.
    #[default]
    Jit,
    /// Squashed to a square, bilinear and antialiased, as the paper's references are.
    Paper,
}

impl Protocol {
    /// Its name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jit => "jit",
            Self::Paper => "paper",
        }
    }
}

/// The size that images are brought to, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Height and width.
    pub size: usize,
    /// How.
    pub protocol: Protocol,
}

/// Some images and, where they are known, their classes.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// The images.
    pub images: Images<'a>,
    /// A class for each.
    pub labels: Option<&'a [u32]>,
}

/// Where images come from.
pub struct Source {
    path: PathBuf,
    content: Content,
    /// What was taken of it and what passed over, a line each.
    notes: Vec<String>,
}

enum Content {
    Files {
        files: Vec<FileEntry>,
        labelled: bool,
    },
    /// `arr_0` `[N, H, W, C]`, and `arr_1` where there is one.
    Archive {
        npz: Npz,
        shape: [usize; 4],
        labels: Option<Vec<u32>>,
    },
    Digits(Split),
}

impl Source {
    /// An image folder, tar archives, Parquet files, a pack, an `.npz` with `arr_0` u8 `[N, H, W, 3]`,
    /// `digits` or `digits-held-out`.
    /// Nothing but names and headers is read yet.
    ///
    /// # Errors
    /// [`EvalError::NoImages`] saying what is missing, or why a folder cannot be listed.
    pub fn open(path: &Path) -> Result<Self, EvalError> {
        let mut notes = Vec::new();
        let content = match path.to_str() {
            Some(digits::NAME) => Content::Digits(Split::Train),
            Some(HELD_OUT_DIGITS) => Content::Digits(Split::HeldOut),
            _ if path.extension().is_some_and(|e| e == "npz") && path.exists() => {
                open_archive(path)?
            }
            _ if exists(path) => {
                let found = scan(path)?;
                let labelled = !found.class_names.is_empty();
                notes = found.notes;
                notes.extend(found.passed.told());
                Content::Files { files: found.files, labelled }
            }
            _ => {
                let names = [digits::NAME, HELD_OUT_DIGITS];
                let hint = jit_core::suggest::hint(&path.to_string_lossy(), names);
                let expected = format!(
                    "there is no such folder or file{hint}; expected a folder, tar archives, Parquet \
                     files, a pack, an .npz archive, `digits` or `{}`",
                    names[1]
                );
                return Err(EvalError::NoImages { path: path.into(), what: expected });
            }
        };
        Ok(Self { path: path.into(), content, notes })
    }

    /// What was taken of it and what passed over, such as splits that are left out, a line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What it is called in reports.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Number of images, never 0.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        match &self.content {
            Content::Files { files, .. } => files.len(),
            Content::Archive { shape, .. } => shape[0],
            Content::Digits(split) => split.range().len(),
        }
    }

    /// Hands on all images in order, as they are or brought to one size.
    ///
    /// # Errors
    /// Images that cannot be decoded, [`EvalError::MixedSizes`], and what `each` fails on.
    pub fn for_each(
        &self,
        fit: Option<Fit>,
        each: &mut dyn FnMut(Chunk<'_>) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        self.for_each_of(fit, &|_| true, each)
    }

    /// The same for those chunks whose number is `wanted`; others are not even decoded.
    ///
    /// # Errors
    /// As [`Source::for_each`].
    pub fn for_each_of(
        &self,
        fit: Option<Fit>,
        wanted: &dyn Fn(usize) -> bool,
        each: &mut dyn FnMut(Chunk<'_>) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        match &self.content {
            Content::Files { files, labelled } => self.files(files, *labelled, fit, wanted, each),
            Content::Archive { npz, shape, labels } => {
                self.archive(npz, *shape, labels.as_deref(), fit, wanted, each)
            }
            Content::Digits(split) => self.digits(*split, fit, wanted, each),
        }
    }

    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        self.len().div_ceil(CHUNK)
    }

    fn files(
        &self,
        files: &[FileEntry],
        labelled: bool,
        fit: Option<Fit>,
        wanted: &dyn Fn(usize) -> bool,
        each: &mut dyn FnMut(Chunk<'_>) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        self.uncropped(files, fit)?;
        let mut all = Sizes { path: &self.path, first: None };
        for (_, files) in files.chunks(CHUNK).enumerate().filter(|(i, _)| wanted(*i)) {
            let rasters = files
                .par_iter()
                .map(|file| Ok(fitted(file.raster(&self.path)?, fit)))
                .collect::<Result<Vec<Raster>, DataError>>()?;
            for (file, raster) in files.iter().zip(&rasters) {
                all.check(&file.path.to_string_lossy(), raster)?;
            }
            let labels: Vec<u32> = files.iter().map(|file| file.label).collect();
            hand_on(&rasters, labelled.then_some(&labels[..]), each)?;
        }
        Ok(())
    }

    /// That images which a pack has cropped need not be brought to another size: from the crops it
    /// would be other images than from the originals.
    fn uncropped(&self, files: &[FileEntry], fit: Option<Fit>) -> Result<(), EvalError> {
        let Some(Place::Record { pack, .. }) = files.first().map(|file| &file.place) else {
            return Ok(());
        };
        let have = Fit { size: pack.size(), protocol: Protocol::Jit };
        match fit {
            Some(fit) if fit != have => {
                let (size, protocol) = (fit.size, fit.protocol.name());
                let what = format!(
                    "the pack holds centre crops of {} pixels, and the protocol `{protocol}` at {size} \
                     starts from whole images: give the originals",
                    have.size
                );
                Err(EvalError::NoImages { path: self.path.clone(), what })
            }
            _ => Ok(()),
        }
    }

    fn archive(
        &self,
        npz: &Npz,
        [n, height, width, channels]: [usize; 4],
        labels: Option<&[u32]>,
        fit: Option<Fit>,
        wanted: &dyn Fn(usize) -> bool,
        each: &mut dyn FnMut(Chunk<'_>) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let mut buffer = vec![0; CHUNK.min(n) * height * width * channels];
        npz.read_u8("arr_0", |_, source| {
            for first in (0..n).step_by(CHUNK) {
                let count = CHUNK.min(n - first);
                let bytes = &mut buffer[..count * height * width * channels];
                source.read_exact(bytes)?;
                if !wanted(first / CHUNK) {
                    continue;
                }
                let rasters: Vec<Raster> = bytes
                    .par_chunks(height * width * channels)
                    .filter_map(|image| Raster::new(width, height, channels, image.to_vec()))
                    .map(|raster| fitted(raster, fit))
                    .collect();
                let labels = labels.map(|labels| &labels[first..first + count]);
                if let Err(error) = hand_on(&rasters, labels, each) {
                    return Ok(Err(error));
                }
            }
            Ok(Ok(()))
        })?
    }

    fn digits(
        &self,
        split: Split,
        fit: Option<Fit>,
        wanted: &dyn Fn(usize) -> bool,
        each: &mut dyn FnMut(Chunk<'_>) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        // Digits of 32 pixels have a margin, in training as here; squashing starts from 28.
        let size = match fit {
            Some(Fit { size, protocol: Protocol::Jit }) => size,
            _ => digits::SIDE,
        };
        let dataset = Dataset::digits(split, size, 1)?;
        let ids: Vec<usize> = (0..dataset.len()).collect();
        for (_, ids) in ids.chunks(CHUNK).enumerate().filter(|(i, _)| wanted(*i)) {
            let load = |&i: &usize| {
                let mut plane = vec![0; dataset.sample_len()];
                dataset.load(i, &mut plane)?;
                Ok(Raster::new(size, size, 1, plane).map(|raster| fitted(raster, fit)))
            };
            let rasters = ids.iter().filter_map(|i| load(i).transpose());
            let rasters = rasters.collect::<Result<Vec<Raster>, DataError>>()?;
            let labels: Vec<u32> = ids.iter().map(|&i| dataset.label(i)).collect();
            hand_on(&rasters, Some(&labels), each)?;
        }
        Ok(())
    }
}

fn fitted(image: Raster, fit: Option<Fit>) -> Raster {
    match fit {
        None => image,
        Some(Fit { size, protocol: Protocol::Jit }) => center_crop(image, size),
        Some(Fit { size, protocol: Protocol::Paper }) => squash(image, size),
    }
}

/// Rasters of one size as RGB.
fn hand_on(
    rasters: &[Raster],
    labels: Option<&[u32]>,
    each: &mut dyn FnMut(Chunk<'_>) -> Result<(), EvalError>,
) -> Result<(), EvalError> {
    let Some(first) = rasters.first() else { return Ok(()) };
    let pixels: Vec<u8> =
        rasters.iter().flat_map(|raster| rgb(raster.data(), raster.channels())).collect();
    let (batch, height, width) = (rasters.len(), first.height(), first.width());
    each(Chunk { images: Images { pixels: &pixels, batch, height, width }, labels })
}

/// Grey samples three times, RGB as it is.
fn rgb(samples: &[u8], channels: usize) -> Vec<u8> {
    match channels {
        1 => samples.iter().flat_map(|&v| [v; 3]).collect(),
        _ => samples.to_vec(),
    }
}

/// RGB pixels `[B, H, W, 3]` of planes `[B, C, H, W]` with 1 or 3 channels, as models draw them.
pub fn rgb_of_planes(planes: &[u8], batch: usize, channels: usize) -> Vec<u8> {
    let images = planes.chunks_exact(planes.len() / batch.max(1));
    images.flat_map(|planes| rgb(&interleave(planes, channels), channels)).collect()
}

/// That all images are of the first one's size.
struct Sizes<'a> {
    path: &'a Path,
    first: Option<(String, [usize; 2])>,
}

impl Sizes<'_> {
    fn check(&mut self, name: &str, image: &Raster) -> Result<(), EvalError> {
        let size = [image.height(), image.width()];
        let (first, first_size) = self.first.get_or_insert_with(|| (name.to_string(), size));
        if *first_size == size {
            return Ok(());
        }
        let text = |[height, width]: [usize; 2]| format!("{width}×{height}");
        Err(EvalError::MixedSizes {
            path: self.path.into(),
            first: first.clone(),
            first_size: text(*first_size),
            other: name.into(),
            other_size: text(size),
        })
    }
}

fn open_archive(path: &Path) -> Result<Content, EvalError> {
    let fault = |what: String| EvalError::NoImages { path: path.into(), what };
    let npz = Npz::open(path)?;
    if !npz.names().iter().any(|name| name == "arr_0") {
        let have = npz.names().join("`, `");
        return Err(fault(format!("expected `arr_0` u8 [N, H, W, 3]; it has `{have}`")));
    }
    let shape = npz.read_u8("arr_0", |shape, _: &mut dyn Read| Ok(shape.to_vec()))?;
    let found = <[usize; 4]>::try_from(&shape[..]).ok();
    let good = |s: &[usize; 4]| s.iter().all(|&n| n > 0) && matches!(s[3], 1 | 3);
    let expected = || fault(format!("`arr_0` is {shape:?}; expected [N, H, W, 3] or [N, H, W, 1]"));
    let shape = found.filter(good).ok_or_else(expected)?;
    let labels = match npz.names().iter().any(|name| name == "arr_1") {
        false => None,
        true => Some(labels(npz.array("arr_1")?.data, shape[0]).map_err(fault)?),
    };
    Ok(Content::Archive { npz, shape, labels })
}

/// Classes as whole numbers, one an image.
fn labels(data: TensorData, images: usize) -> Result<Vec<u32>, String> {
    let labels: Option<Vec<u32>> = match data {
        TensorData::I64(values) => values.into_iter().map(|v| u32::try_from(v).ok()).collect(),
        TensorData::U8(values) => Some(values.into_iter().map(u32::from).collect()),
        _ => None,
    };
    match labels {
        Some(labels) if labels.len() == images => Ok(labels),
        Some(labels) => Err(format!("`arr_1` has {} classes for {images} images", labels.len())),
        None => Err("`arr_1` are no classes: expected whole numbers from 0 on".into()),
    }
}

#[cfg(test)]
mod tests {
    use jit_data::grid::save_png;
    use jit_model::weights::{Tensor, write_npz};

    use super::*;

    /// Size, pixels and classes of all images.
    type Everything = (Vec<[usize; 2]>, Vec<u8>, Vec<u32>);

    fn read(source: &Source, fit: Option<Fit>) -> Result<Everything, EvalError> {
        let (mut sizes, mut pixels, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        source.for_each(fit, &mut |chunk| {
            sizes.extend(vec![[chunk.images.height, chunk.images.width]; chunk.images.batch]);
            pixels.extend_from_slice(chunk.images.pixels);
            labels.extend(chunk.labels.unwrap_or_default());
            Ok(())
        })?;
        Ok((sizes, pixels, labels))
    }

    #[test]
    fn a_folder_and_an_archive_of_the_same_images_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let image =
            |i: usize| -> Vec<u8> { (0..5 * 4 * 3).map(|v| (v * 7 + i * 31) as u8).collect() };
        for (i, class) in ["a", "b", "b"].into_iter().enumerate() {
            let path = dir.path().join(format!("images/{class}/{i}.png"));
            save_png(&path, &image(i), 5, 4, 3).unwrap();
        }
        let npz = dir.path().join("images.npz");
        let array = |shape: &[usize], data| Tensor { shape: shape.to_vec(), data };
        write_npz(&npz, |npz| {
            npz.array(
                "arr_0",
                &array(&[3, 4, 5, 3], TensorData::U8((0..3).flat_map(image).collect())),
            )?;
            npz.array("arr_1", &array(&[3], TensorData::I64(vec![0, 1, 1])))
        })
        .unwrap();
        let folder = Source::open(&dir.path().join("images")).unwrap();
        let archive = Source::open(&npz).unwrap();
        assert_eq!((folder.len(), archive.len()), (3, 3));
        let have = read(&folder, None).unwrap();
        assert_eq!(have, read(&archive, None).unwrap());
        assert_eq!((&have.0[..], &have.2[..]), (&[[4, 5]; 3][..], &[0, 1, 1][..]));
        for protocol in [Protocol::Jit, Protocol::Paper] {
            let fit = Some(Fit { size: 3, protocol });
            let have = read(&folder, fit).unwrap();
            assert_eq!(have.0, [[3, 3]; 3]);
            assert_eq!(have, read(&archive, fit).unwrap());
        }
    }

    #[test]
    fn tar_archives_and_packs_hold_what_the_folder_holds() {
        let dir = tempfile::tempdir().unwrap();
        let images = dir.path().join("images");
        for (i, class) in ["a", "b", "b"].into_iter().enumerate() {
            let pixels: Vec<u8> = (0..60).map(|v| (v * v + i * 31) as u8).collect();
            save_png(&images.join(format!("{class}/{i}.png")), &pixels, 5, 4, 3).unwrap();
        }
        let tar = dir.path().join("images.tar");
        let mut builder = tar::Builder::new(std::fs::File::create(&tar).unwrap());
        builder.append_dir_all(".", &images).unwrap();
        builder.finish().unwrap();
        let packed = dir.path().join("images.jitpack");
        let dataset = Dataset::folder(&images, 3, 3).unwrap();
        jit_data::pack::write(&dataset, &packed, 1, false, &|_, _| {}).unwrap();
        let open = |path: &Path| Source::open(path).unwrap();
        assert_eq!(read(&open(&images), None).unwrap(), read(&open(&tar), None).unwrap());
        let fit = Some(Fit { size: 3, protocol: Protocol::Jit });
        let have = read(&open(&images), fit).unwrap();
        assert_eq!(have, read(&open(&packed), fit).unwrap());
        assert_eq!(have, read(&open(&packed), None).unwrap());
        for (size, protocol) in [(2, Protocol::Jit), (3, Protocol::Paper)] {
            let refused = read(&open(&packed), Some(Fit { size, protocol })).unwrap_err();
            assert!(refused.to_string().contains("centre crops of 3 pixels"), "{refused}");
        }
    }

    #[test]
    fn digits_come_in_both_splits_and_sizes() {
        let train = Source::open(Path::new("digits")).unwrap();
        let held_out = Source::open(Path::new(HELD_OUT_DIGITS)).unwrap();
        assert_eq!((train.len(), held_out.len()), (8000, 2000));
        let (sizes, pixels, labels) = read(&held_out, None).unwrap();
        assert_eq!((sizes[0], labels.len()), ([28, 28], 2000));
        let padded = read(&held_out, Some(Fit { size: 32, protocol: Protocol::Jit })).unwrap();
        assert_eq!(padded.0[0], [32, 32]);
        assert_eq!(padded.1[(2 * 32 + 2 + 5) * 3], pixels[5 * 3]);
        assert!(read(&train, Some(Fit { size: 30, protocol: Protocol::Jit })).is_err());
    }

    #[test]
    fn what_holds_no_images_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let message = |path: &Path| Source::open(path).err().unwrap().to_string();
        assert!(message(dir.path()).contains("holds no picture"));
        assert!(message(Path::new("digit")).contains("did you mean `digits`?"));
        let npz = dir.path().join("x.npz");
        let write = |name: &str, shape: &[usize], data: TensorData| {
            write_npz(&npz, |npz| npz.array(name, &Tensor { shape: shape.to_vec(), data }))
                .unwrap();
            message(&npz)
        };
        assert!(write("mu", &[1], TensorData::U8(vec![1])).contains("it has `mu`"));
        assert!(write("arr_0", &[2, 3], TensorData::U8(vec![1; 6])).contains("`arr_0` is [2, 3]"));
        assert!(write("arr_0", &[6], TensorData::F32(vec![1.0; 6])).contains("uint8"));
        assert!(write("arr_0", &[0, 2, 2, 3], TensorData::U8(vec![])).contains("[N, H, W, 3]"));
    }

    /// The archive's checksums hold; the array's header claims more than there is.
    #[test]
    fn a_header_that_lies_about_its_size_is_refused() {
        use std::io::Write;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npz");
        for shape in ["(9000000000, 4, 4, 3)", "(1, 4, 4, 4)"] {
            let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
            zip.start_file("arr_0.npy", zip::write::SimpleFileOptions::default()).unwrap();
            let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}");
            zip.write_all(b"\x93NUMPY\x01\x00").unwrap();
            zip.write_all(&(header.len() as u16).to_le_bytes()).unwrap();
            zip.write_all(header.as_bytes()).unwrap();
            zip.write_all(&[7; 48]).unwrap();
            zip.finish().unwrap();
            let message = Source::open(&path).err().unwrap().to_string();
            assert!(message.contains("48 bytes of data are no U8 array of shape"), "{message}");
        }
    }

    #[test]
    fn mixed_sizes_are_named_and_cut_archives_told() {
        let dir = tempfile::tempdir().unwrap();
        save_png(&dir.path().join("a.png"), &[0; 12], 2, 2, 3).unwrap();
        save_png(&dir.path().join("b.png"), &[0; 18], 3, 2, 3).unwrap();
        let source = Source::open(dir.path()).unwrap();
        let message = read(&source, None).unwrap_err().to_string();
        assert!(message.contains("`a.png` is 2×2, `b.png` is 3×2"), "{message}");
        read(&source, Some(Fit { size: 2, protocol: Protocol::Jit })).unwrap();

        let npz = dir.path().join("x.npz");
        let images = Tensor { shape: vec![9, 8, 8, 3], data: TensorData::U8(vec![7; 9 * 192]) };
        write_npz(&npz, |npz| npz.array("arr_0", &images)).unwrap();
        let mut bytes = std::fs::read(&npz).unwrap();
        std::fs::write(&npz, &bytes[..bytes.len() / 2]).unwrap();
        assert!(Source::open(&npz).is_err());
        // One changed pixel: the archive's checksum tells.
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&npz, &bytes).unwrap();
        let damaged = Source::open(&npz).and_then(|source| read(&source, None));
        assert!(damaged.is_err());
    }
}
