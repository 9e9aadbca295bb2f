//! Matrix product `C = A·B` of `f32` matrices, after Goto and van de Geijn, "Anatomy of
//! High-Performance Matrix Multiplication" (2008), and BLIS.
//!
//! `B` is packed once into panels of [`Tile::NR`] columns, `A` block by block into strips of
//! [`Tile::MR`] rows; a strip times a panel is a tile of `C`, kept in registers
//! ([`tile`](self::tile)). Panels and strips are cut along the inner dimension, so
//! that a block of `A` stays in the second-level cache, and a panel too.
//!
//! **Every element of `C` has the same bits wherever and with whatever it is computed.** It is the
//! sum, in order, of one chain of multiply-adds per cut of the inner dimension, which depends on its row of
//! `A` and its column of `B` alone: not on the other rows and columns, since padding fills tiles up
//! at the edges, nor on threads, since they share out whole tiles.

pub(crate) mod bf16;
mod matrix;
mod pack;
pub mod plain;
pub(crate) mod strips;
pub(crate) mod tile;

pub use bf16::Precision;
pub use matrix::MatRef;
pub use pack::PackedB;

use crate::{buffer::Buffer, cpu::Level, par, simd::simd_kernel};
use bf16::{Format, multiply_block_as};
use tile::{Tile, TileShape, Update};

/// Slots of inner indices that one chain of multiply-adds spans at most ([`Format::chain`]). Most
/// layers need one or two, so that `C` is hardly ever read; panels stream from the second-level
/// cache, whose bandwidth a tile's few loads per multiply-add hardly use. Changing it changes
/// results in the last bits.
const KC: usize = 768;

/// `f32` slots of a packed block of `A`: 384 KiB, so that it stays in the second-level cache beside
/// a panel of `B`.
const A_BLOCK: usize = 96 << 10;

/// Rows of `A` packed at a time, at most.
const MC: usize = 384;

/// What becomes of the former contents of `C`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// `C = A·B`
    Overwrite,
    /// `C += A·B`
    Accumulate,
}

/// `c = a·b + bias` or `c += a·b + bias`: `a` is `[M, K]`, `b` `[K, N]`, `bias` `[N]`, and `c`
/// `[M, N]` row by row. Runs at the level and in the precision that `b` was packed for.
///
/// # Panics
/// If the shapes do not fit together.
pub fn gemm(a: MatRef<'_>, b: &PackedB, c: &mut [f32], store: Store, bias: Option<&[f32]>) {
    assert_eq!(c.len(), a.rows() * b.cols(), "length of C [{}, {}]", a.rows(), b.cols());
    if a.cols() == 0 {
        return empty_product(b.cols(), c, store, bias);
    }
    let target = Target { row_stride: b.cols(), col: 0, store, bias, relu: false };
    multiply(&a, b, c, target);
}

/// A left operand whose rows need not exist in memory: it is asked for them block by block.
pub(crate) trait Rows: Sync {
    /// `M`
    fn rows(&self) -> usize;
    /// `K`
    fn cols(&self) -> usize;
    /// Packs `rows × cols` values from `(row, col)` on into strips `[rows / MR, slots(cols), MR]`,
    /// zeros beyond the rows ([`strips::pack`]).
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
    );
}

impl Rows for MatRef<'_> {
    fn rows(&self) -> usize {
        MatRef::rows(self)
    }

    fn cols(&self) -> usize {
        MatRef::cols(self)
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
        strips::pack(format, level, mr, self.block(row, rows, col, cols), strips);
    }
}

/// Where a product goes and what happens to it on the way.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    /// Distance of two rows of `C`, at least `col + N`.
    pub row_stride: usize,
    /// `C`'s column that the product's first one goes to.
    pub col: usize,
    /// What becomes of the former contents.
    pub store: Store,
    /// `[N]`, added last.
    pub bias: Option<&'a [f32]>,
    /// Whether negative results become zero, after the bias.
    pub relu: bool,
}

/// The product of a left operand of any kind with at least one inner index.
pub(crate) fn multiply(a: &impl Rows, b: &PackedB, c: &mut [f32], target: Target<'_>) {
    let (m, k, n) = (a.rows(), a.cols(), b.cols());
    assert_eq!(k, b.rows(), "inner dimensions of A and B");
    assert!(k > 0, "some inner indices");
    assert!(target.col + n <= target.row_stride, "columns of C");
    assert!(m == 0 || (m - 1) * target.row_stride + target.col + n <= c.len(), "length of C");
    if let Some(bias) = target.bias {
        assert_eq!(bias.len(), n, "length of the bias");
    }
    if m == 0 || n == 0 {
        return;
    }
    let (shape, format) = (b.shape(), b.format());
    let chain = format.chain(k);
    let most_rows = (A_BLOCK / format.slots(chain)).min(MC);
    let b_is_small = format.slots(k) * n <= A_BLOCK;
    let grid = Grid::new(m, n, shape, most_rows, b_is_small, rayon::current_num_threads());
    let c = Start(c.as_mut_ptr());
    par::for_each_index(grid.len(), m * n * k, |i| {
        let (rows, cols) = grid.area(i);
        let padded = rows.len.next_multiple_of(shape.mr);
        let mut strips = Buffer::take(padded * format.slots(chain));
        for k0 in (0..k).step_by(chain) {
            let kc = chain.min(k - k0);
            let strips = &mut strips[..padded * format.slots(kc)];
            a.pack(format, b.level(), shape.mr, rows.start, rows.len, k0, kc, strips);
            let last = k0 + kc == k;
            multiply_block_as(
                format,
                b.level(),
                &Block {
                    strips,
                    panels: b.panels(k0, cols.start, cols.len),
                    slots: format.slots(kc),
                    rows: rows.len,
                    cols: cols.len,
                    // SAFETY: the area lies in C, whose length was checked.
                    c: unsafe { c.at(rows.start * target.row_stride + target.col + cols.start) },
                    row_stride: target.row_stride,
                    read: k0 > 0 || target.store == Store::Accumulate,
                    bias: target.bias.filter(|_| last).map(|bias| &bias[cols.start..][..cols.len]),
                    relu: target.relu && last,
                },
            );
        }
    });
}

/// The product over no inner indices: zero, plus the bias.
fn empty_product(n: usize, c: &mut [f32], store: Store, bias: Option<&[f32]>) {
    if store == Store::Overwrite {
        c.fill(0.0);
    }
    if let Some(bias) = bias {
        c.chunks_mut(n).for_each(|row| row.iter_mut().zip(bias).for_each(|(c, b)| *c += b));
    }
}

/// The start of `C`, of which every thread writes areas of its own.
struct Start(*mut f32);

// SAFETY: the areas are disjoint, and `multiply` holds C's exclusive borrow until all are written.
unsafe impl Sync for Start {}

impl Start {
    /// # Safety
    /// `offset` lies in `C`.
    unsafe fn at(&self, offset: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(offset) }
    }
}

/// Consecutive rows or columns.
struct Span {
    start: usize,
    len: usize,
}

/// The areas that the threads share out: blocks of rows times groups of columns.
struct Grid {
    rows: usize,
    cols: usize,
    row_block: usize,
    col_group: usize,
}

impl Grid {
    /// Whole rows of blocks where there are enough to occupy all threads evenly, since each area
    /// packs its rows of `A` for itself; more of them where `B` is small enough to come from the
    /// second-level cache for each; else groups of at least eight panels, then fewer rows.
    fn new(
        rows: usize,
        cols: usize,
        shape: TileShape,
        most_rows: usize,
        b_is_small: bool,
        threads: usize,
    ) -> Grid {
        let enough = if threads == 1 { 1 } else { 3 * threads };
        let even =
            |total: usize, parts: usize, unit: usize| total.div_ceil(parts).next_multiple_of(unit);
        let mut row_blocks = rows.div_ceil(most_rows);
        if b_is_small {
            row_blocks = row_blocks.max(enough.min(rows / (8 * shape.mr)));
        }
        let most_groups = cols.div_ceil(8 * shape.nr);
        let col_groups = enough.div_ceil(row_blocks).min(most_groups);
        // Few rows are shared out as evenly as strips allow.
        let fewest_rows = rows.div_ceil(2 * shape.mr).max(row_blocks);
        let row_blocks = row_blocks
            .max(enough.div_ceil(col_groups))
            .min(rows.div_ceil(4 * shape.mr).max(row_blocks).next_multiple_of(threads))
            .min(fewest_rows);
        let most_rows = (most_rows / shape.mr).max(1) * shape.mr;
        Grid {
            rows,
            cols,
            row_block: even(rows, row_blocks, shape.mr).min(most_rows),
            col_group: even(cols, col_groups, shape.nr),
        }
    }

    fn len(&self) -> usize {
        self.rows.div_ceil(self.row_block) * self.cols.div_ceil(self.col_group)
    }

    /// The rows and columns of area `i`.
    fn area(&self, i: usize) -> (Span, Span) {
        let groups = self.cols.div_ceil(self.col_group);
        let span = |index: usize, size: usize, total: usize| {
            let start = index * size;
            Span { start, len: size.min(total - start) }
        };
        (span(i / groups, self.row_block, self.rows), span(i % groups, self.col_group, self.cols))
    }
}

/// A packed block of `A` times some panels of `B`, over inner indices that take `slots`.
struct Block<'a> {
    /// `[rows / MR, slots, MR]`
    strips: &'a [f32],
    /// `[cols / NR, slots, NR]`
    panels: &'a [f32],
    slots: usize,
    rows: usize,
    cols: usize,
    /// `rows × cols` values of `C`, rows `row_stride` apart; all of them this block's to write.
    c: *mut f32,
    row_stride: usize,
    /// Whether to add to `C`'s values.
    read: bool,
    /// `[cols]`, added last.
    bias: Option<&'a [f32]>,
    /// Whether negative results become zero.
    relu: bool,
}

simd_kernel! {
    fn multiply_block(level; block: &Block<'_>) = multiply_block_kernel;
}

/// Panel by panel, so that each is fetched into the first-level cache once.
#[inline(always)]
fn multiply_block_kernel<S: Tile>(s: S, block: &Block<'_>) {
    let mut edge = [0.0; tile::MAX_AREA];
    let mut bias = [0.0; tile::MAX_NR];
    for (j, panel) in block.panels.chunks_exact(block.slots * S::NR).enumerate() {
        let col = j * S::NR;
        let cols = S::NR.min(block.cols - col);
        if let Some(values) = block.bias {
            bias[..cols].copy_from_slice(&values[col..col + cols]);
        }
        let bias = block.bias.map(|_| &bias[..S::NR]);
        let update = Update { read: block.read, bias, relu: block.relu };
        for (i, strip) in block.strips.chunks_exact(block.slots * S::MR).enumerate() {
            let row = i * S::MR;
            let rows = S::MR.min(block.rows - row);
            // SAFETY: row and column lie in the block.
            let c = unsafe { block.c.add(row * block.row_stride + col) };
            if rows == S::MR && cols == S::NR {
                // SAFETY: the whole tile lies in the block.
                unsafe { s.multiply(strip, panel, c, block.row_stride, update) };
                continue;
            }
            // At the edges the same code runs on a whole tile of scratch.
            for r in 0..rows {
                // SAFETY: `rows × cols` values from `c` on lie in the block, which only this
                // thread touches; the scratch has MR × NR values.
                unsafe {
                    edge.as_mut_ptr().add(r * S::NR).copy_from(c.add(r * block.row_stride), cols)
                };
            }
            // SAFETY: the scratch has MR × NR values.
            unsafe { s.multiply(strip, panel, edge.as_mut_ptr(), S::NR, update) };
            for r in 0..rows {
                // SAFETY: as above.
                unsafe { edge.as_ptr().add(r * S::NR).copy_to(c.add(r * block.row_stride), cols) };
            }
        }
    }
}

#[cfg(test)]
mod tests;
