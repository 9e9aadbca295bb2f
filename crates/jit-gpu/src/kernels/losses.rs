//! The objective: interpolation, conversions between the spaces of x, ε and v, losses per image.

use cubecl::prelude::*;

use super::reduce::cube_sum;

/// The conversion of each image from one space to another, `(a·net + b·z)/divisor`, as rows of
/// `[B, 3]`, and the same of x for a target in v.
#[cube]
fn converted(net: f32, z: f32, rows: &Tensor<f32>, image: usize) -> f32 {
    (rows[image * 3] * net + rows[image * 3 + 1] * z) / rows[image * 3 + 2]
}

/// `z = t·x + (1 − t)·ε`: x, ε `[B, P]`, t `[B]`.
#[cube(launch)]
pub fn interpolate(
    x: &Tensor<f32>,
    noise: &Tensor<f32>,
    t: &Tensor<f32>,
    z: &mut Tensor<f32>,
    pixels: usize,
) {
    if ABSOLUTE_POS < z.len() {
        let t = t[ABSOLUTE_POS / pixels];
        z[ABSOLUTE_POS] = t * x[ABSOLUTE_POS] + (1.0f32 - t) * noise[ABSOLUTE_POS];
    }
}

#[cube(launch)]
pub fn convert(
    net: &Tensor<f32>,
    z: &Tensor<f32>,
    rows: &Tensor<f32>,
    out: &mut Tensor<f32>,
    pixels: usize,
) {
    if ABSOLUTE_POS < out.len() {
        let image = ABSOLUTE_POS / pixels;
        out[ABSOLUTE_POS] = converted(net[ABSOLUTE_POS], z[ABSOLUTE_POS], rows, image);
    }
}

/// Prediction less target of value `i`. The target of v is `(x − z)/d`, with the clamped d; for the
/// other spaces `target` is what the error is measured against and `by` converts nothing.
#[cube]
fn error_at(
    net: &Tensor<f32>,
    z: &Tensor<f32>,
    target: &Tensor<f32>,
    by: &Tensor<f32>,
    target_by: &Tensor<f32>,
    i: usize,
    image: usize,
) -> f32 {
    converted(net[i], z[i], by, image) - converted(target[i], z[i], target_by, image)
}

/// One cube an image: the mean squared error of its P values.
#[cube(launch)]
pub fn diffusion_loss(
    net: &Tensor<f32>,
    z: &Tensor<f32>,
    target: &Tensor<f32>,
    by: &Tensor<f32>,
    target_by: &Tensor<f32>,
    loss: &mut Tensor<f32>,
    pixels: usize,
) {
    if CUBE_POS >= loss.len() {
        terminate!();
    }
    let mut scratch = Shared::<[f32]>::new_slice(128usize);
    let image = CUBE_POS;
    let mut sum = 0.0f32;
    for p in range_stepped(UNIT_POS as usize, pixels, 128usize) {
        let e = error_at(net, z, target, by, target_by, image * pixels + p, image);
        sum += e * e;
    }
    let total = cube_sum(sum, &mut scratch);
    if UNIT_POS == 0 {
        loss[image] = total / pixels as f32;
    }
}

/// `dnet = factor[b]·error`
#[cube(launch)]
pub fn diffusion_loss_grad(
    net: &Tensor<f32>,
    z: &Tensor<f32>,
    target: &Tensor<f32>,
    by: &Tensor<f32>,
    target_by: &Tensor<f32>,
    factor: &Tensor<f32>,
    dnet: &mut Tensor<f32>,
    pixels: usize,
) {
    if ABSOLUTE_POS < dnet.len() {
        let image = ABSOLUTE_POS / pixels;
        let e = error_at(net, z, target, by, target_by, ABSOLUTE_POS, image);
        dnet[ABSOLUTE_POS] = factor[image] * e;
    }
}

/// One unit an image: `(p − target)²` and its gradient times `weight`.
#[cube(launch)]
pub fn squared_error(
    prediction: &Tensor<f32>,
    target: &Tensor<f32>,
    weight: &Tensor<f32>,
    loss: &mut Tensor<f32>,
    dprediction: &mut Tensor<f32>,
) {
    if ABSOLUTE_POS < loss.len() {
        let e = prediction[ABSOLUTE_POS] - target[ABSOLUTE_POS];
        loss[ABSOLUTE_POS] = e * e;
        dprediction[ABSOLUTE_POS] = 2.0f32 * weight[ABSOLUTE_POS] * e;
    }
}

/// One unit an image: `−log softmax(logits)[class]` and its gradient times `weight`.
#[cube(launch)]
pub fn cross_entropy(
    logits: &Tensor<f32>,
    class: &Tensor<u32>,
    weight: &Tensor<f32>,
    loss: &mut Tensor<f32>,
    dlogits: &mut Tensor<f32>,
    classes: usize,
) {
    if ABSOLUTE_POS < loss.len() {
        let row = ABSOLUTE_POS * classes;
        let mut largest = logits[row];
        for k in 1..classes {
            largest = f32::max(largest, logits[row + k]);
        }
        let mut sum = 0.0f32;
        for k in 0..classes {
            sum += f32::exp(logits[row + k] - largest);
        }
        let truth = class[ABSOLUTE_POS] as usize;
        loss[ABSOLUTE_POS] = largest + f32::ln(sum) - logits[row + truth];
        let w = weight[ABSOLUTE_POS];
        for k in 0..classes {
            let p = f32::exp(logits[row + k] - largest) / sum;
            dlogits[row + k] = w * (p - select(k == truth, 1.0f32, 0.0f32));
        }
    }
}
