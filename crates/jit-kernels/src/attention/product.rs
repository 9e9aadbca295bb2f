//! Small matrix products on packed operands, with the tiles of [`gemm`](crate::gemm).
//!
//! A left operand is stored in strips of MR rows, `[R/MR, slots(K), MR]`, a right operand in panels
//! of NR columns, `[C/NR, slots(K), NR]`. The product of all strips with one panel is `[R, NR]` row
//! by row, which is again the layout of a panel: the output of one product becomes the right operand
//! of the next where it lies ([`Tiles::panel`]).

use crate::{
    buffer::Buffer,
    cpu::{Isa, Level},
    gemm::{
        MatRef, Precision,
        bf16::{self, Format},
        strips,
        tile::{self, Tile, Update},
    },
    simd::{MAX_LANES, Simd, simd_kernel},
};

/// The layouts of a level's products in some precision.
#[derive(Clone, Copy)]
pub struct Tiles {
    level: Level,
    format: Format,
    /// Rows of a strip.
    pub mr: usize,
    /// Columns of a panel.
    pub nr: usize,
}

impl Tiles {
    pub fn of(level: Level, precision: Precision) -> Self {
        let tile::TileShape { mr, nr } = tile::shape(level);
        Self { level, format: Format::of(level, precision), mr, nr }
    }

    /// Slots that `depth` inner indices take.
    pub fn slots(self, depth: usize) -> usize {
        self.format.slots(depth)
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
        let mut packed = Buffer::take(src.rows().next_multiple_of(width) * self.slots(src.cols()));
        strips::pack(self.format, self.level, width, src, &mut packed);
        packed
    }

    /// Turns `values` `[depth, NR]` into the panel of a right operand, `[slots(depth), NR]`, which is
    /// the start of the same memory.
    pub fn panel(self, values: &mut [f32]) -> &[f32] {
        match (self.format, self.level.isa()) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a `Level` exists only on machines that have its instructions.
            (Format::Pairs, Isa::Avx512Bf16) => unsafe { pair_rows(self.nr, values) },
            (Format::Pairs, _) => unreachable!("only one level multiplies pairs"),
            (Format::Rounded, _) => bf16::round(self.level, values),
            (Format::Plain, _) => {}
        }
        &values[..self.slots(values.len() / self.nr) * self.nr]
    }

    /// Writes a part of a left operand `[R/MR, slots, MR]`: its inner indices `first..first + cols`
    /// become the first `cols` columns of `src` `[R, NR]`; `first` is a multiple of NR.
    pub fn fill_left(self, src: &[f32], cols: usize, first: usize, slots: usize, left: &mut [f32]) {
        let (mr, nr) = (self.mr, self.nr);
        let part = self.slots(first) * mr..(self.slots(first) + self.slots(cols)) * mr;
        for (rows, strip) in src.chunks_exact(mr * nr).zip(left.chunks_exact_mut(slots * mr)) {
            let rows = MatRef::row_major(rows, mr, nr).block(0, mr, 0, cols);
            strips::pack(self.format, self.level, mr, rows, &mut strip[part.clone()]);
        }
    }

    /// `c = left·panel`, or `c += left·panel` if `add`: `left` `[R/MR, slots, MR]`, `panel`
    /// `[slots, NR]`, and `c` R rows of NR values, `row_stride` apart.
    pub fn multiply(
        self,
        left: &[f32],
        panel: &[f32],
        c: &mut [f32],
        row_stride: usize,
        add: bool,
    ) {
        match (self.format, self.level.isa()) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a `Level` exists only on machines that have its instructions.
            (Format::Pairs, Isa::Avx512Bf16) => unsafe {
                multiply_pairs(left, panel, c, row_stride, add);
            },
            _ => multiply_values(self.level, left, panel, c, row_stride, add),
        }
    }

    /// The first `rows` rows of `src` `[rows, NR]` as columns: `out` NR rows of as many values,
    /// `stride` apart.
    pub fn transpose(self, src: &[f32], rows: usize, out: &mut [f32], stride: usize) {
        transpose(self.level, src, rows, self.nr, out, stride);
    }
}

simd_kernel! {
    fn multiply_values(
        level; left: &[f32], panel: &[f32], c: &mut [f32], row_stride: usize, add: bool,
    ) = multiply_kernel;

    fn transpose(
        level; src: &[f32], rows: usize, nr: usize, out: &mut [f32], stride: usize,
    ) = transpose_kernel;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply_pairs(left: &[f32], panel: &[f32], c: &mut [f32], row_stride: usize, add: bool) {
    multiply_kernel(crate::simd::Avx512Bf16::here(), left, panel, c, row_stride, add);
}

/// Rows 2i and 2i + 1 of `values` `[depth, NR]`, rounded, become row i of pairs.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn pair_rows(nr: usize, values: &mut [f32]) {
    let s = crate::simd::Avx512Bf16::here();
    let mut pairs = [0.0; tile::MAX_NR];
    let zeros = [0.0; tile::MAX_NR];
    for slot in 0..(values.len() / nr).div_ceil(2) {
        let (low, rest) = values[2 * slot * nr..].split_at(nr);
        let high = if rest.len() >= nr { &rest[..nr] } else { &zeros[..nr] };
        s.zip_pairs(low, high, &mut pairs[..nr]);
        values[slot * nr..][..nr].copy_from_slice(&pairs[..nr]);
    }
}

#[inline(always)]
fn multiply_kernel<S: Tile>(
    s: S,
    left: &[f32],
    panel: &[f32],
    c: &mut [f32],
    row_stride: usize,
    add: bool,
) {
    let slots = panel.len() / S::NR;
    let strips = left.chunks_exact(slots * S::MR);
    let last_row = (strips.len() * S::MR).saturating_sub(1);
    assert!(row_stride >= S::NR && c.len() >= last_row * row_stride + S::NR);
    assert!(panel.len().is_multiple_of(S::NR) && left.len().is_multiple_of(slots * S::MR));
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
fn transpose_kernel<S: Simd>(
    s: S,
    src: &[f32],
    rows: usize,
    nr: usize,
    out: &mut [f32],
    stride: usize,
) {
    let blocks = rows / S::LANES * S::LANES;
    assert!(nr.is_multiple_of(S::LANES) && stride >= rows);
    assert!(src.len() >= rows * nr && out.len() >= (nr - 1) * stride + rows);
    for row in (0..blocks).step_by(S::LANES) {
        for col in (0..nr).step_by(S::LANES) {
            let mut columns = [s.splat(0.0); MAX_LANES];
            for (i, column) in columns[..S::LANES].iter_mut().enumerate() {
                *column = s.load(&src[(row + i) * nr + col..]);
            }
            // SAFETY: rows `col..col + LANES` of `out`, values `row..row + LANES` of each.
            unsafe {
                s.store_transposed(&columns, out.as_mut_ptr().add(col * stride + row), stride)
            };
        }
    }
    for row in blocks..rows {
        for col in 0..nr {
            out[col * stride + row] = src[row * nr + col];
        }
    }
}
