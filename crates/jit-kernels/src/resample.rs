//! Convolution of 8-bit pictures along a row or a column, in Pillow's fixed point: products of 22-bit
//! fractions and samples, summed in 32 bits, then rounded and clipped. Sums of whole numbers have no
//! order, so that every instruction set gives the same bits. The absolute weights of an output sum to
//! less than 2, or 32 bits would not hold the sum.

use crate::cpu::{Level, level};
use crate::simd::{Simd, simd_kernel};

/// Fraction bits of a weight: Pillow keeps 8 bits for the sample and 2 for sums beyond 255.
pub const PRECISION: u32 = 32 - 8 - 2;

/// One half in fixed point: what makes the final shift round.
const HALF: i32 = 1 << (PRECISION - 1);

/// The weights of each output position.
#[derive(Clone, Copy, Debug)]
pub struct Taps<'a> {
    /// First source position of every output and how many follow.
    pub spans: &'a [(usize, usize)],
    /// `stride` weights an output, of which the span's length is used.
    pub weights: &'a [i32],
    /// Weights an output.
    pub stride: usize,
}

impl Taps<'_> {
    /// That every span lies in `first..first + length`, and has its weights.
    fn check(&self, first: usize, length: usize) {
        let fits = |&(start, count): &(usize, usize)| {
            let end = first + length;
            (first..end).contains(&start) && start + count <= end && count <= self.stride
        };
        assert!(self.spans.iter().all(fits), "resample: a span leaves the picture");
        assert_eq!(self.weights.len(), self.spans.len() * self.stride, "resample: weights");
    }

    #[inline(always)]
    fn output(&self, i: usize) -> (usize, &[i32]) {
        let (start, count) = self.spans[i];
        (start, &self.weights[i * self.stride..][..count])
    }
}

/// Convolves along x: `source` `[H, W, C]` to `out` `[H, W', C]`, with 1 or 3 channels. Column 0 of
/// the source is number `first` of the taps.
pub fn along_x(
    source: &[u8],
    width: usize,
    channels: usize,
    taps: Taps<'_>,
    first: usize,
    out: &mut [u8],
) {
    along_x_at(level(), source, width, channels, taps, first, out);
}

fn along_x_at(
    level: Level,
    source: &[u8],
    width: usize,
    channels: usize,
    taps: Taps<'_>,
    first: usize,
    out: &mut [u8],
) {
    taps.check(first, width);
    let (row, out_row) = (width * channels, taps.spans.len() * channels);
    assert_eq!(source.len() / row, out.len() / out_row, "resample: rows");
    assert!(source.len().is_multiple_of(row) && out.len().is_multiple_of(out_row));
    match channels {
        1 => grey_rows(level, source, row, taps, first, out),
        3 => rgb_rows(level, source, row, taps, first, out),
        _ => panic!("resample: {channels} channels"),
    }
}

/// Convolves along y: of `source` `[H, stride]` the samples from `left` on as many as `out`
/// `[H', row]` has, to `out`. Row 0 of the source is number `first` of the taps.
pub fn along_y(
    source: &[u8],
    stride: usize,
    left: usize,
    taps: Taps<'_>,
    first: usize,
    out: &mut [u8],
) {
    along_y_at(level(), source, stride, left, taps, first, out);
}

fn along_y_at(
    level: Level,
    source: &[u8],
    stride: usize,
    left: usize,
    taps: Taps<'_>,
    first: usize,
    out: &mut [u8],
) {
    taps.check(first, source.len() / stride);
    let row = out.len() / taps.spans.len();
    assert!(left + row <= stride && out.len() == row * taps.spans.len(), "resample: columns");
    columns(level, source, stride, left, taps, first, out);
}

simd_kernel! {
    fn rgb_rows(
        level; source: &[u8], row: usize, taps: Taps<'_>, first: usize, out: &mut [u8],
    ) = rgb_rows_kernel;
    fn grey_rows(
        level; source: &[u8], row: usize, taps: Taps<'_>, first: usize, out: &mut [u8],
    ) = grey_rows_kernel;
    fn columns(
        level; source: &[u8], stride: usize, left: usize, taps: Taps<'_>, first: usize,
        out: &mut [u8],
    ) = columns_kernel;
}

/// Rows that are convolved together: their sums hide each other's latency.
const TOGETHER: usize = 4;

#[inline(always)]
fn rgb_rows_kernel<S: Simd>(
    _: S,
    source: &[u8],
    row: usize,
    taps: Taps<'_>,
    first: usize,
    out: &mut [u8],
) {
    let out_row = 3 * taps.spans.len();
    let rows = source.len() / row;
    // Pixels are read with the byte behind them, which the last row lacks.
    let whole = rows.saturating_sub(1) / TOGETHER * TOGETHER;
    for y in (0..whole).step_by(TOGETHER) {
        for x in 0..taps.spans.len() {
            let (start, weights) = taps.output(x);
            let mut at = y * row + 3 * (start - first);
            let mut sums = [[HALF; 4]; TOGETHER];
            for &w in weights {
                for (r, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: `check` put the span into a row, of which at least one follows.
                    let pixel = unsafe { *source.as_ptr().add(at + r * row).cast::<[u8; 4]>() };
                    for c in 0..4 {
                        sums[c] += w * i32::from(pixel[c]);
                    }
                }
                at += 3;
            }
            for (r, sums) in sums.iter().enumerate() {
                let to = (y + r) * out_row + 3 * x;
                // SAFETY: `along_x` compared the rows of `out` with those of `source`.
                let pixel = unsafe { &mut *out.as_mut_ptr().add(to).cast::<[u8; 3]>() };
                for c in 0..3 {
                    pixel[c] = clip(sums[c]);
                }
            }
        }
    }
    for y in whole..rows {
        let (source, out) = (&source[y * row..][..row], &mut out[y * out_row..][..out_row]);
        for (x, pixel) in out.chunks_exact_mut(3).enumerate() {
            let (start, weights) = taps.output(x);
            let mut sums = [HALF; 3];
            for (w, samples) in weights.iter().zip(source[3 * (start - first)..].chunks_exact(3)) {
                for c in 0..3 {
                    sums[c] += w * i32::from(samples[c]);
                }
            }
            for c in 0..3 {
                pixel[c] = clip(sums[c]);
            }
        }
    }
}

#[inline(always)]
fn grey_rows_kernel<S: Simd>(
    _: S,
    source: &[u8],
    row: usize,
    taps: Taps<'_>,
    first: usize,
    out: &mut [u8],
) {
    for (source, out) in source.chunks_exact(row).zip(out.chunks_exact_mut(taps.spans.len())) {
        for (x, o) in out.iter_mut().enumerate() {
            let (start, weights) = taps.output(x);
            let mut sum = HALF;
            for (w, s) in weights.iter().zip(&source[start - first..]) {
                sum += w * i32::from(*s);
            }
            *o = clip(sum);
        }
    }
}

/// Samples of a row whose sums stay in registers.
const BLOCK: usize = 64;

#[inline(always)]
fn columns_kernel<S: Simd>(
    _: S,
    source: &[u8],
    stride: usize,
    left: usize,
    taps: Taps<'_>,
    first: usize,
    out: &mut [u8],
) {
    let row = out.len() / taps.spans.len();
    for (y, out) in out.chunks_exact_mut(row).enumerate() {
        let (start, weights) = taps.output(y);
        let source = &source[(start - first) * stride + left..];
        let mut blocks = out.chunks_exact_mut(BLOCK);
        let mut x = 0;
        for out in &mut blocks {
            let mut sums = [HALF; BLOCK];
            for (k, &w) in weights.iter().enumerate() {
                let samples = &source[k * stride + x..][..BLOCK];
                for i in 0..BLOCK {
                    sums[i] += w * i32::from(samples[i]);
                }
            }
            for i in 0..BLOCK {
                out[i] = clip(sums[i]);
            }
            x += BLOCK;
        }
        for (i, o) in blocks.into_remainder().iter_mut().enumerate() {
            let mut sum = HALF;
            for (k, &w) in weights.iter().enumerate() {
                sum += w * i32::from(source[k * stride + x + i]);
            }
            *o = clip(sum);
        }
    }
}

#[inline(always)]
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One sum after the other.
    fn plain(sample: impl Fn(usize) -> u8, (start, weights): (usize, &[i32])) -> u8 {
        let terms = weights.iter().enumerate();
        let sum: i64 = terms.map(|(k, w)| i64::from(*w) * i64::from(sample(start + k))).sum();
        ((sum + i64::from(HALF)) >> PRECISION).clamp(0, 255) as u8
    }

    proptest! {
        #[test]
        fn every_level_sums_what_scalar_code_does(
            (width, height) in (1usize..90, 1usize..12),
            channels in prop_oneof![Just(1usize), Just(3)],
            spans in prop::collection::vec((0.0..1.0, 0.0..1.0), 1..80),
            seed in any::<u32>(),
            first in 0usize..5,
        ) {
            let byte = |i: usize| (i as u32 ^ seed).wrapping_mul(2_654_435_761).to_le_bytes()[3];
            let source: Vec<u8> = (0..width * height * channels).map(byte).collect();
            let taps_in = |length: usize| {
                let span = |&(a, b): &(f64, f64)| {
                    let start = (a * length as f64) as usize;
                    (first + start, ((b * 9.0) as usize).min(length - start))
                };
                let spans: Vec<_> = spans.iter().map(span).collect();
                // Of either sign, as bicubic ones, with sums of up to 1.2: white may be clipped, and
                // 32 bits are enough.
                let weight = |i: usize| (i32::from(byte(i)) - 90) * ((1 << PRECISION) / (5 * 255));
                let weights: Vec<i32> = (0..9 * spans.len()).map(weight).collect();
                (spans, weights)
            };
            let (row, n) = (width * channels, spans.len());
            for level in Level::all() {
                let (spans, weights) = taps_in(width);
                let taps = Taps { spans: &spans, weights: &weights, stride: 9 };
                let mut out = vec![0; height * n * channels];
                along_x_at(level, &source, width, channels, taps, first, &mut out);
                for (i, o) in out.iter().enumerate() {
                    let (y, x, c) = (i / (n * channels), i / channels % n, i % channels);
                    let sample = |p: usize| source[y * row + (p - first) * channels + c];
                    prop_assert_eq!(*o, plain(sample, taps.output(x)), "{} x", level);
                }
                let (spans, weights) = taps_in(height);
                let taps = Taps { spans: &spans, weights: &weights, stride: 9 };
                let left = seed as usize % row;
                let mut out = vec![0; n * (row - left)];
                along_y_at(level, &source, row, left, taps, first, &mut out);
                for (i, o) in out.iter().enumerate() {
                    let (y, x) = (i / (row - left), i % (row - left));
                    let sample = |p: usize| source[(p - first) * row + left + x];
                    prop_assert_eq!(*o, plain(sample, taps.output(y)), "{} y", level);
                }
            }
        }
    }
}
