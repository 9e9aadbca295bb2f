//! Bilinear resizing as TensorFlow 1 does it: no antialiasing, and the source of a pixel is
//! `dst·in/out` without the half-pixel offset (spec §6). Metrics are defined with this flaw.

use rayon::prelude::*;

use super::Images;

/// Each image at `height × width`, values still from 0 to 255: `[B, height, width, 3]`.
pub fn resize(images: Images<'_>, height: usize, width: usize) -> Vec<f32> {
    let rows = axis(images.height, height);
    let columns = axis(images.width, width);
    let mut out = vec![0.0; images.batch * height * width * 3];
    out.par_chunks_mut(width * 3).enumerate().for_each(|(at, out)| {
        let pixels = images.one(at / height);
        let (top, bottom, dy) = rows[at % height];
        let line = |y: usize| &pixels[y * images.width * 3..][..images.width * 3];
        let (top, bottom) = (line(top), line(bottom));
        for (out, &(left, right, dx)) in out.chunks_exact_mut(3).zip(&columns) {
            for c in 0..3 {
                let across = |line: &[u8]| {
                    let (a, b) = (f32::from(line[left * 3 + c]), f32::from(line[right * 3 + c]));
                    a + (b - a) * dx
                };
                let (above, below) = (across(top), across(bottom));
                out[c] = above + (below - above) * dy;
            }
        }
    });
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
