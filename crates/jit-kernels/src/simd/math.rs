//! Transcendental functions of vectors.

use super::Simd;

/// `eˣ` within 2 ulp: `1` exactly at 0, `0` below −104, `∞` above 88.73; NaN stays NaN.
///
/// `x = n·ln 2 + r` with `|r| ≤ ln 2 / 2`, and `eʳ` by Cephes' minimax polynomial (`expf`).
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    // Bounds first, so that a NaN passes through both.
    let x = s.max(s.splat(-104.0), s.min(s.splat(89.0), x));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts, the first short enough that `n` times it is exact.
    let r = s.fma(n, s.splat(-0.693_359_4), x);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    let p = s.splat(1.987_569_1e-4);
    let p = s.fma(p, r, s.splat(1.398_199_9e-3));
    let p = s.fma(p, r, s.splat(8.333_452e-3));
    let p = s.fma(p, r, s.splat(4.166_579_6e-2));
    let p = s.fma(p, r, s.splat(1.666_666_5e-1));
    let p = s.fma(p, r, s.splat(0.5));
    let p = s.add(s.fma(p, s.mul(r, r), r), s.splat(1.0));
    // 2ⁿ in two factors: n reaches −150 (subnormal results) and 128 (overflow).
    let half = s.round(s.mul(n, s.splat(0.5)));
    s.mul(s.mul(p, s.pow2i(half)), s.pow2i(s.sub(n, half)))
}

/// The logistic function `1 / (1 + e⁻ˣ)`.
#[inline(always)]
pub fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

/// The error function within 5·10⁻⁷: an odd rational minimax approximation on `[−4, 4]`, beyond
/// which `erf` is ±1 to the last bit.
#[inline(always)]
pub fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    let x = s.max(s.splat(-4.0), s.min(s.splat(4.0), x));
    let x2 = s.mul(x, x);
    let p = s.splat(-2.726_142_3e-10);
    let p = s.fma(p, x2, s.splat(2.770_681_5e-8));
    let p = s.fma(p, x2, s.splat(-2.101_024_1e-6));
    let p = s.fma(p, x2, s.splat(-5.692_506_3e-5));
    let p = s.fma(p, x2, s.splat(-7.349_906_3e-4));
    let p = s.fma(p, x2, s.splat(-2.954_6e-3));
    let p = s.fma(p, x2, s.splat(-1.609_603_3e-2));
    let q = s.splat(-1.456_607_2e-5);
    let q = s.fma(q, x2, s.splat(-2.133_740_5e-4));
    let q = s.fma(q, x2, s.splat(-1.682_827e-3));
    let q = s.fma(q, x2, s.splat(-7.373_329_2e-3));
    let q = s.fma(q, x2, s.splat(-1.426_473_9e-2));
    s.div(s.mul(x, p), q)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cpu::Level, simd::simd_kernel};

    simd_kernel! {
        fn exp_all(level; x: &mut [f32]) = exp_kernel;
        fn sigmoid_all(level; x: &mut [f32]) = sigmoid_kernel;
        fn erf_all(level; x: &mut [f32]) = erf_kernel;
    }

    macro_rules! map_kernel {
        ($name:ident, $function:ident) => {
            #[inline(always)]
            fn $name<S: Simd>(s: S, x: &mut [f32]) {
                for chunk in x.chunks_mut(S::LANES) {
                    s.store_partial($function(s, s.load_partial(chunk)), chunk);
                }
            }
        };
    }
    map_kernel!(exp_kernel, exp);
    map_kernel!(sigmoid_kernel, sigmoid);
    map_kernel!(erf_kernel, erf);

    /// `f` over `count + 1` points of `[from, to]` at every level, with each argument.
    fn sweep(f: fn(Level, &mut [f32]), from: f32, to: f32, mut check: impl FnMut(Level, f32, f32)) {
        let count = 100_003;
        let x: Vec<f32> =
            (0..=count).map(|i| from + (to - from) * i as f32 / count as f32).collect();
        for level in Level::all() {
            let mut y = x.clone();
            f(level, &mut y);
            x.iter().zip(&y).for_each(|(&x, &y)| check(level, x, y));
        }
    }

    /// The distance of neighbouring `f32`s at `x`.
    fn ulp(x: f64) -> f64 {
        let x = (x as f32).abs().max(f32::MIN_POSITIVE);
        (f32::from_bits(x.to_bits() + 1) - x) as f64
    }

    /// `erf` by its series of positive terms, exact to f64 rounding.
    fn erf_f64(x: f64) -> f64 {
        let (mut term, mut sum, mut n) = (x, x, 1.0);
        while term.abs() > 1e-18 * sum.abs() {
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
            n += 1.0;
        }
        2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
    }

    #[test]
    fn exp_is_within_two_ulp_from_underflow_to_overflow() {
        sweep(exp_all, -103.0, 88.7, |level, x, y| {
            let want = (x as f64).exp();
            let error = (y as f64 - want).abs() / ulp(want);
            assert!(error <= 2.0, "{level}: exp({x}) = {y}, off by {error} ulp");
        });
    }

    #[test]
    fn exp_is_exact_at_its_special_values() {
        for level in Level::all() {
            let mut x = [0.0, -0.0, f32::NEG_INFINITY, -1e30, f32::INFINITY, 1e30, f32::NAN];
            exp_all(level, &mut x);
            assert_eq!(x[..6], [1.0, 1.0, 0.0, 0.0, f32::INFINITY, f32::INFINITY], "{level}");
            assert!(x[6].is_nan(), "{level}");
        }
    }

    #[test]
    fn sigmoid_is_within_four_ulp() {
        sweep(sigmoid_all, -80.0, 80.0, |level, x, y| {
            let want = 1.0 / (1.0 + (-x as f64).exp());
            let error = (y as f64 - want).abs() / ulp(want);
            assert!(error <= 4.0, "{level}: sigmoid({x}) = {y}, off by {error} ulp");
        });
    }

    #[test]
    fn erf_is_within_5e_7_and_keeps_nan() {
        sweep(erf_all, -6.0, 6.0, |level, x, y| {
            let error = (y as f64 - erf_f64(x as f64)).abs();
            assert!(error <= 5e-7, "{level}: erf({x}) = {y}, off by {error}");
        });
        for level in Level::all() {
            let mut x = [f32::NAN, 0.0, f32::INFINITY];
            erf_all(level, &mut x);
            assert!(x[0].is_nan() && x[1] == 0.0 && (x[2] - 1.0).abs() < 5e-7, "{level}: {x:?}");
        }
    }
}
