//! Vectors at any place of a slice, its ragged end included.

use crate::simd::{MAX_LANES, Simd};

/// The values of `src` from `at` on, with zeros beyond the end of the slice.
#[inline(always)]
pub fn load_at<S: Simd>(s: S, src: &[f32], at: usize) -> S::V {
    if at + S::LANES <= src.len() {
        // SAFETY: `LANES` values from `at` on lie in the slice.
        unsafe { s.load_ptr(src.as_ptr().add(at)) }
    } else {
        s.load(&padded(&src[at..]))
    }
}

/// Writes `v` to `dst` from `at` on, as far as the slice goes.
#[inline(always)]
pub fn store_at<S: Simd>(s: S, v: S::V, dst: &mut [f32], at: usize) {
    if at + S::LANES <= dst.len() {
        // SAFETY: `LANES` values from `at` on lie in the slice.
        unsafe { s.store_ptr(v, dst.as_mut_ptr().add(at)) }
    } else {
        let mut lanes = [0.0; MAX_LANES];
        s.store(v, &mut lanes);
        copy_front(&lanes, &mut dst[at..]);
    }
}

// The two below run at most once a row: kept out of the loops, whose registers they would take.

#[cold]
#[inline(never)]
fn padded(src: &[f32]) -> [f32; MAX_LANES] {
    let mut lanes = [0.0; MAX_LANES];
    lanes[..src.len()].copy_from_slice(src);
    lanes
}

#[cold]
#[inline(never)]
fn copy_front(lanes: &[f32; MAX_LANES], dst: &mut [f32]) {
    dst.copy_from_slice(&lanes[..dst.len()]);
}
