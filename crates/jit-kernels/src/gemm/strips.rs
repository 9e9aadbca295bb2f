//! Copies of matrices in the order in which the tile kernel reads them: strips of a few rows, all
//! values of one inner index side by side.

use super::{MatRef, bf16};
use crate::{
    cpu::{Isa, Level},
    gemm::bf16::Format,
    simd::{MAX_LANES, Simd, simd_kernel},
};

/// Slots filled together where the inner indices are the rows of the source.
const SLOTS_AT_ONCE: usize = 8;

/// Packs `src` `[R, K]` into strips of `width` rows, `[R / width, slots(K), width]`, with zeros for
/// rows beyond `R`. Panels of `B` are strips of its transpose.
///
/// # Panics
/// If the strips do not have that length.
pub fn pack(format: Format, level: Level, width: usize, src: MatRef<'_>, strips: &mut [f32]) {
    assert_eq!(strips.len(), src.rows().next_multiple_of(width) * format.slots(src.cols()));
    match (format, level.isa()) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a `Level` exists only on machines that have its instructions.
        (Format::Pairs, Isa::Avx512Bf16) => unsafe { pack_pairs(width, src, strips) },
        (Format::Pairs, _) => unreachable!("only one level multiplies pairs"),
        (Format::Plain, _) => pack_values(level, width, src, strips),
        (Format::Rounded, _) => {
            pack_values(level, width, src, strips);
            bf16::round(level, strips);
        }
    }
}

simd_kernel! {
    fn pack_values(level; width: usize, src: MatRef<'_>, strips: &mut [f32]) = pack_values_kernel;
}

#[inline(always)]
fn pack_values_kernel<S: Simd>(s: S, width: usize, src: MatRef<'_>, strips: &mut [f32]) {
    pack_kernel::<S, Value>(s, width, src, strips);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn pack_pairs(width: usize, src: MatRef<'_>, strips: &mut [f32]) {
    pack_kernel::<_, Pair>(crate::simd::Avx512Bf16::here(), width, src, strips);
}

/// What a slot of a strip holds, in the bits of an `f32`.
trait Slot<S: Simd> {
    /// Inner indices in a slot.
    const DEPTH: usize;

    /// Slots of `LANES · DEPTH` neighbours.
    ///
    /// # Safety
    /// `src` is valid for reading as many values.
    unsafe fn load(s: S, src: *const f32) -> S::V;

    /// The slot of `DEPTH` neighbours; beyond the end they are zero.
    fn of(values: &[f32]) -> f32;

    /// Slots of the inner indices `k..k + DEPTH` for as many rows of `src` as `out` has values, from
    /// `row` on. The columns of `src` are contiguous.
    fn gather(s: S, src: MatRef<'_>, row: usize, k: usize, out: &mut [f32]);
}

/// An `f32`.
struct Value;

impl<S: Simd> Slot<S> for Value {
    const DEPTH: usize = 1;

    #[inline(always)]
    unsafe fn load(s: S, src: *const f32) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { s.load_ptr(src) }
    }

    #[inline(always)]
    fn of(values: &[f32]) -> f32 {
        values[0]
    }

    #[inline(always)]
    fn gather(_: S, src: MatRef<'_>, row: usize, k: usize, out: &mut [f32]) {
        out.copy_from_slice(&src.col(k)[row..][..out.len()]);
    }
}

/// Two values rounded to bfloat16, the first in the lower half.
#[cfg(target_arch = "x86_64")]
struct Pair;

#[cfg(target_arch = "x86_64")]
impl Slot<crate::simd::Avx512Bf16> for Pair {
    const DEPTH: usize = 2;

    #[inline(always)]
    unsafe fn load(
        s: crate::simd::Avx512Bf16,
        src: *const f32,
    ) -> <crate::simd::Avx512Bf16 as Simd>::V {
        // SAFETY: the caller's promise.
        unsafe { s.load_pairs_ptr(src) }
    }

    #[inline(always)]
    fn of(values: &[f32]) -> f32 {
        bf16::pair(values[0], values.get(1).copied().unwrap_or(0.0))
    }

    #[inline(always)]
    fn gather(s: crate::simd::Avx512Bf16, src: MatRef<'_>, row: usize, k: usize, out: &mut [f32]) {
        let low = &src.col(k)[row..][..out.len()];
        if k + 1 < src.cols() {
            s.zip_pairs(low, &src.col(k + 1)[row..][..out.len()], out);
        } else {
            for (out, low) in out.iter_mut().zip(low) {
                *out = bf16::pair(*low, 0.0);
            }
        }
    }
}

#[inline(always)]
fn pack_kernel<S: Simd, F: Slot<S>>(s: S, width: usize, src: MatRef<'_>, strips: &mut [f32]) {
    // Widths known at compile time make copies of a few values as cheap as they look.
    match width {
        4 => pack_width::<S, F, 4>(s, src, strips),
        6 => pack_width::<S, F, 6>(s, src, strips),
        8 => pack_width::<S, F, 8>(s, src, strips),
        12 => pack_width::<S, F, 12>(s, src, strips),
        16 => pack_width::<S, F, 16>(s, src, strips),
        32 => pack_width::<S, F, 32>(s, src, strips),
        _ => unreachable!("no tile is {width} wide"),
    }
}

#[inline(always)]
fn pack_width<S: Simd, F: Slot<S>, const W: usize>(s: S, src: MatRef<'_>, strips: &mut [f32]) {
    if src.has_contiguous_rows() {
        pack_rows::<S, F, W>(s, src, strips);
    } else {
        pack_columns::<S, F, W>(s, src, strips);
    }
}

/// From a source whose columns are contiguous: one inner index's values are side by side already.
#[inline(always)]
fn pack_columns<S: Simd, F: Slot<S>, const W: usize>(s: S, src: MatRef<'_>, strips: &mut [f32]) {
    let slots = src.cols().div_ceil(F::DEPTH);
    let whole = src.rows() / W;
    let (full, last) = strips.split_at_mut(whole * W * slots);
    // A few slots at a time: a strip's part of them is whole cache lines, which one visit fills, and
    // their columns are few enough to be read along side by side.
    for first in (0..slots).step_by(SLOTS_AT_ONCE) {
        let count = SLOTS_AT_ONCE.min(slots - first);
        for strip in 0..whole {
            let out = &mut full[(strip * slots + first) * W..][..count * W];
            for (i, out) in out.chunks_exact_mut(W).enumerate() {
                let k = (first + i) * F::DEPTH;
                F::gather(s, src, strip * W, k, out);
                // Short pieces of columns far apart: no machine guesses where the next ones are.
                for next in k + SLOTS_AT_ONCE * F::DEPTH..k + (SLOTS_AT_ONCE + 1) * F::DEPTH {
                    if next < src.cols() {
                        s.prefetch(&src.col(next)[strip * W]);
                    }
                }
            }
        }
    }
    let rows = src.rows() - whole * W;
    for (slot, out) in last.chunks_exact_mut(W).enumerate() {
        F::gather(s, src, whole * W, slot * F::DEPTH, &mut out[..rows]);
        out[rows..].fill(0.0);
    }
}

/// From a source whose rows are contiguous: square blocks are turned in registers.
#[inline(always)]
fn pack_rows<S: Simd, F: Slot<S>, const W: usize>(s: S, src: MatRef<'_>, strips: &mut [f32]) {
    let depth = src.cols();
    let slots = depth.div_ceil(F::DEPTH);
    let blocks = depth / (S::LANES * F::DEPTH);
    for strip in 0..src.rows().div_ceil(W) {
        let (first_row, start) = (strip * W, strip * W * slots);
        for block in 0..blocks {
            // Where vectors do not fill a strip's width, the last one sticks out into what is
            // written next: the next slot, whose first lanes come after the last lanes of all
            // slots here. Nothing may stick out of the last strip, which is written by way of a
            // scratch.
            for lane in (0..W).step_by(S::LANES).rev() {
                let at = start + block * S::LANES * W + lane;
                let mut columns = [s.splat(0.0); MAX_LANES];
                for (i, column) in columns[..S::LANES].iter_mut().enumerate() {
                    let row = first_row + lane + i;
                    if lane + i < W && row < src.rows() {
                        let values = &src.row(row)[block * S::LANES * F::DEPTH..];
                        assert!(values.len() >= S::LANES * F::DEPTH);
                        // SAFETY: the length was checked.
                        *column = unsafe { F::load(s, values.as_ptr()) };
                    }
                }
                if at + (S::LANES - 1) * W + S::LANES <= strips.len() {
                    // SAFETY: the last of the rows of the transposed block ends within the strips.
                    unsafe { s.store_transposed(&columns, strips.as_mut_ptr().add(at), W) };
                    continue;
                }
                let mut scratch = [0.0; MAX_LANES * MAX_LANES];
                // SAFETY: LANES rows of LANES values.
                unsafe { s.store_transposed(&columns, scratch.as_mut_ptr(), S::LANES) };
                for (row, values) in scratch.chunks_exact(S::LANES).take(S::LANES).enumerate() {
                    let count = S::LANES.min(W - lane);
                    strips[at + row * W..][..count].copy_from_slice(&values[..count]);
                }
            }
        }
        let first = blocks * S::LANES;
        fill::<S, F, W>(src, first_row, first, slots - first, strips, start);
    }
}

/// `count` slots from `first` on of the strip at `start`, one by one.
#[inline(always)]
fn fill<S: Simd, F: Slot<S>, const W: usize>(
    src: MatRef<'_>,
    first_row: usize,
    first: usize,
    count: usize,
    strips: &mut [f32],
    start: usize,
) {
    for slot in first..first + count {
        for (lane, out) in strips[start + slot * W..][..W].iter_mut().enumerate() {
            let row = first_row + lane;
            *out = if row < src.rows() { F::of(&src.row(row)[slot * F::DEPTH..]) } else { 0.0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gemm::Precision;
    use crate::testing::random;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn every_value_is_in_its_place(
            (rows, depth) in (1usize..70, 1usize..80),
            by_columns in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let values = random(seed, rows * depth);
            let src = match by_columns {
                true => MatRef::row_major(&values, depth, rows).transposed(),
                false => MatRef::row_major(&values, rows, depth),
            };
            for level in Level::all() {
                for precision in [Precision::F32, Precision::Bf16] {
                    let format = Format::of(level, precision);
                    for width in [4, 6, 8, 12, 16, 32] {
                        let slots = format.slots(depth);
                        let mut strips = vec![f32::NAN; rows.next_multiple_of(width) * slots];
                        pack(format, level, width, src, &mut strips);
                        for (at, slot) in strips.iter().enumerate() {
                            let (row, k) = (at / (slots * width) * width + at % width, at / width % slots);
                            let value = |k: usize| {
                                if row < rows && k < depth { src.at(row, k) } else { 0.0 }
                            };
                            let want = match format {
                                Format::Plain => value(k),
                                Format::Rounded => bf16::pair(0.0, value(k)),
                                Format::Pairs => bf16::pair(value(2 * k), value(2 * k + 1)),
                            };
                            prop_assert_eq!(
                                slot.to_bits(), want.to_bits(), "{} {:?} {} at {}", level, format, width, at
                            );
                        }
                    }
                }
            }
        }
    }
}
