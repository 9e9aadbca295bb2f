//! Pictures out: model values to 8 bits, contact sheets, PNG files.

use std::path::Path;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use jit_core::output;

use crate::error::DataError;

/// Model values in [−1, 1] to 8 bits: clipped, `(x + 1)/2·255` rounded, halves to the even
/// neighbour as NumPy does. A NaN becomes 0.
pub fn to_u8(x: &[f32]) -> Vec<u8> {
    x.iter().map(|v| ((v.clamp(-1.0, 1.0) + 1.0) / 2.0 * 255.0).round_ties_even() as u8).collect()
}

/// Planes `[C, H, W]` to interleaved samples `[H, W, C]`.
pub fn interleave(planes: &[u8], channels: usize) -> Vec<u8> {
    let area = planes.len() / channels;
    (0..area).flat_map(|i| (0..channels).map(move |c| planes[c * area + i])).collect()
}

/// A contact sheet, samples interleaved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sheet {
    /// `[height, width, channels]`.
    pub pixels: Vec<u8>,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Samples a pixel.
    pub channels: usize,
}

/// Lays square images `[n, C, S, S]` out in rows of `columns`, with `padding` black pixels around
/// and between them; n follows from the length of `images`. Places of an unfinished row stay
/// black.
pub fn grid(images: &[u8], channels: usize, size: usize, columns: usize, padding: usize) -> Sheet {
    let sample = channels * size * size;
    let n = images.len() / sample;
    let columns = columns.clamp(1, n.max(1));
    let pitch = size + padding;
    let width = columns * pitch + padding;
    let height = n.div_ceil(columns) * pitch + padding;
    let mut pixels = vec![0; width * height * channels];
    for (i, image) in images.chunks_exact(sample).enumerate() {
        let (top, left) = (i / columns * pitch + padding, i % columns * pitch + padding);
        for (c, plane) in image.chunks_exact(size * size).enumerate() {
            for (y, row) in plane.chunks_exact(size).enumerate() {
                let start = ((top + y) * width + left) * channels + c;
                for (x, v) in row.iter().enumerate() {
                    pixels[start + x * channels] = *v;
                }
            }
        }
    }
    Sheet { pixels, width, height, channels }
}

/// A PNG file in memory from interleaved samples `[height, width, channels]`: grey, grey and
/// alpha, RGB or RGBA by the number of channels.
///
/// # Errors
/// [`DataError::Encode`] for other channel counts, or when the samples do not fill the picture.
pub fn png_bytes(
    pixels: &[u8],
    width: usize,
    height: usize,
    channels: usize,
) -> Result<Vec<u8>, DataError> {
    let failed = |reason: String| DataError::Encode { width, height, channels, reason };
    let color = match channels {
        1 => ExtendedColorType::L8,
        2 => ExtendedColorType::La8,
        3 => ExtendedColorType::Rgb8,
        4 => ExtendedColorType::Rgba8,
        _ => return Err(failed("PNG has 1 to 4 channels".to_owned())),
    };
    let side = |n: usize| u32::try_from(n).map_err(|_| failed("a side is too long".to_owned()));
    let (w, h) = (side(width)?, side(height)?);
    if pixels.is_empty() || Some(pixels.len()) != area(width, height, channels) {
        return Err(failed(format!("{} samples were given", pixels.len())));
    }
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(pixels, w, h, color)
        .map_err(|error| failed(error.to_string()))?;
    Ok(bytes)
}

fn area(width: usize, height: usize, channels: usize) -> Option<usize> {
    width.checked_mul(height)?.checked_mul(channels)
}

/// [`png_bytes`] to where a user points ([`output::write`]).
///
/// # Errors
/// As [`png_bytes`]; [`DataError::File`] when `path` cannot be written.
pub fn save_png(
    path: &Path,
    pixels: &[u8],
    width: usize,
    height: usize,
    channels: usize,
) -> Result<(), DataError> {
    let bytes = png_bytes(pixels, width, height, channels)?;
    Ok(output::write_bytes(path, &bytes)?)
}

impl Sheet {
    /// Writes the sheet as a PNG file to where a user points.
    ///
    /// # Errors
    /// As [`save_png`].
    pub fn save(&self, path: &Path) -> Result<(), DataError> {
        save_png(path, &self.pixels, self.width, self.height, self.channels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::to_signed;

    #[test]
    fn eight_bits_survive_the_way_through_the_model_range() {
        let all: Vec<u8> = (0..=255).collect();
        let x: Vec<f32> = all.iter().map(|&v| to_signed(v)).collect();
        assert_eq!(to_u8(&x), all);
        assert_eq!(to_u8(&[-7.0, 7.0, f32::INFINITY, f32::NAN, 0.0]), [0, 255, 255, 0, 128]);
    }

    #[test]
    fn the_grid_puts_each_image_at_its_place() {
        // Three 2×2 RGB images, image i has value 10(i + 1) + channel.
        let images: Vec<u8> =
            (0..3).flat_map(|i| (0..3).flat_map(move |c| [10 * (i + 1) + c; 4])).collect();
        let sheet = grid(&images, 3, 2, 2, 1);
        assert_eq!((sheet.width, sheet.height), (7, 7));
        let at = |x: usize, y: usize| &sheet.pixels[(y * 7 + x) * 3..][..3];
        assert_eq!(at(0, 0), [0, 0, 0]);
        assert_eq!(at(1, 1), [10, 11, 12]);
        assert_eq!(at(3, 1), [0, 0, 0]);
        assert_eq!(at(4, 2), [20, 21, 22]);
        assert_eq!(at(2, 5), [30, 31, 32]);
        assert_eq!(at(5, 5), [0, 0, 0]);
        assert_eq!(grid(&images, 3, 2, 99, 0).width, 6);
    }

    #[test]
    fn a_saved_png_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/a.png");
        let planes: Vec<u8> = (0..12).collect();
        let pixels = interleave(&planes, 3);
        assert_eq!(pixels[..3], [0, 4, 8]);
        save_png(&path, &pixels, 2, 2, 3).unwrap();
        assert_eq!(crate::decode::decode_file(&path).unwrap().data(), pixels);
        assert!(save_png(&path, &pixels, 2, 2, 5).unwrap_err().to_string().contains("1 to 4"));
        assert!(save_png(&path, &pixels, 3, 2, 3).unwrap_err().to_string().contains("12 samples"));
    }
}
