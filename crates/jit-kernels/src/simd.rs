//! Vectors of `f32` behind one small trait, so that a kernel is written once and compiled for
//! every instruction set.
//!
//! A kernel is a generic `#[inline(always)]` function whose first argument is the instruction
//! set's token; [`simd_kernel!`] turns it into a function that picks the instruction set at run
//! time:
//!
//! ```ignore
//! simd_kernel! {
//!     /// `y[i] *= a`
//!     fn scale(level; a: f32, y: &mut [f32]) = scale_kernel;
//! }
//!
//! #[inline(always)]
//! fn scale_kernel<S: Simd>(s: S, a: f32, y: &mut [f32]) {
//!     let a = s.splat(a);
//!     let mut chunks = y.chunks_exact_mut(S::LANES);
//!     for chunk in &mut chunks {
//!         s.store(s.mul(a, s.load(chunk)), chunk);
//!     }
//!     let tail = chunks.into_remainder();
//!     s.store_partial(s.mul(a, s.load_partial(tail)), tail);
//! }
//! ```
//!
//! Everything that a kernel calls must be `#[inline(always)]` too: code that stays a separate
//! function is compiled without the vector instructions, and passes vectors through memory. For
//! the same reason kernels use loops, not closures.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::{Avx512, Avx512Bf16};
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use portable::Portable;

/// An instruction set's vector of [`Simd::LANES`] `f32`s.
///
/// The implementor is a token that exists only where its instructions may run, which is what makes
/// these methods safe.
pub trait Simd: Copy + Send + Sync + 'static {
    /// The vector.
    type V: Copy;
    /// `f32`s in a vector; at most [`MAX_LANES`].
    const LANES: usize;

    /// `LANES` values from `src`.
    ///
    /// # Safety
    /// `src` is valid for reading `LANES` values; no alignment is needed.
    unsafe fn load_ptr(self, src: *const f32) -> Self::V;
    /// `LANES` values to `dst`.
    ///
    /// # Safety
    /// `dst` is valid for writing `LANES` values; no alignment is needed.
    unsafe fn store_ptr(self, v: Self::V, dst: *mut f32);
    /// Asks for the cache line at `address`, which need not be valid; does nothing where the
    /// machine has no such request.
    #[inline(always)]
    fn prefetch(self, address: *const f32) {
        let _ = address;
    }

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a − b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`, correctly rounded
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `√a`, correctly rounded
    fn sqrt(self, a: Self::V) -> Self::V;
    /// `a · b + c`; rounded once where the machine can, else twice
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `if a > b { a } else { b }`: a NaN in either gives `b`
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if a < b { a } else { b }`: a NaN in either gives `b`
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The nearest integer, ties to even, for `|a| < 2²²`
    fn round(self, a: Self::V) -> Self::V;
    /// `2ᵃ` for integral `−126 ≤ a ≤ 127`
    fn pow2i(self, a: Self::V) -> Self::V;
    /// Lanes 2i and 2i + 1 exchanged.
    fn swap_pairs(self, a: Self::V) -> Self::V;
    /// The sum of the lanes, in an order fixed per instruction set.
    fn sum(self, a: Self::V) -> f32;

    /// Writes `LANES` vectors as the columns of a matrix whose rows are `stride` apart, from the
    /// first row to the last: rows may overlap, and then the later one wins.
    ///
    /// # Safety
    /// `dst` is valid for writing `LANES` values from each multiple of `stride` below
    /// `LANES · stride` on.
    #[inline(always)]
    unsafe fn store_transposed(self, columns: &[Self::V; MAX_LANES], dst: *mut f32, stride: usize) {
        let mut lanes = [[0.0; MAX_LANES]; MAX_LANES];
        for (lanes, column) in lanes.iter_mut().zip(&columns[..Self::LANES]) {
            self.store(*column, lanes);
        }
        for row in 0..Self::LANES {
            for (column, lanes) in lanes[..Self::LANES].iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { dst.add(row * stride + column).write(lanes[row]) };
            }
        }
    }

    /// The first `LANES` values of `src`, which must hold as many.
    #[inline(always)]
    fn load(self, src: &[f32]) -> Self::V {
        assert!(src.len() >= Self::LANES);
        // SAFETY: the length was checked.
        unsafe { self.load_ptr(src.as_ptr()) }
    }

    /// `v` to the first `LANES` values of `dst`, which must hold as many.
    #[inline(always)]
    fn store(self, v: Self::V, dst: &mut [f32]) {
        assert!(dst.len() >= Self::LANES);
        // SAFETY: the length was checked.
        unsafe { self.store_ptr(v, dst.as_mut_ptr()) }
    }

    /// Up to `LANES` values of `src`, zeros beyond its end.
    #[inline(always)]
    fn load_partial(self, src: &[f32]) -> Self::V {
        self.load(&padded(&src[..src.len().min(Self::LANES)]))
    }

    /// As much of `v` as fits into `dst`.
    #[inline(always)]
    fn store_partial(self, v: Self::V, dst: &mut [f32]) {
        let mut lanes = [0.0; MAX_LANES];
        self.store(v, &mut lanes);
        let len = dst.len().min(Self::LANES);
        copy_front(&lanes, &mut dst[..len]);
    }

    /// The largest lane; which one is unspecified if any is NaN.
    #[inline(always)]
    fn max_lane(self, a: Self::V) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; MAX_LANES];
        self.store(a, &mut lanes);
        let mut max = f32::NEG_INFINITY;
        for lane in lanes {
            max = max.max(lane);
        }
        max
    }
}

/// The widest vector's lanes.
pub const MAX_LANES: usize = 16;

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

/// Defines functions `fn name(level: Level, ..)` that run the generic kernel `name_of_kernel(token,
/// ..)` compiled for `level`'s instruction set. See the [module](self) for an example.
macro_rules! simd_kernel {
    ($(
        $(#[$meta:meta])*
        $vis:vis fn $name:ident($level:ident; $($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)?
            = $kernel:ident;
    )+) => {$(
        $(#[$meta])*
        $vis fn $name($level: $crate::cpu::Level, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                $kernel($crate::simd::Avx2::here(), $($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                $kernel($crate::simd::Avx512::here(), $($arg),*)
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon")]
            fn neon($($arg: $ty),*) $(-> $ret)? {
                $kernel($crate::simd::Neon::here(), $($arg),*)
            }

            use $crate::cpu::Isa;
            match $level.isa() {
                // SAFETY: a `Level` exists only on machines that have its instructions.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above; AVX-512 with bf16 includes AVX-512F.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 | Isa::Avx512Bf16 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "aarch64")]
                Isa::Neon => unsafe { neon($($arg),*) },
                _ => $kernel($crate::simd::Portable, $($arg),*),
            }
        }
    )+};
}
pub(crate) use simd_kernel;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Level;

    simd_kernel! {
        fn arithmetic(level; a: &[f32], b: &[f32]) -> Vec<Vec<f32>> = arithmetic_kernel;
        fn partial(level; n: usize) -> (f32, f32, Vec<f32>, Vec<f32>) = partial_kernel;
        fn transposed(level; src: &[f32], stride: usize, dst: &mut [f32]) -> usize
            = transposed_kernel;
    }

    #[inline(always)]
    fn transposed_kernel<S: Simd>(s: S, src: &[f32], stride: usize, dst: &mut [f32]) -> usize {
        let mut columns = [s.splat(f32::NAN); MAX_LANES];
        for (i, column) in columns[..S::LANES].iter_mut().enumerate() {
            *column = s.load(&src[i * S::LANES..]);
        }
        assert!(dst.len() >= (S::LANES - 1) * stride + S::LANES);
        // SAFETY: the length was checked.
        unsafe { s.store_transposed(&columns, dst.as_mut_ptr(), stride) };
        S::LANES
    }

    #[test]
    fn a_transposed_store_writes_columns_and_later_rows_win() {
        let src: Vec<f32> = (0..256).map(|i| i as f32).collect();
        for level in Level::all() {
            for stride in [3, 6, 12, 16, 32] {
                let mut dst = vec![-1.0; 16 * 32];
                let lanes = transposed(level, &src, stride, &mut dst);
                let mut want = vec![-1.0; 16 * 32];
                for row in 0..lanes {
                    for column in 0..lanes {
                        want[row * stride + column] = src[column * lanes + row];
                    }
                }
                assert_eq!(dst, want, "{level}, stride {stride}");
            }
        }
    }

    #[inline(always)]
    fn arithmetic_kernel<S: Simd>(s: S, a: &[f32], b: &[f32]) -> Vec<Vec<f32>> {
        let (va, vb) = (s.load(a), s.load(b));
        let results = [
            s.add(va, vb),
            s.sub(va, vb),
            s.mul(va, vb),
            s.div(va, vb),
            s.sqrt(va),
            s.fma(va, vb, s.splat(0.5)),
            s.max(va, vb),
            s.min(va, vb),
            s.round(va),
            s.pow2i(s.round(va)),
            s.swap_pairs(va),
        ];
        results
            .into_iter()
            .map(|v| {
                let mut lanes = vec![0.0; S::LANES];
                s.store(v, &mut lanes);
                lanes
            })
            .collect()
    }

    #[inline(always)]
    fn partial_kernel<S: Simd>(s: S, n: usize) -> (f32, f32, Vec<f32>, Vec<f32>) {
        let src: Vec<f32> = (0..n.min(S::LANES)).map(|i| i as f32 - 3.0).collect();
        let v = s.load_partial(&src);
        let mut dst = vec![9.0; src.len()];
        s.store_partial(v, &mut dst);
        (s.sum(v), s.max_lane(v), src, dst)
    }

    #[test]
    fn every_level_computes_what_scalar_code_does() {
        // Halves and small integers: every result below is exact, with or without fused rounding.
        let a: Vec<f32> = (0..16).map(|i| (i * i % 23) as f32 * 0.5).collect();
        let b: Vec<f32> = (0..16).map(|i| [1.0f32, -2.0, 4.0, -0.5][i % 4]).collect();
        let scalar: [fn(f32, f32) -> f32; 10] = [
            |a, b| a + b,
            |a, b| a - b,
            |a, b| a * b,
            |a, b| a / b,
            |a, _| a.sqrt(),
            |a, b| a * b + 0.5,
            f32::max,
            f32::min,
            |a, _| a.round_ties_even(),
            |a, _| a.round_ties_even().exp2(),
        ];
        for level in Level::all() {
            for (which, got) in arithmetic(level, &a, &b).into_iter().enumerate() {
                for (i, got) in got.into_iter().enumerate() {
                    // The last one moves lanes; all others compute within them.
                    let want = scalar.get(which).map_or(a[i ^ 1], |f| f(a[i], b[i]));
                    assert_eq!(got, want, "{level}: operation {which} on {} and {}", a[i], b[i]);
                }
            }
        }
    }

    #[test]
    fn a_nan_gives_the_second_operand_of_max_and_min() {
        for level in Level::all() {
            let (nan, one) = ([f32::NAN; 16], [1.0; 16]);
            let first = arithmetic(level, &nan, &one);
            let second = arithmetic(level, &one, &nan);
            assert!(first[6..8].iter().flatten().all(|&x| x == 1.0), "{level}");
            assert!(second[6..8].iter().flatten().all(|x| x.is_nan()), "{level}");
        }
    }

    #[test]
    fn partial_vectors_are_zero_filled_and_stop_at_the_end_of_the_slice() {
        for level in Level::all() {
            for n in [0, 1, 2, 3, 5, 7, 8, 11, 15, 16] {
                let (sum, max, src, dst) = partial(level, n);
                assert_eq!(sum, src.iter().sum::<f32>(), "{level}");
                let lanes = partial(level, usize::MAX).2.len();
                let zero = if src.len() < lanes { 0.0 } else { f32::NEG_INFINITY };
                assert_eq!(max, src.iter().copied().fold(zero, f32::max), "{level}");
                assert_eq!(dst, src, "{level}");
            }
        }
    }
}
