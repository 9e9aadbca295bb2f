//! Antialiased resampling, bit for bit as Pillow's `Image.resize` does it on 8-bit pictures: a
//! separable convolution in 22-bit fixed point, rounded to 8 bits after each pass.
//!
//! The order of the passes shows in the last bit: along rows first, except where the height shrinks
//! so much more than the width that the other order is cheaper. That exception came with Pillow 13;
//! earlier versions differ from it by at most one level in such pictures.

use std::ops::Range;

use jit_kernels::resample::{self as kernels, PRECISION};

use crate::raster::Raster;

/// A resampling kernel of Pillow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Mean over the covered pixels.
    Box,
    /// Triangle.
    Bilinear,
    /// Keys' cubic with a = −0.5.
    Bicubic,
}

impl Filter {
    /// Half-width of the kernel in source pixels when not shrinking.
    fn support(self) -> f64 {
        match self {
            Filter::Box => 0.5,
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
        }
    }

    /// The kernel at distance `x`. The polynomials are evaluated in Pillow's order, so that the
    /// fixed-point weights round alike.
    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let d = x.abs();
        match self {
            // Open at the left, closed at the right: each pixel falls into one cell.
            Filter::Box if x > -0.5 && x <= 0.5 => 1.0,
            Filter::Bilinear if d < 1.0 => 1.0 - d,
            Filter::Bicubic if d < 1.0 => ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0,
            Filter::Bicubic if d < 2.0 => (((d - 5.0) * d + 8.0) * d - 4.0) * A,
            _ => 0.0,
        }
    }
}

/// A rectangle of the resized picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Columns.
    pub x: Range<usize>,
    /// Rows.
    pub y: Range<usize>,
}

/// `Image.resize((width, height), filter)`; both sides at least 1.
pub fn resize(image: Raster, width: usize, height: usize, filter: Filter) -> Raster {
    resize_window(image, width, height, filter, &Window { x: 0..width, y: 0..height })
}

/// The rectangle `window` of `Image.resize((width, height), filter)`, computing nothing else: the
/// resized picture itself may be too large to hold when the source is a long strip.
///
/// `window` is not empty and lies within `width`×`height`.
pub fn resize_window(
    image: Raster,
    width: usize,
    height: usize,
    filter: Filter,
    window: &Window,
) -> Raster {
    // Like Pillow, a side that does not change is not filtered, so it is not rounded either.
    let columns =
        (width != image.width()).then(|| Taps::new(image.width(), width, &window.x, filter));
    let rows =
        (height != image.height()).then(|| Taps::new(image.height(), height, &window.y, filter));
    // Only these parts of the source reach the output.
    let used = Window {
        x: columns.as_ref().map_or(window.x.clone(), Taps::source),
        y: rows.as_ref().map_or(window.y.clone(), Taps::source),
    };
    let lost = |from: usize, to: usize| from as i64 - to as i64;
    let (lost_x, lost_y) = (lost(image.width(), width), lost(image.height(), height));
    match (&columns, &rows) {
        (None, None) => crop(image, window),
        (Some(columns), None) => filter_rows(&image, used.y, columns, 0),
        (None, Some(rows)) => filter_columns(&image, used.x, rows, 0),
        (Some(columns), Some(rows)) if lost_y > 0 && lost_y > 2 * lost_x => {
            let first = used.x.start;
            let image = filter_columns(&image, used.x, rows, 0);
            filter_rows(&image, 0..image.height(), columns, first)
        }
        (Some(columns), Some(rows)) => {
            let first = used.y.start;
            let image = filter_rows(&image, used.y, columns, 0);
            filter_columns(&image, 0..image.width(), rows, first)
        }
    }
}

/// The rectangle `window` of `image`.
pub fn crop(image: Raster, window: &Window) -> Raster {
    if window.x == (0..image.width()) && window.y == (0..image.height()) {
        return image;
    }
    let c = image.channels();
    let mut data = Vec::with_capacity(window.x.len() * window.y.len() * c);
    for y in window.y.clone() {
        data.extend_from_slice(&image.row(y)[window.x.start * c..window.x.end * c]);
    }
    Raster::from_parts(window.x.len(), window.y.len(), c, data)
}

/// The weights of each output position: where its source pixels start, and fixed-point factors.
struct Taps {
    /// First source pixel of every output and how many follow.
    spans: Vec<(usize, usize)>,
    /// `stride` weights an output, of which the span's length is used.
    weights: Vec<i32>,
    stride: usize,
}

impl Taps {
    /// Pillow's `precompute_coeffs` and `normalize_coeffs_8bpc` for outputs `window` of `output`.
    fn new(input: usize, output: usize, window: &Range<usize>, filter: Filter) -> Self {
        let scale = input as f64 / output as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let stride = support.ceil() as usize * 2 + 1;
        let mut spans = Vec::with_capacity(window.len());
        let mut weights = vec![0; stride * window.len()];
        let mut exact = Vec::with_capacity(stride);
        for (out, fixed) in window.clone().zip(weights.chunks_exact_mut(stride)) {
            let center = (out as f64 + 0.5) * scale;
            // `as usize` saturates at 0, where Pillow clamps.
            let start = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(input);
            exact.clear();
            exact.extend(
                (start..end).map(|x| filter.weight((x as f64 - center + 0.5) * (1.0 / stretch))),
            );
            let sum: f64 = exact.iter().sum();
            for (f, w) in fixed.iter_mut().zip(&exact) {
                let w = if sum == 0.0 { *w } else { w / sum };
                // Away from zero at .5, by truncating towards zero.
                *f = (w * f64::from(1u32 << PRECISION) + 0.5f64.copysign(w)) as i32;
            }
            spans.push((start, end - start));
        }
        Self { spans, weights, stride }
    }

    /// The source pixels that any output uses.
    fn source(&self) -> Range<usize> {
        let first = self.spans.first().map_or(0, |s| s.0);
        let end = self.spans.last().map_or(0, |s| s.0 + s.1);
        first..end
    }

    fn kernel(&self) -> kernels::Taps<'_> {
        kernels::Taps { spans: &self.spans, weights: &self.weights, stride: self.stride }
    }
}

/// Convolves the rows `rows` along x, `[H, W, C] → [rows, W', C]`; `first` is the source column that
/// column 0 of `image` is.
fn filter_rows(image: &Raster, rows: Range<usize>, taps: &Taps, first: usize) -> Raster {
    let (c, width) = (image.channels(), taps.spans.len());
    let stride = image.width() * c;
    let source = &image.data()[rows.start * stride..rows.end * stride];
    let mut data = vec![0; rows.len() * width * c];
    kernels::along_x(source, image.width(), c, taps.kernel(), first, &mut data);
    Raster::from_parts(width, rows.len(), c, data)
}

/// Convolves the columns `columns` along y, `[H, W, C] → [H', columns, C]`; `first` is the source row
/// that row 0 of `image` is.
fn filter_columns(image: &Raster, columns: Range<usize>, taps: &Taps, first: usize) -> Raster {
    let (c, height) = (image.channels(), taps.spans.len());
    let (stride, left) = (image.width() * c, columns.start * c);
    let mut data = vec![0; height * columns.len() * c];
    kernels::along_y(image.data(), stride, left, taps.kernel(), first, &mut data);
    Raster::from_parts(columns.len(), height, c, data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grey(width: usize, height: usize, data: &[u8]) -> Raster {
        Raster::new(width, height, 1, data.to_vec()).unwrap()
    }

    #[test]
    fn one_row_has_pillows_values() {
        // Image.fromarray([[0, 255, 0, 100, 200, 7, 90]]).resize((n, 1), filter) in Pillow 13.
        let row = [0, 255, 0, 100, 200, 7, 90];
        let cases: [(usize, Filter, &[u8]); 6] = [
            (3, Filter::Box, &[128, 100, 49]),
            (3, Filter::Bilinear, &[109, 104, 78]),
            (3, Filter::Bicubic, &[106, 106, 79]),
            (9, Filter::Box, &[0, 255, 255, 0, 100, 200, 7, 7, 90]),
            (9, Filter::Bilinear, &[0, 170, 142, 22, 100, 178, 93, 35, 90]),
            (9, Filter::Bicubic, &[0, 191, 157, 0, 100, 197, 90, 20, 94]),
        ];
        for (n, filter, expected) in cases {
            // The same numbers along x and along y.
            assert_eq!(resize(grey(7, 1, &row), n, 1, filter).data(), expected, "{filter:?} {n}");
            assert_eq!(resize(grey(1, 7, &row), 1, n, filter).data(), expected, "{filter:?} {n}");
        }
    }

    proptest! {
        #[test]
        fn a_window_equals_that_part_of_the_whole(
            (w, h, ow, oh) in (1usize..40, 1usize..40, 1usize..50, 1usize..50),
            (x0, x1, y0, y1) in (0.0..1.0, 0.0..1.0, 0.0..1.0, 0.0..1.0),
            seed in any::<u8>(),
            (filter, channels) in (0usize..3, prop_oneof![Just(1usize), Just(3)]),
        ) {
            let filter = [Filter::Box, Filter::Bilinear, Filter::Bicubic][filter];
            let data = (0..w * h * channels).map(|i| (i * 89 + usize::from(seed)) as u8).collect();
            let image = Raster::new(w, h, channels, data).unwrap();
            let range = |a: f64, b: f64, n: usize| {
                let start = (a.min(b) * n as f64) as usize;
                start..((a.max(b) * n as f64) as usize).max(start + 1)
            };
            let window = Window { x: range(x0, x1, ow), y: range(y0, y1, oh) };
            let whole = resize(image.clone(), ow, oh, filter);
            let part = resize_window(image, ow, oh, filter, &window);
            prop_assert_eq!(part, crop(whole, &window));
        }
    }
}
