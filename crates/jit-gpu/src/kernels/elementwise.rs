//! One unit an element: sums, activations, the residual.

use std::f32::consts::FRAC_2_SQRT_PI;

use cubecl::prelude::*;

const TWO_OVER_ROOT_PI: f32 = FRAC_2_SQRT_PI;

#[cube(launch)]
pub fn fill(out: &mut Tensor<f32>, value: f32) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = value;
    }
}

/// `out = a·x + b·y`
#[cube(launch)]
pub fn axpby(x: &Tensor<f32>, y: &Tensor<f32>, out: &mut Tensor<f32>, a: f32, b: f32) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = a * x[ABSOLUTE_POS] + b * y[ABSOLUTE_POS];
    }
}

/// `x += y`
#[cube(launch)]
pub fn add_assign(x: &mut Tensor<f32>, y: &Tensor<f32>) {
    if ABSOLUTE_POS < x.len() {
        x[ABSOLUTE_POS] += y[ABSOLUTE_POS];
    }
}

/// Copies into a tensor of another element type.
#[cube(launch)]
pub fn round_to<E: Float>(x: &Tensor<f32>, out: &mut Tensor<E>) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = E::cast_from(x[ABSOLUTE_POS]);
    }
}

/// `out = x + rows`, the rows repeated: x `[B, R]`, rows `[R]`.
#[cube(launch)]
pub fn add_rows(x: &Tensor<f32>, rows: &Tensor<f32>, out: &mut Tensor<f32>) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = x[ABSOLUTE_POS] + rows[ABSOLUTE_POS % rows.len()];
    }
}

/// `x += rows`, the rows repeated.
#[cube(launch)]
pub fn add_rows_in_place(x: &mut Tensor<f32>, rows: &Tensor<f32>) {
    if ABSOLUTE_POS < x.len() {
        x[ABSOLUTE_POS] += rows[ABSOLUTE_POS % rows.len()];
    }
}

#[cube]
fn sigmoid(x: f32) -> f32 {
    1.0f32 / (1.0f32 + f32::exp(-x))
}

/// `x·sigmoid(x)`
#[cube(launch)]
pub fn silu(x: &Tensor<f32>, out: &mut Tensor<f32>) {
    if ABSOLUTE_POS < out.len() {
        let v = x[ABSOLUTE_POS];
        out[ABSOLUTE_POS] = v * sigmoid(v);
    }
}

#[cube]
fn silu_slope(x: f32) -> f32 {
    let gate = sigmoid(x);
    gate * (1.0f32 + x * (1.0f32 - gate))
}

#[cube(launch)]
pub fn silu_grad(x: &Tensor<f32>, dy: &Tensor<f32>, dx: &mut Tensor<f32>) {
    if ABSOLUTE_POS < dx.len() {
        dx[ABSOLUTE_POS] = dy[ABSOLUTE_POS] * silu_slope(x[ABSOLUTE_POS]);
    }
}

/// Φ(x) = (1 + erf(x/√2))/2
#[cube]
fn normal_cdf(x: f32) -> f32 {
    0.5f32 + 0.5f32 * erf(x * 0.707_106_77f32)
}

/// The error function to 1.2·10⁻⁷, relative: a Chebyshev fit of `erfc` (Numerical Recipes, §6.2)
/// where |x| ≥ ½, its Taylor series below.
#[cube]
fn erf(x: f32) -> f32 {
    let a = f32::abs(x);
    let t = 1.0f32 / (1.0f32 + 0.5f32 * a);
    let tail = -1.265_512_2f32
        + t * (1.000_023_7f32
            + t * (0.374_091_96f32
                + t * (0.096_784_18f32
                    + t * (-0.186_288_06f32
                        + t * (0.278_868_07f32
                            + t * (-1.135_204f32
                                + t * (1.488_515_9f32
                                    + t * (-0.822_152_23f32 + t * 0.170_872_77f32))))))));
    let far = 1.0f32 - t * f32::exp(-a * a + tail);
    let s = a * a;
    let near = a
        * TWO_OVER_ROOT_PI
        * (1.0f32
            + s * (-0.333_333_34f32
                + s * (0.1f32
                    + s * (-0.023_809_524f32
                        + s * (0.004_629_63f32
                            + s * (-0.000_757_575_76f32 + s * 0.000_106_837_61f32))))));
    let value = select(a < 0.5f32, near, far);
    select(x < 0.0f32, -value, value)
}

/// GELU with the error function, `x·Φ(x)`.
#[cube(launch)]
pub fn gelu(x: &Tensor<f32>, out: &mut Tensor<f32>) {
    if ABSOLUTE_POS < out.len() {
        let v = x[ABSOLUTE_POS];
        out[ABSOLUTE_POS] = v * normal_cdf(v);
    }
}

#[cube(launch)]
pub fn gelu_grad(x: &Tensor<f32>, dy: &Tensor<f32>, dx: &mut Tensor<f32>) {
    if ABSOLUTE_POS < dx.len() {
        let v = x[ABSOLUTE_POS];
        // 1/√2π
        let density = 0.398_942_3f32 * f32::exp(-0.5f32 * v * v);
        dx[ABSOLUTE_POS] = dy[ABSOLUTE_POS] * (normal_cdf(v) + v * density);
    }
}

/// `silu(a)·b` of the halves of each row: h `[R, 2·m]`, out `[R, m]`.
#[cube(launch)]
pub fn swiglu(h: &Tensor<f32>, out: &mut Tensor<f32>, m: usize) {
    if ABSOLUTE_POS < out.len() {
        let at = ABSOLUTE_POS / m * 2 * m + ABSOLUTE_POS % m;
        let a = h[at];
        out[ABSOLUTE_POS] = a * sigmoid(a) * h[at + m];
    }
}

/// Gradient of [`swiglu`], and its output again.
#[cube(launch)]
pub fn swiglu_grad(
    h: &Tensor<f32>,
    dy: &Tensor<f32>,
    dh: &mut Tensor<f32>,
    out: &mut Tensor<f32>,
    m: usize,
) {
    if ABSOLUTE_POS < out.len() {
        let at = ABSOLUTE_POS / m * 2 * m + ABSOLUTE_POS % m;
        let (a, b, d) = (h[at], h[at + m], dy[ABSOLUTE_POS]);
        let gated = a * sigmoid(a);
        dh[at] = d * b * silu_slope(a);
        dh[at + m] = d * gated;
        out[ABSOLUTE_POS] = gated * b;
    }
}

/// `x + gate·y`: x, y `[B, N, D]`, the gates at `offset` of mods `[B, stride]`.
#[cube(launch)]
pub fn gated_residual(
    x: &Tensor<f32>,
    y: &Tensor<f32>,
    mods: &Tensor<f32>,
    out: &mut Tensor<f32>,
    tokens: usize,
    dim: usize,
    stride: usize,
    offset: usize,
) {
    if ABSOLUTE_POS < out.len() {
        let image = ABSOLUTE_POS / (tokens * dim);
        let gate = mods[image * stride + offset + ABSOLUTE_POS % dim];
        out[ABSOLUTE_POS] = x[ABSOLUTE_POS] + gate * y[ABSOLUTE_POS];
    }
}

/// One unit an (image, channel): `dy = gate·dout`, `dgate += Σ_n dout·y`.
#[cube(launch)]
pub fn gated_residual_grad(
    y: &Tensor<f32>,
    mods: &Tensor<f32>,
    dout: &Tensor<f32>,
    dy: &mut Tensor<f32>,
    dmod: &mut Tensor<f32>,
    images: usize,
    tokens: usize,
    dim: usize,
    stride: usize,
    offset: usize,
) {
    if ABSOLUTE_POS < images * dim {
        let (image, channel) = (ABSOLUTE_POS / dim, ABSOLUTE_POS % dim);
        let at = image * stride + offset + channel;
        let gate = mods[at];
        let mut sum = 0.0f32;
        for token in 0..tokens {
            let i = (image * tokens + token) * dim + channel;
            let d = dout[i];
            sum += d * y[i];
            dy[i] = gate * d;
        }
        dmod[at] += sum;
    }
}
