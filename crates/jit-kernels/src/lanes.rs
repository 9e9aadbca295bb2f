//! Vectors at any place of a slice, its ragged end included.

use crate::simd::Simd;

/// The values of `src` from `at` on, with zeros beyond the end of the slice.
#[inline(always)]
pub fn load_at<S: Simd>(s: S, src: &[f32], at: usize) -> S::V {
    let rest = &src[at..];
    if rest.len() >= S::LANES { s.load(rest) } else { s.load_partial(rest) }
}

/// Writes `v` to `dst` from `at` on, as far as the slice goes.
#[inline(always)]
pub fn store_at<S: Simd>(s: S, v: S::V, dst: &mut [f32], at: usize) {
    let rest = &mut dst[at..];
    if rest.len() >= S::LANES { s.store(v, rest) } else { s.store_partial(v, rest) }
}
