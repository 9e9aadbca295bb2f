//! Small pictures from grids of samples: the first few images of a grid, laid out anew and scaled
//! down, so that a figure of many grids stays small.

use std::path::Path;

use jit_data::decode::decode_file;
use jit_data::grid::png_bytes;
use jit_data::resample::{Filter, Window, crop, resize};
use jit_data::{DataError, Raster};

use super::figure::Picture;

/// Black pixels around and between the images of a grid, as training lays them out.
const PADDING: usize = 2;

/// Images larger than this are scaled down to it.
const LARGEST: usize = 96;

/// A picture whose images cannot be told apart is scaled to this width.
const WIDTH: usize = 160;

/// How many images of a size are shown, and in how many columns.
fn layout(size: usize) -> (usize, usize) {
    match size {
        0..=32 => (10, 5),
        33..=64 => (6, 3),
        _ => (4, 2),
    }
}

/// The small picture of a grid of images `size` pixels wide.
///
/// # Errors
/// [`DataError`] when the file is no picture.
pub fn read(path: &Path, size: Option<usize>, alt: String) -> Result<Picture, DataError> {
    let sheet = decode_file(path)?;
    let small = size.and_then(|size| relaid(&sheet, size)).unwrap_or_else(|| {
        let (width, height) = (sheet.width(), sheet.height());
        let to = width.min(WIDTH);
        resize(sheet, to, (height * to / width).max(1), Filter::Bicubic)
    });
    let (width, height) = (small.width(), small.height());
    let (data, channels) = match is_grey(&small) {
        true => (small.into_luma().data().to_vec(), 1),
        false => (small.data().to_vec(), 3),
    };
    Ok(Picture { png: png_bytes(&data, width, height, channels)?, width, height, alt })
}

/// Columns and rows of a grid of images `size` pixels wide; `None` if it is no such grid.
fn grid_of(sheet: &Raster, size: usize) -> Option<(usize, usize)> {
    let pitch = size.checked_add(PADDING).filter(|_| size > 0)?;
    let along = |length: usize| {
        let inner = length.checked_sub(PADDING)?;
        (inner > 0 && inner.is_multiple_of(pitch)).then_some(inner / pitch)
    };
    Some((along(sheet.width())?, along(sheet.height())?))
}

/// The first images of a grid in fewer columns; `None` if it is no grid of such images.
fn relaid(sheet: &Raster, size: usize) -> Option<Raster> {
    let (columns, rows) = grid_of(sheet, size)?;
    let pitch = size + PADDING;
    let (most, across) = layout(size);
    let count = most.min(columns * rows);
    let across = across.min(count);
    let (to, gap) = (size.min(LARGEST), PADDING);
    let width = across * (to + gap) - gap;
    let height = count.div_ceil(across) * (to + gap) - gap;
    let channels = sheet.channels();
    let mut data = vec![0; width * height * channels];
    for i in 0..count {
        let (left, top) = (i % columns * pitch + PADDING, i / columns * pitch + PADDING);
        let window = Window { x: left..left + size, y: top..top + size };
        let image = resize(crop(sheet.clone(), &window), to, to, Filter::Bicubic);
        let (x, y) = (i % across * (to + gap), i / across * (to + gap));
        for (row, pixels) in image.data().chunks_exact(to * channels).enumerate() {
            let start = ((y + row) * width + x) * channels;
            data[start..start + pixels.len()].copy_from_slice(pixels);
        }
    }
    Raster::new(width, height, channels, data)
}

/// The first rows of a grid of images, those that [`read`] looks at; a sheet that is no such grid as it
/// is.
pub fn first_rows(sheet: Raster, size: Option<usize>) -> Raster {
    let Some((size, columns, rows)) = size.and_then(|size| {
        let (columns, rows) = grid_of(&sheet, size)?;
        Some((size, columns, rows))
    }) else {
        return sheet;
    };
    let rows = layout(size).0.div_ceil(columns).min(rows);
    let window = Window { x: 0..sheet.width(), y: 0..rows * (size + PADDING) + PADDING };
    crop(sheet, &window)
}

pub fn is_grey(image: &Raster) -> bool {
    image.channels() == 1 || image.data().chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2])
}

#[cfg(test)]
mod tests {
    use jit_data::grid::grid;

    use super::*;

    /// A grid of 12 grey images, each of one shade.
    fn sheet(dir: &Path, size: usize) -> std::path::PathBuf {
        let shades = (0..12u8).flat_map(|i| vec![i * 20; size * size]);
        let path = dir.join(format!("{size}.png"));
        grid(&shades.collect::<Vec<_>>(), 1, size, 6, 2).save(&path).unwrap();
        path
    }

    #[test]
    fn the_first_images_are_laid_out_anew() {
        let dir = tempfile::tempdir().unwrap();
        let picture = read(&sheet(dir.path(), 28), Some(28), "digits".into()).unwrap();
        assert_eq!((picture.width, picture.height), (5 * 30 - 2, 2 * 30 - 2));
        let again = jit_data::decode::decode_bytes(&picture.png).unwrap();
        let shade = |x: usize, y: usize| again.data()[(y * again.width() + x) * 3];
        // The fourth of the first row, and the sixth, which begins the second.
        assert_eq!((shade(3 * 30 + 9, 9), shade(5, 35)), (60, 100));
        // A PNG header says at its byte 25 whether the picture is grey.
        assert_eq!(picture.png[25], 0);
    }

    #[test]
    fn large_images_and_unknown_grids_are_scaled_down() {
        let dir = tempfile::tempdir().unwrap();
        let path = sheet(dir.path(), 256);
        let picture = read(&path, Some(256), String::new()).unwrap();
        assert_eq!((picture.width, picture.height), (194, 194));
        for size in [None, Some(0), Some(100), Some(usize::MAX)] {
            assert_eq!(read(&path, size, String::new()).unwrap().width, 160, "{size:?}");
        }
        std::fs::write(&path, b"no picture").unwrap();
        assert!(read(&path, None, String::new()).is_err());
    }
}
