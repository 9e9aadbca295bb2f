//! Products of bfloat16 values with `f32` sums, as automatic mixed precision computes linear
//! layers: half the bits, and on machines with `vdpbf16ps` about twice the speed.
//!
//! Operands are rounded while they are packed, so weights and activations stay `f32` everywhere
//! else. Where the dot product instruction is missing, the rounded values take the way of `f32`
//! ones: the same mathematics at the usual speed.

use super::{Block, KC, multiply_block};
use crate::{
    cpu::{Isa, Level},
    simd::{Simd, simd_kernel},
};

/// What the operands of a matrix product are rounded to; sums are `f32` always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Not rounded.
    #[default]
    F32,
    /// Rounded to bfloat16, the upper half of an `f32`: 8 bits of precision, the full range.
    Bf16,
}

/// How packed operands are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `f32` values.
    Plain,
    /// `f32` values that bfloat16 can hold.
    Rounded,
    /// Two bfloat16 values in the bits of one `f32` slot, for inner indices 2i (low half) and 2i + 1
    /// (high half, zero beyond the end).
    Pairs,
}

impl Format {
    pub fn of(level: Level, precision: Precision) -> Format {
        match (precision, level.isa()) {
            (Precision::F32, _) => Format::Plain,
            (Precision::Bf16, Isa::Avx512Bf16) => Format::Pairs,
            (Precision::Bf16, _) => Format::Rounded,
        }
    }

    /// The length of each cut (the last may be shorter) of an inner dimension `k`: as few as
    /// [`KC`] allows, of equal length.
    pub fn chain(self, k: usize) -> usize {
        let slots = self.slots(k).max(1);
        let length = slots.div_ceil(slots.div_ceil(KC));
        match self {
            Format::Plain | Format::Rounded => length,
            Format::Pairs => 2 * length,
        }
    }

    /// Slots of `f32` that `depth` inner indices take per row or column.
    pub fn slots(self, depth: usize) -> usize {
        match self {
            Format::Plain | Format::Rounded => depth,
            Format::Pairs => depth.div_ceil(2),
        }
    }
}

/// [`multiply_block`] on operands in `format`.
pub(super) fn multiply_block_as(format: Format, level: Level, block: &Block<'_>) {
    match (format, level.isa()) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a `Level` exists only on machines that have its instructions.
        (Format::Pairs, Isa::Avx512Bf16) => unsafe { multiply_pairs(block) },
        _ => multiply_block(level, block),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply_pairs(block: &Block<'_>) {
    super::multiply_block_kernel(crate::simd::Avx512Bf16::here(), block);
}

/// `low` and `high`, rounded, as the halves of one slot.
#[inline(always)]
pub(super) fn pair(low: f32, high: f32) -> f32 {
    f32::from_bits(rounded_bits(low) >> 16 | rounded_bits(high))
}

/// The bits of `x` rounded to the nearest bfloat16, ties to even; NaN stays NaN.
#[inline(always)]
fn rounded_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let to_even = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
    // Rounding a NaN's bits could carry into infinity; setting the quiet bit cannot.
    let quiet = (bits | 0x0040_0000) & 0xffff_0000;
    if x.is_nan() { quiet } else { to_even }
}

simd_kernel! {
    /// Rounds every value to bfloat16.
    pub fn round(level; values: &mut [f32]) = round_kernel;
}

#[inline(always)]
fn round_kernel<S: Simd>(_: S, values: &mut [f32]) {
    for value in values {
        *value = f32::from_bits(rounded_bits(*value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nearest bfloat16 by exact arithmetic on the two neighbours.
    fn nearest(x: f32) -> f32 {
        let down = f32::from_bits(x.to_bits() & 0xffff_0000);
        let up = f32::from_bits((x.to_bits() & 0xffff_0000).wrapping_add(0x1_0000));
        let (below, above) = ((x as f64 - down as f64).abs(), (up as f64 - x as f64).abs());
        let down_is_even = down.to_bits() >> 16 & 1 == 0;
        if below < above || below == above && down_is_even { down } else { up }
    }

    #[test]
    fn rounding_is_to_nearest_with_ties_to_even() {
        let mut x: Vec<f32> = (0u32..4000)
            .map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b9)))
            .filter(|x| x.is_finite() && x.abs() < 1e38)
            .collect();
        // Halfway cases above an even and an odd neighbour.
        x.extend([0x3f80_8000u32, 0x3f81_8000, 0xbf80_8000, 0xbf81_8000].map(f32::from_bits));
        for level in Level::all() {
            let mut got = x.clone();
            round(level, &mut got);
            for (got, x) in got.iter().zip(&x) {
                assert_eq!(got.to_bits(), nearest(*x).to_bits(), "{level}: {x}");
            }
        }
    }

    #[test]
    fn rounding_keeps_infinity_and_nan_and_overflows_to_infinity() {
        let signalling = f32::from_bits(0x7f80_0001);
        let last = f32::from_bits(0x7fff_ffff);
        let mut x = [f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -0.0, signalling, last];
        round(Level::PORTABLE, &mut x);
        assert_eq!(x[..3], [f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY]);
        assert_eq!(x[3].to_bits(), (-0.0f32).to_bits());
        assert!(x[4].is_nan() && x[5].is_nan());
    }
}
