//! Bilinear resizing as TensorFlow 1 does it: no antialiasing, and the source of a pixel is
//! `dst·in/out` without the half-pixel offset (spec §6). Metrics are defined with this flaw.

use super::Images;

/// Each image at `height × width`, values still from 0 to 255: `[B, height, width, 3]`.
pub fn resize(images: Images<'_>, height: usize, width: usize) -> Vec<f32> {
    let rows = axis(images.height, height);
    let columns = axis(images.width, width);
    let mut out = Vec::with_capacity(images.batch * height * width * 3);
    for i in 0..images.batch {
        let pixels = images.one(i);
        let value =
            |y: usize, x: usize, c: usize| f32::from(pixels[(y * images.width + x) * 3 + c]);
        for &(top, bottom, dy) in &rows {
            for &(left, right, dx) in &columns {
                for c in 0..3 {
                    let across = |y| {
                        let (a, b) = (value(y, left, c), value(y, right, c));
                        a + (b - a) * dx
                    };
                    let (above, below) = (across(top), across(bottom));
                    out.push(above + (below - above) * dy);
                }
            }
        }
    }
    out
}

/// For every output position the two sources and the share of the second.
fn axis(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let scale = from as f32 / to as f32;
    (0..to)
        .map(|i| {
            let at = i as f32 * scale;
            let low = (at.floor() as usize).min(from - 1);
            (low, (low + 1).min(from - 1), at - low as f32)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_has_no_half_pixel_offset() {
        let pixels: Vec<u8> = [0u8, 100, 200].iter().flat_map(|&v| [v, v, v]).collect();
        let images = Images { pixels: &pixels, batch: 1, height: 1, width: 3 };
        let red = |width| resize(images, 1, width).into_iter().step_by(3).collect::<Vec<f32>>();
        assert_eq!(red(3), [0.0, 100.0, 200.0]);
        assert_eq!(red(6), [0.0, 50.0, 100.0, 150.0, 200.0, 200.0]);
        assert_eq!(red(2), [0.0, 150.0]);
    }
}
