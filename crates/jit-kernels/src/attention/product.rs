//! Small matrix products on packed operands, with the tiles of [`gemm`](crate::gemm).
//!
//! A left operand is stored in strips of MR rows, `[R/MR, K, MR]`, a right operand in panels of NR
//! columns, `[C/NR, K, NR]`. The product of all strips with one panel is `[R, NR]` row by row,
//! which is again the layout of a panel: the output of one product is the right operand of the
//! next without a copy.

use crate::{
    buffer::Buffer,
    cpu::Level,
    gemm::{
        MatRef,
        bf16::Format,
        strips,
        tile::{self, Tile, Update},
    },
    simd::simd_kernel,
};

/// The layouts of a level.
#[derive(Clone, Copy)]
pub struct Tiles {
    level: Level,
    /// Rows of a strip.
    pub mr: usize,
    /// Columns of a panel.
    pub nr: usize,
}

impl Tiles {
    pub fn of(level: Level) -> Self {
        let tile::TileShape { mr, nr } = tile::shape(level);
        Self { level, mr, nr }
    }

    /// `src` `[rows, cols]` as a left operand.
    pub fn left(self, src: &[f32], rows: usize, cols: usize) -> Buffer {
        self.pack(self.mr, MatRef::row_major(src, rows, cols))
    }

    /// `srcᵀ` as a left operand, `src` `[rows, cols]`.
    pub fn left_transposed(self, src: &[f32], rows: usize, cols: usize) -> Buffer {
        self.pack(self.mr, MatRef::row_major(src, rows, cols).transposed())
    }

    /// `src` `[rows, cols]` as a right operand.
    pub fn right(self, src: &[f32], rows: usize, cols: usize) -> Buffer {
        self.pack(self.nr, MatRef::row_major(src, rows, cols).transposed())
    }

    /// `srcᵀ` as a right operand, `src` `[rows, cols]`.
    pub fn right_transposed(self, src: &[f32], rows: usize, cols: usize) -> Buffer {
        self.pack(self.nr, MatRef::row_major(src, rows, cols))
    }

    fn pack(self, width: usize, src: MatRef<'_>) -> Buffer {
        let mut packed = Buffer::take(src.rows().next_multiple_of(width) * src.cols());
        strips::pack(Format::Plain, self.level, width, src, &mut packed);
        packed
    }
}

simd_kernel! {
    /// `c = left·panel`, or `c += left·panel` if `add`: `left` `[R/MR, depth, MR]`, `panel`
    /// `[depth, NR]`, and `c` R rows of NR values, `row_stride` apart.
    pub fn multiply(
        level; left: &[f32], panel: &[f32], depth: usize, c: &mut [f32], row_stride: usize,
        add: bool,
    ) = multiply_kernel;

    /// Writes a part of a left operand `[R/MR, depth, MR]`: its inner indices `first..first + cols`
    /// become the first `cols` columns of `src` `[R, NR]`.
    pub fn fill_left(
        level; src: &[f32], cols: usize, depth: usize, first: usize, left: &mut [f32],
    ) = fill_left_kernel;
}

#[inline(always)]
fn multiply_kernel<S: Tile>(
    s: S,
    left: &[f32],
    panel: &[f32],
    depth: usize,
    c: &mut [f32],
    row_stride: usize,
    add: bool,
) {
    let strips = left.chunks_exact(depth * S::MR);
    let last_row = (strips.len() * S::MR).saturating_sub(1);
    assert!(row_stride >= S::NR && c.len() >= last_row * row_stride + S::NR);
    assert_eq!(panel.len(), depth * S::NR);
    for (i, strip) in strips.enumerate() {
        let update = Update { read: add, bias: None, relu: false };
        // SAFETY: rows i·MR..(i + 1)·MR of the product lie in `c`, as just checked.
        unsafe {
            let c = c.as_mut_ptr().add(i * S::MR * row_stride);
            s.multiply(strip, panel, c, row_stride, update);
        }
    }
}

#[inline(always)]
fn fill_left_kernel<S: Tile>(
    _: S,
    src: &[f32],
    cols: usize,
    depth: usize,
    first: usize,
    left: &mut [f32],
) {
    let strips = left.chunks_exact_mut(depth * S::MR);
    for (rows, strip) in src.chunks_exact(S::MR * S::NR).zip(strips) {
        let strip = &mut strip[first * S::MR..][..cols * S::MR];
        for (c, to) in strip.chunks_exact_mut(S::MR).enumerate() {
            for (r, to) in to.iter_mut().enumerate() {
                *to = rows[r * S::NR + c];
            }
        }
    }
}
