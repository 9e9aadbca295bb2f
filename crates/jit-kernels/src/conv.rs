//! Convolution of images `[B, H, W, C]`, channels last, as one matrix product whose left operand is
//! never written down: its rows, the patches of the outputs, are packed straight from the image
//! (Chetlur et al. 2014, "cuDNN", section 3).

pub mod plain;

use crate::{
    cpu::Level,
    gemm::{MatRef, PackedB, Precision, Rows, Store, Target, bf16::Format, multiply},
    simd::{MAX_LANES, Simd, simd_kernel},
};

/// The geometry of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Images B.
    pub batch: usize,
    /// Height H of an image.
    pub height: usize,
    /// Width W of an image.
    pub width: usize,
    /// Channels C of an image.
    pub channels: usize,
    /// Height and width of the filters.
    pub kernel: [usize; 2],
    /// Distance of two patches, both ways.
    pub stride: usize,
    /// Zeros above and below, left and right of an image.
    pub padding: [usize; 2],
}

impl ConvShape {
    /// Height and width of the output.
    pub fn output(&self) -> [usize; 2] {
        let extent = |size: usize, axis: usize| {
            (size + 2 * self.padding[axis] - self.kernel[axis]) / self.stride + 1
        };
        [extent(self.height, 0), extent(self.width, 1)]
    }

    /// Values of a patch, kh·kw·C.
    pub fn patch(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.channels
    }

    fn values(&self) -> usize {
        self.batch * self.height * self.width * self.channels
    }

    fn check(&self, x: &[f32]) {
        assert_eq!(x.len(), self.values(), "conv: an input of {self:?}");
        let fits = self.height + 2 * self.padding[0] >= self.kernel[0]
            && self.width + 2 * self.padding[1] >= self.kernel[1];
        assert!(fits && self.stride > 0 && self.patch() > 0, "conv: {self:?}");
    }
}

/// The filters of a convolution with their bias, packed.
#[derive(Clone, Debug)]
pub struct Filters {
    panels: PackedB,
    bias: Vec<f32>,
}

impl Filters {
    /// `filters` `[O, kh, kw, C]` and `bias` `[O]`.
    ///
    /// # Panics
    /// If the length is no multiple of the outputs.
    pub fn new(filters: &[f32], bias: Vec<f32>) -> Self {
        let outputs = bias.len();
        let matrix = MatRef::row_major(filters, outputs, filters.len() / outputs.max(1));
        Self { panels: PackedB::new(matrix.transposed(), Precision::F32), bias }
    }

    /// Number of outputs, O.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }
}

/// `y[…, first..first + O] = relu(conv(x) + bias)`: `x` `[B, H, W, C]`, `y` `[B, H', W', channels]`,
/// of which the other channels keep their values, so that branches write side by side.
///
/// # Panics
/// If the lengths do not fit together.
pub fn conv_relu(
    x: &[f32],
    shape: ConvShape,
    filters: &Filters,
    y: &mut [f32],
    channels: usize,
    first: usize,
) {
    shape.check(x);
    let [height, width] = shape.output();
    assert_eq!(y.len(), shape.batch * height * width * channels, "conv: an output of {shape:?}");
    let bias = Some(&filters.bias[..]);
    let (store, relu) = (Store::Overwrite, true);
    let target = Target { row_stride: channels, col: first, store, bias, relu };
    let pointwise = shape.kernel == [1, 1] && shape.stride == 1 && shape.padding == [0, 0];
    match pointwise {
        true => {
            let pixels = MatRef::row_major(x, height * width * shape.batch, shape.channels);
            multiply(&pixels, &filters.panels, y, target);
        }
        false => multiply(&Patches { x, shape }, &filters.panels, y, target),
    }
}

/// The matrix `[B·H'·W', kh·kw·C]` of patches.
struct Patches<'a> {
    x: &'a [f32],
    shape: ConvShape,
}

impl Rows for Patches<'_> {
    fn rows(&self) -> usize {
        let [height, width] = self.shape.output();
        self.shape.batch * height * width
    }

    fn cols(&self) -> usize {
        self.shape.patch()
    }

    fn pack(
        &self,
        format: Format,
        level: Level,
        mr: usize,
        row: usize,
        rows: usize,
        col: usize,
        cols: usize,
        strips: &mut [f32],
    ) {
        assert_eq!(format, Format::Plain, "filters are packed in f32");
        let span = Span { row, rows, col, cols };
        pack_patches(level, mr, self, span, strips);
    }
}

simd_kernel! {
    fn pack_patches(level; mr: usize, patches: &Patches<'_>, span: Span, strips: &mut [f32])
        = pack_patches_kernel;
}

#[inline(always)]
fn pack_patches_kernel<S: Simd>(
    s: S,
    mr: usize,
    patches: &Patches<'_>,
    span: Span,
    strips: &mut [f32],
) {
    match mr {
        4 => pack_strips::<S, 4>(s, patches, span, strips),
        6 => pack_strips::<S, 6>(s, patches, span, strips),
        8 => pack_strips::<S, 8>(s, patches, span, strips),
        12 => pack_strips::<S, 12>(s, patches, span, strips),
        _ => unreachable!("no tile has {mr} rows"),
    }
}

/// A block of the matrix of patches.
#[derive(Clone, Copy)]
struct Span {
    row: usize,
    rows: usize,
    col: usize,
    cols: usize,
}

/// Strips one after the other, each from its first inner index to its last: what a vector writes
/// beyond the lanes of a strip is written over by what comes next.
#[inline(always)]
fn pack_strips<S: Simd, const MR: usize>(
    s: S,
    patches: &Patches<'_>,
    span: Span,
    strips: &mut [f32],
) {
    let channels = patches.shape.channels;
    for first in (0..span.rows).step_by(MR) {
        let start = first * span.cols;
        let count = MR.min(span.rows - first);
        let mut corners = [Corner { image: 0, y: 0, x: 0 }; MR];
        for (lane, corner) in corners[..count].iter_mut().enumerate() {
            *corner = patches.corner(span.row + first + lane);
        }
        // Runs of channels that lie side by side in the image.
        let mut col = span.col;
        while col < span.col + span.cols {
            let (tap, channel) = (col / channels, col % channels);
            let run = (channels - channel).min(span.col + span.cols - col);
            let mut sources = [None; MR];
            for (source, corner) in sources[..count].iter_mut().zip(corners) {
                *source = patches.tap(corner, tap, channel, run);
            }
            let out = &mut strips[start + (col - span.col) * MR..];
            interleave::<S, MR>(s, sources, run, out);
            col += run;
        }
    }
}

impl Patches<'_> {
    /// Where the patch of an output starts; above and left of the image where it is padded.
    #[inline(always)]
    fn corner(&self, row: usize) -> Corner {
        let [height, width] = self.shape.output();
        let (image, y, x) = (row / (height * width), row / width % height, row % width);
        let at = |i: usize, axis: usize| {
            (i * self.shape.stride) as isize - self.shape.padding[axis] as isize
        };
        Corner { image, y: at(y, 0), x: at(x, 1) }
    }

    /// `run` channels of a pixel of a patch, or `None` in the padding.
    #[inline(always)]
    fn tap(&self, corner: Corner, tap: usize, channel: usize, run: usize) -> Option<&[f32]> {
        let s = &self.shape;
        let (y, x) = (
            usize::try_from(corner.y + (tap / s.kernel[1]) as isize).ok()?,
            usize::try_from(corner.x + (tap % s.kernel[1]) as isize).ok()?,
        );
        if y >= s.height || x >= s.width {
            return None;
        }
        let start = ((corner.image * s.height + y) * s.width + x) * s.channels + channel;
        Some(&self.x[start..start + run])
    }
}

/// The first pixel of a patch.
#[derive(Clone, Copy)]
struct Corner {
    image: usize,
    y: isize,
    x: isize,
}

/// `out[c][lane] = sources[lane][c]` for `run` channels c, zero where there is no source. Vectors of
/// channels are turned in registers, and may stick out into what follows in `out`.
#[inline(always)]
fn interleave<S: Simd, const MR: usize>(
    s: S,
    sources: [Option<&[f32]>; MR],
    run: usize,
    out: &mut [f32],
) {
    let mut done = 0;
    while done + S::LANES <= run {
        // The last lanes first, since they are what sticks out.
        for lane in (0..MR).step_by(S::LANES).rev() {
            let at = done * MR + lane;
            if at + (S::LANES - 1) * MR + S::LANES > out.len() {
                return interleave_rest::<MR>(&sources, done, run, out);
            }
            let mut columns = [s.splat(0.0); MAX_LANES];
            for i in 0..S::LANES.min(MR - lane) {
                if let Some(source) = sources[lane + i] {
                    columns[i] = s.load(&source[done..]);
                }
            }
            // SAFETY: the last of the rows of the transposed block ends within `out`.
            unsafe { s.store_transposed(&columns, out.as_mut_ptr().add(at), MR) };
        }
        done += S::LANES;
    }
    interleave_rest::<MR>(&sources, done, run, out);
}

/// The channels from `done` on, one by one.
#[inline(always)]
fn interleave_rest<const MR: usize>(
    sources: &[Option<&[f32]>; MR],
    done: usize,
    run: usize,
    out: &mut [f32],
) {
    for (lane, source) in sources.iter().enumerate() {
        for c in done..run {
            out[c * MR + lane] = source.map_or(0.0, |source| source[c]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{assert_close, on_one_and_two_threads, random};

    fn filters(seed: u64, shape: &ConvShape, outputs: usize) -> (Vec<f32>, Vec<f32>) {
        (random(seed, outputs * shape.patch()), random(seed ^ 9, outputs))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn it_matches_its_plain_twin(
            (batch, height, width) in (1usize..3, 1usize..12, 1usize..12),
            channels in prop_oneof![1usize..5, 30usize..70],
            outputs in prop_oneof![1usize..6, 14usize..36],
            kernel in prop::sample::select(vec![[1, 1], [3, 3], [5, 5], [1, 7], [7, 1], [2, 2]]),
            stride in 1usize..3,
            padded: bool,
            (extra, first) in (0usize..5, 0usize..5),
            seed: u64,
        ) {
            let padding = if padded { kernel.map(|k| k / 2) } else { [0, 0] };
            let shape = ConvShape { batch, height, width, channels, kernel, stride, padding };
            prop_assume!(height + 2 * padding[0] >= kernel[0] && width + 2 * padding[1] >= kernel[1]);
            let x = random(seed, shape.values());
            let (weights, bias) = filters(seed ^ 1, &shape, outputs);
            let [h, w] = shape.output();
            let all = first + outputs + extra;
            let mut want = random(seed ^ 2, batch * h * w * all);
            let fresh = want.clone();
            plain::conv_relu(&x, shape, &weights, &bias, &mut want, all, first);
            let matrix = MatRef::row_major(&weights, outputs, shape.patch()).transposed();
            for level in Level::all() {
                let panels = PackedB::at_level(level, matrix, Precision::F32);
                let mut have = fresh.clone();
                let filters = Filters { panels, bias: bias.clone() };
                conv_relu(&x, shape, &filters, &mut have, all, first);
                assert_close(&have, &want, 3e-6);
            }
        }
    }

    #[test]
    fn images_have_the_same_bits_alone_and_on_any_number_of_threads() {
        let shape = ConvShape {
            batch: 3,
            height: 20,
            width: 17,
            channels: 40,
            kernel: [3, 3],
            stride: 1,
            padding: [1, 1],
        };
        let x = random(1, shape.values());
        let (weights, bias) = filters(2, &shape, 30);
        let filters = Filters::new(&weights, bias);
        let run = |shape: ConvShape, x: &[f32]| {
            let [h, w] = shape.output();
            let mut y = vec![0.0; shape.batch * h * w * 30];
            conv_relu(x, shape, &filters, &mut y, 30, 0);
            y
        };
        let [one, two] = on_one_and_two_threads(|| run(shape, &x));
        assert_eq!(one, two);
        let alone = ConvShape { batch: 1, ..shape };
        let parts: Vec<f32> = x.chunks(x.len() / 3).flat_map(|x| run(alone, x)).collect();
        assert_eq!(one, parts);
    }
}
