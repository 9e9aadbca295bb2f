//! From a picture of any size to the square the model sees.

use crate::raster::Raster;
use crate::resample::{Filter, Window, crop, resize, resize_window};

/// ADM's centre crop to `size`×`size` (`center_crop_arr` of guided-diffusion): halve by box means
/// while the short side is at least `2·size`, bring the short side to `size` by bicubic
/// resampling, cut the centre.
pub fn center_crop(mut image: Raster, size: usize) -> Raster {
    while image.width().min(image.height()) >= 2 * size {
        let (width, height) = (image.width() / 2, image.height() / 2);
        image = resize(image, width, height, Filter::Box);
    }
    let scale = size as f64 / image.width().min(image.height()) as f64;
    // Python's `round`, which takes halves to the even neighbour.
    let scaled = |side: usize| (side as f64 * scale).round_ties_even() as usize;
    let (width, height) = (scaled(image.width()), scaled(image.height()));
    let centre = |side: usize| {
        let start = (side - size) / 2;
        start..start + size
    };
    let window = Window { x: centre(width), y: centre(height) };
    if (width, height) == (image.width(), image.height()) {
        crop(image, &window)
    } else {
        resize_window(image, width, height, Filter::Bicubic, &window)
    }
}

/// Resizes to `size`×`size` whatever the shape, bilinear and antialiased: how the target paper's
/// protocol prepares its reference images.
pub fn squash(image: Raster, size: usize) -> Raster {
    resize(image, size, size, Filter::Bilinear)
}

/// Mirrors every row of planes `[C, S, S]` (or any stack of rows of length `size`) in place.
pub fn flip_rows(planes: &mut [f32], size: usize) {
    planes.chunks_exact_mut(size).for_each(<[f32]>::reverse);
}

/// The model's range: u8 to f32 in [−1, 1], with the reference's arithmetic `x / 255 · 2 − 1`.
pub fn to_signed(pixel: u8) -> f32 {
    f32::from(pixel) / 255.0 * 2.0 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_strip_is_cropped_without_building_the_resized_picture() {
        // Resized whole, this would be 16 776 960 × 256.
        let strip = Raster::new(65_535, 1, 3, vec![9; 65_535 * 3]).unwrap();
        let square = center_crop(strip, 256);
        assert_eq!((square.width(), square.height()), (256, 256));
        assert!(square.data().iter().all(|&v| v == 9));
    }

    #[test]
    fn a_square_of_the_right_size_is_untouched() {
        let data: Vec<u8> = (0..48).collect();
        let image = Raster::new(4, 4, 3, data).unwrap();
        assert_eq!(center_crop(image.clone(), 4), image);
        assert_eq!(squash(image.clone(), 4), image);
    }

    #[test]
    fn the_crop_starts_at_the_floor() {
        // 5×2 at size 2: no filtering, columns (5 − 2) / 2 = 1 and 2.
        let image = Raster::new(5, 2, 1, vec![0, 1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
        assert_eq!(center_crop(image, 2).data(), [1, 2, 6, 7]);
    }

    #[test]
    fn pixels_span_minus_one_to_one() {
        assert_eq!((to_signed(0), to_signed(255)), (-1.0, 1.0));
        assert!((0..255).all(|v| to_signed(v) < to_signed(v + 1)));
        let mut rows = [1.0, 2.0, 3.0, 4.0];
        flip_rows(&mut rows, 2);
        assert_eq!(rows, [2.0, 1.0, 4.0, 3.0]);
    }
}
