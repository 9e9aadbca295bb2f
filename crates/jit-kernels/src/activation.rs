//! Pointwise non-linearities: SiLU, and GELU in its exact form (with the error function).

/// `y = x·sigmoid(x)`.
pub fn silu(x: &[f32], y: &mut [f32]) {
    silu_plain(x, y);
}

/// The backward pass of [`silu`]; `dx` is overwritten.
pub fn silu_grad(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    silu_grad_plain(x, dy, dx);
}

/// `y = x·Φ(x)`, Φ the standard normal distribution function.
pub fn gelu(x: &[f32], y: &mut [f32]) {
    gelu_plain(x, y);
}

/// The backward pass of [`gelu`]; `dx` is overwritten.
pub fn gelu_grad(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    gelu_grad_plain(x, dy, dx);
}

/// The plain twin of [`silu`].
pub fn silu_plain(x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "silu: lengths differ");
    for (y, x) in y.iter_mut().zip(x) {
        *y = x / (1.0 + (-x).exp());
    }
}

/// The plain twin of [`silu_grad`].
pub fn silu_grad_plain(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert_eq!((dy.len(), dx.len()), (x.len(), x.len()), "silu_grad: lengths differ");
    for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
        let s = 1.0 / (1.0 + (-x).exp());
        *dx = dy * s * (1.0 + x * (1.0 - s));
    }
}

/// The plain twin of [`gelu`].
pub fn gelu_plain(x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "gelu: lengths differ");
    for (y, &x) in y.iter_mut().zip(x) {
        *y = (f64::from(x) * normal_cdf(f64::from(x))) as f32;
    }
}

/// The plain twin of [`gelu_grad`].
pub fn gelu_grad_plain(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert_eq!((dy.len(), dx.len()), (x.len(), x.len()), "gelu_grad: lengths differ");
    for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
        let x = f64::from(x);
        let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
        *dx = (f64::from(dy) * (normal_cdf(x) + x * density)) as f32;
    }
}

/// Φ(x) to about 1e-15: the Taylor series of erf near zero, where it converges fast, and the
/// continued fraction of erfc elsewhere (Abramowitz & Stegun 7.1.6 and 7.1.14).
fn normal_cdf(x: f64) -> f64 {
    let z = x.abs() / std::f64::consts::SQRT_2;
    let upper = if z < 2.5 {
        let (mut term, mut sum) = (z, z);
        for n in 1..100 {
            term *= 2.0 * z * z / (2 * n + 1) as f64;
            sum += term;
        }
        0.5 - (-z * z).exp() / std::f64::consts::PI.sqrt() * sum
    } else {
        let fraction = (1..100).rev().fold(z, |f, k| z + 0.5 * k as f64 / f);
        0.5 * (-z * z).exp() / (std::f64::consts::PI.sqrt() * fraction)
    };
    if x > 0.0 { 1.0 - upper } else { upper }
}
