//! What the kernels' tests share: random inputs, comparisons, numeric derivatives.

use jit_core::rng::{Purpose, Stream};

/// `len` standard normals, a function of `seed` alone.
pub fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut x = vec![0.0; len];
    Stream::new(seed, Purpose::Noise, 0, 0).fill_normal(&mut x);
    x
}

/// Asserts `|actual − expected| ≤ tolerance·max(1, max |expected|)` everywhere.
#[track_caller]
pub fn assert_close(actual: &[f32], expected: &[f32], tolerance: f64) {
    assert_close_at(actual, expected, tolerance, 1.0);
}

/// [`assert_close`] for results that are differences of terms as large as `terms`: their rounding
/// is that of the terms, however small the difference.
#[track_caller]
pub fn assert_close_at(actual: &[f32], expected: &[f32], tolerance: f64, terms: f64) {
    assert_eq!(actual.len(), expected.len());
    let scale = expected.iter().fold(terms.max(1.0), |m, &e| m.max(f64::from(e).abs()));
    for (i, (&a, &e)) in actual.iter().zip(expected).enumerate() {
        let error = (f64::from(a) - f64::from(e)).abs();
        assert!(error <= tolerance * scale, "element {i}: {a} instead of {e} (scale {scale})");
    }
}

/// `Σ x·y` in f64: a scalar of an output, whose gradient with respect to the output is `y`.
pub fn dot(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
}

/// Asserts that `gradient` is the derivative of `f` at `x`, by fourth-order central differences:
/// their error falls with the fourth power of the step, so the step can be large enough for the
/// rounding of f32 outputs to vanish in it.
#[track_caller]
pub fn assert_gradient(f: impl Fn(&[f32]) -> f64, x: &[f32], gradient: &[f32], tolerance: f64) {
    const STEP: f32 = 1.0 / 32.0;
    let mut moved = x.to_vec();
    let numeric: Vec<f32> = (0..x.len())
        .map(|i| {
            let mut at = |offset: f32| {
                moved[i] = x[i] + offset;
                let value = f(&moved);
                moved[i] = x[i];
                value
            };
            let near = at(STEP) - at(-STEP);
            let far = at(2.0 * STEP) - at(-2.0 * STEP);
            ((8.0 * near - far) / (12.0 * f64::from(STEP))) as f32
        })
        .collect();
    assert_close(gradient, &numeric, tolerance);
}

/// What `f` computes on one thread and on two.
pub fn on_one_and_two_threads<R: Send>(f: impl Fn() -> R + Sync) -> [R; 2] {
    [1, 2].map(|threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&f)
    })
}
