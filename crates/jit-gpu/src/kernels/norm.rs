//! RMSNorm with the adaLN modulation: `y = x·r·weight·(1 + scale) + shift`, r the inverse root mean
//! square of a token.

use cubecl::prelude::*;

use super::reduce::cube_sum;

/// Added to the mean square before its root.
const EPS: f32 = 1e-6;

/// Where the modulation of an image lies in its row of `[B, stride]`.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct Place {
    pub stride: usize,
    pub shift: usize,
    pub scale: usize,
}

/// One cube a token: x, y `[B, N, D]`, weight `[D]`, mods `[B, stride]`.
#[cube(launch)]
pub fn rms_norm_modulate(
    x: &Tensor<f32>,
    weight: &Tensor<f32>,
    mods: &Tensor<f32>,
    y: &mut Tensor<f32>,
    tokens: usize,
    dim: usize,
    place: Place,
) {
    if CUBE_POS >= y.len() / dim {
        terminate!();
    }
    let mut scratch = Shared::<[f32]>::new_slice(128usize);
    let at = CUBE_POS * dim;
    let row = CUBE_POS / tokens * place.stride;
    let mut squares = 0.0f32;
    for c in range_stepped(UNIT_POS as usize, dim, 128usize) {
        let v = x[at + c];
        squares += v * v;
    }
    let mean = cube_sum(squares, &mut scratch) / dim as f32;
    let r = 1.0f32 / f32::sqrt(mean + EPS);
    for c in range_stepped(UNIT_POS as usize, dim, 128usize) {
        let gain = weight[c] * (1.0f32 + mods[row + place.scale + c]);
        y[at + c] = x[at + c] * r * gain + mods[row + place.shift + c];
    }
}

/// One cube a token: adds to dx, and keeps r `[B·N]`.
#[cube(launch)]
pub fn rms_norm_modulate_dx(
    x: &Tensor<f32>,
    weight: &Tensor<f32>,
    mods: &Tensor<f32>,
    dy: &Tensor<f32>,
    dx: &mut Tensor<f32>,
    inverse: &mut Tensor<f32>,
    tokens: usize,
    dim: usize,
    place: Place,
) {
    if CUBE_POS >= inverse.len() {
        terminate!();
    }
    let mut scratch = Shared::<[f32]>::new_slice(128usize);
    let at = CUBE_POS * dim;
    let row = CUBE_POS / tokens * place.stride + place.scale;
    let mut squares = 0.0f32;
    let mut products = 0.0f32;
    for c in range_stepped(UNIT_POS as usize, dim, 128usize) {
        let v = x[at + c];
        squares += v * v;
        products += dy[at + c] * weight[c] * (1.0f32 + mods[row + c]) * v;
    }
    let mean = cube_sum(squares, &mut scratch) / dim as f32;
    let r = 1.0f32 / f32::sqrt(mean + EPS);
    let dot = cube_sum(products, &mut scratch) * r * r / dim as f32;
    for c in range_stepped(UNIT_POS as usize, dim, 128usize) {
        let g = dy[at + c] * weight[c] * (1.0f32 + mods[row + c]);
        dx[at + c] += r * (g - x[at + c] * dot);
    }
    if UNIT_POS == 0 {
        inverse[CUBE_POS] = r;
    }
}

/// One unit an (image, channel): adds to the shift's and the scale's gradient and keeps
/// `Σ_n dy·x·r·(1 + scale)`, the weight's, `[B, D]`.
#[cube(launch)]
pub fn rms_norm_modulate_dmod(
    x: &Tensor<f32>,
    weight: &Tensor<f32>,
    mods: &Tensor<f32>,
    dy: &Tensor<f32>,
    inverse: &Tensor<f32>,
    dmod: &mut Tensor<f32>,
    dweight: &mut Tensor<f32>,
    tokens: usize,
    dim: usize,
    place: Place,
) {
    if ABSOLUTE_POS < dweight.len() {
        let (image, c) = (ABSOLUTE_POS / dim, ABSOLUTE_POS % dim);
        let mut du = 0.0f32;
        let mut dshift = 0.0f32;
        for token in 0..tokens {
            let n = image * tokens + token;
            let d = dy[n * dim + c];
            du += d * x[n * dim + c] * inverse[n];
            dshift += d;
        }
        let row = image * place.stride;
        let scale = mods[row + place.scale + c];
        dmod[row + place.shift + c] += dshift;
        dmod[row + place.scale + c] += du * weight[c];
        dweight[ABSOLUTE_POS] = du * (1.0f32 + scale);
    }
}
