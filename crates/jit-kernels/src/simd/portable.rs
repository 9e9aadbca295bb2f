//! Eight lanes in plain Rust, which the compiler vectorises with what every machine of the target
//! has (SSE2 on x86-64).

use super::Simd;

/// The token of portable code, which may run anywhere.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

/// Adding `1.5·2²³` leaves an integer in a float's low mantissa bits: rounding and conversion
/// without the library calls that baseline x86-64 would make for them.
const MAGIC: f32 = 12_582_912.0;

#[inline(always)]
fn map(a: [f32; 8], f: impl Fn(f32) -> f32) -> [f32; 8] {
    let mut out = [0.0; 8];
    for i in 0..8 {
        out[i] = f(a[i]);
    }
    out
}

#[inline(always)]
fn zip(a: [f32; 8], b: [f32; 8], f: impl Fn(f32, f32) -> f32) -> [f32; 8] {
    let mut out = [0.0; 8];
    for i in 0..8 {
        out[i] = f(a[i], b[i]);
    }
    out
}

impl Simd for Portable {
    type V = [f32; 8];
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn load_ptr(self, src: *const f32) -> [f32; 8] {
        // SAFETY: the caller's promise.
        unsafe { src.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_ptr(self, v: [f32; 8], dst: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { dst.cast::<[f32; 8]>().write_unaligned(v) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 8] {
        [x; 8]
    }
    #[inline(always)]
    fn add(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn sqrt(self, a: [f32; 8]) -> [f32; 8] {
        map(a, f32::sqrt)
    }
    #[inline(always)]
    fn fma(self, a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        // `f32::mul_add` would be a library call per lane where the target has no FMA.
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn max(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn round(self, a: [f32; 8]) -> [f32; 8] {
        map(a, |a| (a + MAGIC) - MAGIC)
    }
    #[inline(always)]
    fn pow2i(self, a: [f32; 8]) -> [f32; 8] {
        // The shift drops `MAGIC`'s own exponent and leaves `a + 127` in the exponent's place.
        map(a, |a| f32::from_bits((a + MAGIC).to_bits().wrapping_add(127) << 23))
    }
    #[inline(always)]
    fn swap_pairs(self, a: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i ^ 1])
    }
    #[inline(always)]
    fn sum(self, a: [f32; 8]) -> f32 {
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }
}
