//! Arm Advanced SIMD (NEON): four lanes.

use std::arch::aarch64::*;

use super::Simd;

/// The proof that NEON may be used: only code compiled for it can make one.
#[derive(Clone, Copy, Debug)]
pub struct Neon(());

impl Neon {
    /// The token.
    ///
    /// # Safety
    /// Safe in code compiled for NEON; elsewhere the machine must have it.
    #[inline]
    #[target_feature(enable = "neon")]
    pub fn here() -> Neon {
        Neon(())
    }
}

/// Runs intrinsics in a method of [`Neon`].
macro_rules! neon {
    ($intrinsics:expr) => {
        // SAFETY: the token proves that the instructions exist; pointers are the caller's promise.
        unsafe { $intrinsics }
    };
}

impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn load_ptr(self, src: *const f32) -> float32x4_t {
        neon!(vld1q_f32(src))
    }
    #[inline(always)]
    unsafe fn store_ptr(self, v: float32x4_t, dst: *mut f32) {
        neon!(vst1q_f32(dst, v))
    }
    #[inline(always)]
    fn splat(self, x: f32) -> float32x4_t {
        neon!(vdupq_n_f32(x))
    }
    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        neon!(vaddq_f32(a, b))
    }
    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        neon!(vsubq_f32(a, b))
    }
    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        neon!(vmulq_f32(a, b))
    }
    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        neon!(vdivq_f32(a, b))
    }
    #[inline(always)]
    fn sqrt(self, a: float32x4_t) -> float32x4_t {
        neon!(vsqrtq_f32(a))
    }
    #[inline(always)]
    fn fma(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        neon!(vfmaq_f32(c, a, b))
    }
    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        neon!(vbslq_f32(vcgtq_f32(a, b), a, b))
    }
    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        neon!(vbslq_f32(vcltq_f32(a, b), a, b))
    }
    #[inline(always)]
    fn round(self, a: float32x4_t) -> float32x4_t {
        neon!(vrndnq_f32(a))
    }
    #[inline(always)]
    fn pow2i(self, a: float32x4_t) -> float32x4_t {
        neon!({
            let exponent = vaddq_s32(vcvtnq_s32_f32(a), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
        })
    }
    #[inline(always)]
    fn swap_pairs(self, a: float32x4_t) -> float32x4_t {
        neon!(vrev64q_f32(a))
    }
    #[inline(always)]
    fn sum(self, a: float32x4_t) -> f32 {
        neon!(vaddvq_f32(a))
    }
}
