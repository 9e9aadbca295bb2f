//! Copies of matrices in the order in which the tile kernel reads them.

use super::{
    KC, MatRef,
    bf16::{Format, Precision, pack_as},
    tile::{self, TileShape},
};
use crate::{
    buffer::Buffer,
    cpu::{self, Level},
    par,
    simd::{Simd, simd_kernel},
};

/// Panels packed together: enough columns for whole cache lines and pages of a row-major source.
const PANELS_AT_ONCE: usize = 8;

/// Inner indices packed together where they are the rows of the source.
const DEPTH_AT_ONCE: usize = 8;

/// A matrix `B [K, N]` in panels: `[K / KC, N / NR, KC, NR]`, with zeros in columns beyond `N`.
/// As bfloat16 pairs, a panel is `[KC / 2, NR]` of them.
#[derive(Clone, Debug)]
pub struct PackedB {
    data: Buffer,
    rows: usize,
    cols: usize,
    level: Level,
    format: Format,
}

impl PackedB {
    /// `b`, packed for [`cpu::level`].
    pub fn new(b: MatRef<'_>, precision: Precision) -> PackedB {
        PackedB::at_level(cpu::level(), b, precision)
    }

    /// `b`, packed for products at `level`.
    pub fn at_level(level: Level, b: MatRef<'_>, precision: Precision) -> PackedB {
        let format = Format::of(level, precision);
        let (rows, cols) = (b.rows(), b.cols());
        let nr = tile::shape(level).nr;
        let row_of_panels = cols.next_multiple_of(nr);
        let mut data = Buffer::take(format.slots(rows) * row_of_panels);
        for k0 in (0..rows).step_by(KC) {
            let kc = KC.min(rows - k0);
            let slots = format.slots(kc);
            let panels = &mut data[format.slots(k0) * row_of_panels..][..slots * row_of_panels];
            par::for_each_chunk(panels, PANELS_AT_ONCE * nr * slots, kc * cols, |i, panels| {
                let col = i * PANELS_AT_ONCE * nr;
                let width = (PANELS_AT_ONCE * nr).min(cols - col);
                let columns = b.block(k0, kc, col, width).transposed();
                pack_as(format, level, nr, columns, panels);
            });
        }
        PackedB { data, rows, cols, level, format }
    }

    /// `K`
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// `N`
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The level whose products take this packing.
    pub fn level(&self) -> Level {
        self.level
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    pub(super) fn shape(&self) -> TileShape {
        tile::shape(self.level)
    }

    /// The panels of columns `col..col + cols`, inner indices from `k0` to the next cut; `col` is a
    /// multiple of NR, `k0` of KC.
    pub(super) fn panels(&self, k0: usize, col: usize, cols: usize) -> &[f32] {
        let nr = self.shape().nr;
        let slots = self.format.slots(KC.min(self.rows - k0));
        let start = self.format.slots(k0) * self.cols.next_multiple_of(nr) + slots * col;
        &self.data[start..][..slots * cols.next_multiple_of(nr)]
    }
}

/// Packs `src [R, K]` into strips of `width` rows, `[R / width, K, width]`, with zeros for rows
/// beyond `R`. Panels of `B` are strips of its transpose.
pub fn pack(level: Level, width: usize, src: MatRef<'_>, strips: &mut [f32]) {
    assert_eq!(strips.len(), src.rows().next_multiple_of(width) * src.cols());
    pack_strips(level, width, src, strips);
}

simd_kernel! {
    fn pack_strips(level; width: usize, src: MatRef<'_>, strips: &mut [f32]) = pack_kernel;
}

#[inline(always)]
fn pack_kernel<S: Simd>(_: S, width: usize, src: MatRef<'_>, strips: &mut [f32]) {
    // Widths known at compile time make copies of a few values as cheap as they look.
    match width {
        4 => pack_width::<4>(src, strips),
        6 => pack_width::<6>(src, strips),
        8 => pack_width::<8>(src, strips),
        12 => pack_width::<12>(src, strips),
        16 => pack_width::<16>(src, strips),
        32 => pack_width::<32>(src, strips),
        _ => unreachable!("no tile is {width} wide"),
    }
}

#[inline(always)]
fn pack_width<const W: usize>(src: MatRef<'_>, strips: &mut [f32]) {
    let depth = src.cols();
    let whole = src.rows() / W;
    let (full, last) = strips.split_at_mut(whole * W * depth);
    let by_depth = src.transposed();
    if by_depth.row(0).is_some() {
        // Some inner indices at a time: a strip's part of them is whole cache lines, which one visit
        // fills, and their rows are few enough to be read along side by side.
        for k0 in (0..depth).step_by(DEPTH_AT_ONCE) {
            let rows = DEPTH_AT_ONCE.min(depth - k0);
            for strip in 0..whole {
                let out = &mut full[(strip * depth + k0) * W..][..rows * W];
                for (k, out) in out.chunks_exact_mut(W).enumerate() {
                    let Some(values) = by_depth.row(k0 + k) else { return };
                    out.copy_from_slice(&values[strip * W..strip * W + W]);
                }
            }
        }
        for (k, out) in last.chunks_exact_mut(W).enumerate() {
            let Some(values) = by_depth.row(k) else { return };
            let (values, rest) = (&values[whole * W..], out);
            rest[..values.len()].copy_from_slice(values);
            rest[values.len()..].fill(0.0);
        }
    } else {
        last.fill(0.0);
        for row in 0..src.rows() {
            let Some(values) = src.row(row) else { return };
            let strip = if row < whole * W { &mut full[row / W * depth * W..] } else { &mut *last };
            for (out, value) in strip.chunks_exact_mut(W).zip(values) {
                out[row % W] = *value;
            }
        }
    }
}
