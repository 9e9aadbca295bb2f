//! x86-64 with AVX2 and FMA: eight lanes.

use std::arch::x86_64::*;

use super::{MAX_LANES, Simd};

/// The proof that AVX2 and FMA may be used: only code compiled for them can make one.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// The token.
    ///
    /// # Safety
    /// Safe in code compiled for AVX2 and FMA; elsewhere the machine must have them.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub fn here() -> Avx2 {
        Avx2(())
    }
}

/// Runs intrinsics in a method of [`Avx2`].
macro_rules! avx2 {
    ($intrinsics:expr) => {
        // SAFETY: the token proves that the instructions exist; pointers are the caller's promise.
        unsafe { $intrinsics }
    };
}

impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn load_ptr(self, src: *const f32) -> __m256 {
        avx2!(_mm256_loadu_ps(src))
    }
    #[inline(always)]
    fn prefetch(self, address: *const f32) {
        avx2!(_mm_prefetch::<_MM_HINT_T0>(address.cast()));
    }
    #[inline(always)]
    unsafe fn store_ptr(self, v: __m256, dst: *mut f32) {
        avx2!(_mm256_storeu_ps(dst, v))
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        avx2!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        avx2!(_mm256_sqrt_ps(a))
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        avx2!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        avx2!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn pow2i(self, a: __m256) -> __m256 {
        avx2!({
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        })
    }
    #[inline(always)]
    fn swap_pairs(self, a: __m256) -> __m256 {
        avx2!(_mm256_permute_ps::<0b10_11_00_01>(a))
    }
    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        avx2!({
            let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        })
    }
    #[inline(always)]
    unsafe fn store_transposed(self, c: &[__m256; MAX_LANES], dst: *mut f32, stride: usize) {
        avx2!({
            // Pairs, then fours, within each half; then the halves.
            let mut four = [c[0]; 8];
            for i in 0..2 {
                let c = &c[4 * i..4 * i + 4];
                let (ab, cd) = (_mm256_unpacklo_ps(c[0], c[1]), _mm256_unpacklo_ps(c[2], c[3]));
                four[4 * i] = _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd);
                four[4 * i + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd);
                let (ab, cd) = (_mm256_unpackhi_ps(c[0], c[1]), _mm256_unpackhi_ps(c[2], c[3]));
                four[4 * i + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd);
                four[4 * i + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd);
            }
            for row in 0..4 {
                let whole = _mm256_permute2f128_ps::<0x20>(four[row], four[4 + row]);
                _mm256_storeu_ps(dst.add(row * stride), whole);
            }
            for row in 0..4 {
                let whole = _mm256_permute2f128_ps::<0x31>(four[row], four[4 + row]);
                _mm256_storeu_ps(dst.add((4 + row) * stride), whole);
            }
        })
    }
}
