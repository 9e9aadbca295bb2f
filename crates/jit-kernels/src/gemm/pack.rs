//! The right operand, packed once for many products.

use super::{
    MatRef,
    bf16::{Format, Precision},
    strips,
    tile::{self, TileShape},
};
use crate::{
    buffer::Buffer,
    cpu::{self, Level},
    par,
};

/// Panels packed together at most: enough columns for whole cache lines and pages of a row-major
/// source.
const PANELS_AT_ONCE: usize = 8;

/// A matrix `B [K, N]` in panels, `[K / chain, N / NR, slots(chain), NR]`, with zeros in columns
/// beyond `N`.
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
        let chain = format.chain(rows);
        // Fewer where the threads would have less than two pieces each.
        let shares = 2 * rayon::current_num_threads();
        let at_once = cols.div_ceil(nr).div_ceil(shares).clamp(1, PANELS_AT_ONCE);
        for k0 in (0..rows).step_by(chain) {
            let kc = chain.min(rows - k0);
            let slots = format.slots(kc);
            let panels = &mut data[format.slots(k0) * row_of_panels..][..slots * row_of_panels];
            par::for_each_chunk(panels, at_once * nr * slots, kc * cols, |i, panels| {
                let col = i * at_once * nr;
                let width = (at_once * nr).min(cols - col);
                let columns = b.block(k0, kc, col, width).transposed();
                strips::pack(format, level, nr, columns, panels);
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
    /// multiple of NR, `k0` of the chain's length.
    pub(super) fn panels(&self, k0: usize, col: usize, cols: usize) -> &[f32] {
        let nr = self.shape().nr;
        let slots = self.format.slots(self.format.chain(self.rows).min(self.rows - k0));
        let start = self.format.slots(k0) * self.cols.next_multiple_of(nr) + slots * col;
        &self.data[start..][..slots * cols.next_multiple_of(nr)]
    }
}
