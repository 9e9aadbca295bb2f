//! Vectors at any place of a slice, its ragged end included.

use crate::simd::Simd;

/// The values of `src` from `at` on, with zeros beyond the end of the slice.
#[inline(always)]
pub fn load_at<S: Simd>(s: S, src: &[f32], at: usize) -> S::V {
    if at + S::LANES <= src.len() {
        // SAFETY: `LANES` values from `at` on lie in the slice.
        unsafe { s.load_ptr(src.as_ptr().add(at)) }
    } else {
        s.load_partial(&src[at..])
    }
}

/// Writes `v` to `dst` from `at` on, as far as the slice goes.
#[inline(always)]
pub fn store_at<S: Simd>(s: S, v: S::V, dst: &mut [f32], at: usize) {
    if at + S::LANES <= dst.len() {
        // SAFETY: `LANES` values from `at` on lie in the slice.
        unsafe { s.store_ptr(v, dst.as_mut_ptr().add(at)) }
    } else {
        s.store_partial(v, &mut dst[at..]);
    }
}
