//! Pooling of images `[B, H, W, C]`, channels last.

use crate::{
    cpu::{self, Level},
    lanes::{load_at, store_at},
    par,
    simd::{Simd, simd_kernel},
};

/// What a pool makes of its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// The largest value.
    Max,
    /// The mean of the values within the image: padding does not count, as in TensorFlow.
    Average,
}

/// The geometry of a pool with a square window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// Images B.
    pub batch: usize,
    /// Height H of an image.
    pub height: usize,
    /// Width W of an image.
    pub width: usize,
    /// Channels C.
    pub channels: usize,
    /// Height and width of the window.
    pub window: usize,
    /// Distance of two windows.
    pub stride: usize,
    /// Rows and columns by which windows may stick out.
    pub padding: usize,
}

impl PoolShape {
    /// Height and width of the output.
    pub fn output(&self) -> [usize; 2] {
        let extent = |size: usize| (size + 2 * self.padding - self.window) / self.stride + 1;
        [extent(self.height), extent(self.width)]
    }
}

/// Pools `x` `[B, H, W, C]` into the channels `first..first + C` of `y` `[B, H', W', channels]`.
///
/// # Panics
/// If the lengths do not fit together.
pub fn pool(x: &[f32], shape: PoolShape, pool: Pool, y: &mut [f32], channels: usize, first: usize) {
    pool_at(cpu::level(), x, shape, pool, y, channels, first);
}

fn pool_at(
    level: Level,
    x: &[f32],
    shape: PoolShape,
    pool: Pool,
    y: &mut [f32],
    channels: usize,
    first: usize,
) {
    let PoolShape { batch, height, width, channels: c, window, padding, .. } = shape;
    assert_eq!(x.len(), batch * height * width * c, "pool: an input of {shape:?}");
    assert!(padding < window && height + 2 * padding >= window && width + 2 * padding >= window);
    let [out_height, out_width] = shape.output();
    assert_eq!(y.len(), batch * out_height * out_width * channels, "pool: an output of {shape:?}");
    assert!(first + c <= channels, "pool: channels");
    let ops = y.len() * window * window;
    par::for_each_chunk(y, out_width * channels, ops, |row, y| {
        pool_row(level, x, shape, pool == Pool::Max, row, y, channels, first);
    });
}

simd_kernel! {
    /// One row of one image of the output.
    fn pool_row(
        level; x: &[f32], shape: PoolShape, max: bool, row: usize, y: &mut [f32], channels: usize,
        first: usize,
    ) = pool_row_kernel;
}

/// The part of a window that lies in the image.
#[inline(always)]
fn inside(at: usize, stride: usize, padding: usize, window: usize, size: usize) -> (usize, usize) {
    let start = at * stride;
    (start.saturating_sub(padding), (start + window - padding).min(size))
}

#[inline(always)]
fn pool_row_kernel<S: Simd>(
    s: S,
    x: &[f32],
    shape: PoolShape,
    max: bool,
    row: usize,
    y: &mut [f32],
    channels: usize,
    first: usize,
) {
    let PoolShape { height, width, channels: c, window, stride, padding, .. } = shape;
    let [out_height, _] = shape.output();
    let (image, row) = (row / out_height, row % out_height);
    let (top, bottom) = inside(row, stride, padding, window, height);
    for (column, y) in y.chunks_exact_mut(channels).enumerate() {
        let (left, right) = inside(column, stride, padding, window, width);
        let scale = s.splat(1.0 / ((bottom - top) * (right - left)) as f32);
        let y = &mut y[first..first + c];
        for at in (0..c).step_by(S::LANES) {
            let mut value = if max { s.splat(f32::NEG_INFINITY) } else { s.splat(0.0) };
            for iy in top..bottom {
                for ix in left..right {
                    let pixel = &x[((image * height + iy) * width + ix) * c..][..c];
                    let v = load_at(s, pixel, at);
                    value = if max { s.max(v, value) } else { s.add(value, v) };
                }
            }
            store_at(s, if max { value } else { s.mul(value, scale) }, y, at);
        }
    }
}

/// The plain twin of [`pool`].
pub fn pool_plain(
    x: &[f32],
    shape: PoolShape,
    pool: Pool,
    y: &mut [f32],
    channels: usize,
    first: usize,
) {
    let PoolShape { height, width, channels: c, window, stride, padding, .. } = shape;
    let [out_height, out_width] = shape.output();
    for (at, y) in y.chunks_exact_mut(channels).enumerate() {
        let (image, oy, ox) =
            (at / (out_height * out_width), at / out_width % out_height, at % out_width);
        for channel in 0..c {
            let mut values = Vec::new();
            for (ky, kx) in (0..window * window).map(|k| (k / window, k % window)) {
                let (iy, ix) = (oy * stride + ky, ox * stride + kx);
                if (padding..height + padding).contains(&iy)
                    && (padding..width + padding).contains(&ix)
                {
                    let pixel = (image * height + iy - padding) * width + ix - padding;
                    values.push(x[pixel * c + channel]);
                }
            }
            y[first + channel] = match pool {
                Pool::Max => values.iter().copied().fold(f32::NEG_INFINITY, f32::max),
                Pool::Average => values.iter().sum::<f32>() / values.len() as f32,
            };
        }
    }
}

/// The mean over the pixels of each image: `x` `[B, P, C]`, `y` `[B, C]`, sums in f64.
///
/// # Panics
/// If the lengths do not fit together.
pub fn mean_pixels(x: &[f32], batch: usize, channels: usize, y: &mut [f32]) {
    assert_eq!(y.len(), batch * channels, "mean_pixels: an output");
    let per_image = x.len() / batch.max(1);
    for (x, y) in x.chunks_exact(per_image).zip(y.chunks_exact_mut(channels)) {
        let mut sums = vec![0.0f64; channels];
        for pixel in x.chunks_exact(channels) {
            sums.iter_mut().zip(pixel).for_each(|(sum, &v)| *sum += f64::from(v));
        }
        let pixels = (per_image / channels) as f64;
        y.iter_mut().zip(sums).for_each(|(y, sum)| *y = (sum / pixels) as f32);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{assert_close, random};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn the_fast_kernels_match_their_plain_twins(
            (batch, height, width) in (1usize..3, 1usize..9, 1usize..9),
            channels in 1usize..40,
            (window, stride, padding) in (1usize..4, 1usize..3, 0usize..2),
            (extra, first) in (0usize..4, 0usize..4),
            seed: u64,
        ) {
            prop_assume!(padding < window);
            prop_assume!(height + 2 * padding >= window && width + 2 * padding >= window);
            let shape = PoolShape { batch, height, width, channels, window, stride, padding };
            let x = random(seed, batch * height * width * channels);
            let [h, w] = shape.output();
            let all = first + channels + extra;
            for kind in [Pool::Max, Pool::Average] {
                let mut want = random(seed ^ 1, batch * h * w * all);
                let fresh = want.clone();
                pool_plain(&x, shape, kind, &mut want, all, first);
                for level in Level::all() {
                    let mut have = fresh.clone();
                    pool_at(level, &x, shape, kind, &mut have, all, first);
                    assert_close(&have, &want, 1e-6);
                }
            }
        }
    }

    #[test]
    fn the_mean_is_over_pixels() {
        let mut y = [0.0; 4];
        mean_pixels(&[1.0, 2.0, 3.0, 6.0, 5.0, 5.0, 7.0, 9.0], 2, 2, &mut y);
        assert_eq!(y, [2.0, 4.0, 6.0, 7.0]);
    }
}
