//! x86-64 with AVX-512F: sixteen lanes. With AVX-512-BF16 too, vectors can also hold pairs of
//! bfloat16 values.

use std::{arch::x86_64::*, mem::transmute};

use super::{MAX_LANES, Simd};

/// Runs intrinsics in a method of a token.
macro_rules! avx512 {
    ($intrinsics:expr) => {
        // SAFETY: the token proves that the instructions exist; pointers are the caller's promise.
        unsafe { $intrinsics }
    };
}

/// The proof that AVX-512F may be used: only code compiled for it can make one.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

impl Avx512 {
    /// The token.
    ///
    /// # Safety
    /// Safe in code compiled for AVX-512F; elsewhere the machine must have it.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn here() -> Avx512 {
        Avx512(())
    }
}

/// The proof that AVX-512F and its bfloat16 dot product may be used.
#[derive(Clone, Copy, Debug)]
pub struct Avx512Bf16(());

impl Avx512Bf16 {
    /// The token.
    ///
    /// # Safety
    /// Safe in code compiled for AVX-512F and AVX-512-BF16; elsewhere the machine must have them.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn here() -> Avx512Bf16 {
        Avx512Bf16(())
    }

    /// The 32 values from `src` on, rounded to bfloat16: pairs of neighbours.
    ///
    /// # Safety
    /// `src` is valid for reading 32 values.
    #[inline(always)]
    pub unsafe fn load_pairs_ptr(self, src: *const f32) -> __m512 {
        avx512!({
            let (low, high) = (_mm512_loadu_ps(src), _mm512_loadu_ps(src.add(16)));
            // The first operand becomes the upper half. Both types are 64 bytes of any content.
            transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(high, low))
        })
    }

    /// `out[i]` becomes the pair of `low[i]` and `high[i]`, rounded to bfloat16.
    #[inline(always)]
    pub fn zip_pairs(self, low: &[f32], high: &[f32], out: &mut [f32]) {
        assert!(low.len() == out.len() && high.len() == out.len());
        for i in (0..out.len()).step_by(16) {
            let mask = first_lanes(out.len() - i);
            // Within the slices, for the lanes of the mask.
            avx512!({
                let low = _mm512_maskz_loadu_ps(mask, low.as_ptr().add(i));
                let high = _mm512_maskz_loadu_ps(mask, high.as_ptr().add(i));
                let [low, high] = [low, high].map(|v| {
                    let halves = transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v));
                    _mm512_cvtepu16_epi32(halves)
                });
                let pairs = _mm512_or_si512(low, _mm512_slli_epi32::<16>(high));
                _mm512_mask_storeu_epi32(out.as_mut_ptr().add(i).cast(), mask, pairs);
            });
        }
    }

    /// `sum + a.low·b.low + a.high·b.high` of the bfloat16 pairs in the bits of each lane.
    #[inline(always)]
    pub fn dot_pairs(self, a: __m512, b: __m512, sum: __m512) -> __m512 {
        avx512!({
            // Both types are 64 bytes of any content.
            let (a, b) = (transmute::<__m512, __m512bh>(a), transmute::<__m512, __m512bh>(b));
            _mm512_dpbf16_ps(sum, a, b)
        })
    }
}

/// The mask of the first `len` lanes, all of them from 16 on.
#[inline(always)]
fn first_lanes(len: usize) -> __mmask16 {
    if len < 16 { (1 << len) - 1 } else { __mmask16::MAX }
}

macro_rules! simd {
    ($token:ident) => {
        impl Simd for $token {
            type V = __m512;
            const LANES: usize = 16;

            #[inline(always)]
            unsafe fn load_ptr(self, src: *const f32) -> __m512 {
                avx512!(_mm512_loadu_ps(src))
            }
            #[inline(always)]
            fn prefetch(self, address: *const f32) {
                avx512!(_mm_prefetch::<_MM_HINT_T0>(address.cast()));
            }
            #[inline(always)]
            unsafe fn store_ptr(self, v: __m512, dst: *mut f32) {
                avx512!(_mm512_storeu_ps(dst, v))
            }
            #[inline(always)]
            fn load_partial(self, src: &[f32]) -> __m512 {
                // Lanes beyond the mask are not read.
                avx512!(_mm512_maskz_loadu_ps(first_lanes(src.len()), src.as_ptr()))
            }
            #[inline(always)]
            fn store_partial(self, v: __m512, dst: &mut [f32]) {
                // Lanes beyond the mask are not written.
                avx512!(_mm512_mask_storeu_ps(dst.as_mut_ptr(), first_lanes(dst.len()), v));
            }
            #[inline(always)]
            fn splat(self, x: f32) -> __m512 {
                avx512!(_mm512_set1_ps(x))
            }
            #[inline(always)]
            fn add(self, a: __m512, b: __m512) -> __m512 {
                avx512!(_mm512_add_ps(a, b))
            }
            #[inline(always)]
            fn sub(self, a: __m512, b: __m512) -> __m512 {
                avx512!(_mm512_sub_ps(a, b))
            }
            #[inline(always)]
            fn mul(self, a: __m512, b: __m512) -> __m512 {
                avx512!(_mm512_mul_ps(a, b))
            }
            #[inline(always)]
            fn div(self, a: __m512, b: __m512) -> __m512 {
                avx512!(_mm512_div_ps(a, b))
            }
            #[inline(always)]
            fn sqrt(self, a: __m512) -> __m512 {
                avx512!(_mm512_sqrt_ps(a))
            }
            #[inline(always)]
            fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
                avx512!(_mm512_fmadd_ps(a, b, c))
            }
            #[inline(always)]
            fn max(self, a: __m512, b: __m512) -> __m512 {
                avx512!(_mm512_max_ps(a, b))
            }
            #[inline(always)]
            fn min(self, a: __m512, b: __m512) -> __m512 {
                avx512!(_mm512_min_ps(a, b))
            }
            #[inline(always)]
            fn round(self, a: __m512) -> __m512 {
                avx512!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(
                    a
                ))
            }
            #[inline(always)]
            fn pow2i(self, a: __m512) -> __m512 {
                avx512!({
                    let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127));
                    _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
                })
            }
            #[inline(always)]
            fn swap_pairs(self, a: __m512) -> __m512 {
                avx512!(_mm512_permute_ps::<0b10_11_00_01>(a))
            }
            #[inline(always)]
            fn sum(self, a: __m512) -> f32 {
                avx512!(_mm512_reduce_add_ps(a))
            }
            #[inline(always)]
            unsafe fn store_transposed(
                self,
                c: &[__m512; MAX_LANES],
                dst: *mut f32,
                stride: usize,
            ) {
                avx512!({
                    // Within each quarter: pairs, then fours of columns. four[4i + j] holds rows
                    // j, 4 + j, 8 + j, 12 + j of columns 4i to 4i + 3.
                    let mut four = [c[0]; 16];
                    for i in 0..4 {
                        let c = &c[4 * i..4 * i + 4];
                        let (ab, cd) =
                            (_mm512_unpacklo_ps(c[0], c[1]), _mm512_unpacklo_ps(c[2], c[3]));
                        four[4 * i] = _mm512_shuffle_ps::<0b01_00_01_00>(ab, cd);
                        four[4 * i + 1] = _mm512_shuffle_ps::<0b11_10_11_10>(ab, cd);
                        let (ab, cd) =
                            (_mm512_unpackhi_ps(c[0], c[1]), _mm512_unpackhi_ps(c[2], c[3]));
                        four[4 * i + 2] = _mm512_shuffle_ps::<0b01_00_01_00>(ab, cd);
                        four[4 * i + 3] = _mm512_shuffle_ps::<0b11_10_11_10>(ab, cd);
                    }
                    // Then the quarters.
                    let mut rows = [c[0]; 16];
                    for j in 0..4 {
                        let f = [four[j], four[4 + j], four[8 + j], four[12 + j]];
                        let even = [
                            _mm512_shuffle_f32x4::<0b10_00_10_00>(f[0], f[1]),
                            _mm512_shuffle_f32x4::<0b10_00_10_00>(f[2], f[3]),
                        ];
                        let odd = [
                            _mm512_shuffle_f32x4::<0b11_01_11_01>(f[0], f[1]),
                            _mm512_shuffle_f32x4::<0b11_01_11_01>(f[2], f[3]),
                        ];
                        rows[j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(even[0], even[1]);
                        rows[4 + j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(odd[0], odd[1]);
                        rows[8 + j] = _mm512_shuffle_f32x4::<0b11_01_11_01>(even[0], even[1]);
                        rows[12 + j] = _mm512_shuffle_f32x4::<0b11_01_11_01>(odd[0], odd[1]);
                    }
                    for (r, row) in rows.into_iter().enumerate() {
                        _mm512_storeu_ps(dst.add(r * stride), row);
                    }
                })
            }
        }
    };
}

simd!(Avx512);
simd!(Avx512Bf16);
