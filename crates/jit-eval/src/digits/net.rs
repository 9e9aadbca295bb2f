//! The network: three 3×3 convolutions, each with ReLU and a 2×2 maximum pool, a hidden layer whose
//! activations are the features, and ten logits. Pixels are channels-last, `[B, H, W, C]`.

use jit_kernels::conv::{ConvShape, Filters, conv_relu};
use jit_kernels::gemm::Precision;
use jit_kernels::linear::{PackedWeight, linear, linear_grad_input, linear_grad_weight};
use jit_kernels::pool::{Pool, PoolShape, pool};
use rayon::prelude::*;

/// Side of a digit.
pub const SIDE: usize = 28;
/// Values of a feature.
pub const FEATURES: usize = 64;
/// Digits.
pub const CLASSES: usize = 10;

/// Side, channels and outputs of each convolution.
const CONVS: [(usize, usize, usize); 3] = [(SIDE, 1, 16), (14, 16, 32), (7, 32, 64)];
/// Values of the last pool, 3·3·64.
const FLAT: usize = 576;

/// Names and shapes of the weights; filters are `[O, kh, kw, C]`.
pub const SHAPES: [(&str, &[usize]); 10] = [
    ("conv1.weight", &[16, 3, 3, 1]),
    ("conv1.bias", &[16]),
    ("conv2.weight", &[32, 3, 3, 16]),
    ("conv2.bias", &[32]),
    ("conv3.weight", &[64, 3, 3, 32]),
    ("conv3.bias", &[64]),
    ("hidden.weight", &[FEATURES, FLAT]),
    ("hidden.bias", &[FEATURES]),
    ("logits.weight", &[CLASSES, FEATURES]),
    ("logits.bias", &[CLASSES]),
];
/// Where the weights of the linear layers are among [`SHAPES`].
const HIDDEN: usize = 6;
const LOGITS: usize = 8;

/// The network with its weights.
pub struct Net {
    /// In the order of [`SHAPES`].
    pub values: Vec<Vec<f32>>,
}

/// What the network says of a batch.
pub struct Said {
    /// `[B, FEATURES]`
    pub features: Vec<f32>,
    /// `[B, CLASSES]`
    pub logits: Vec<f32>,
    /// Input, output and pooled output of each convolution.
    stages: Vec<Stage>,
}

struct Stage {
    x: Vec<f32>,
    y: Vec<f32>,
}

impl Net {
    /// With these weights, in the order and of the shapes of [`SHAPES`].
    pub fn new(values: Vec<Vec<f32>>) -> Self {
        Self { values }
    }

    /// Features and logits of `x` `[B, 28, 28]`.
    pub fn forward(&self, x: &[f32]) -> Said {
        let batch = x.len() / (SIDE * SIDE);
        let mut stages = Vec::new();
        let mut x = x.to_vec();
        for (i, &(side, channels, outputs)) in CONVS.iter().enumerate() {
            let filters = Filters::new(&self.values[2 * i], self.values[2 * i + 1].clone());
            let mut y = vec![0.0; batch * side * side * outputs];
            conv_relu(&x, conv_shape(batch, side, channels), &filters, &mut y, outputs, 0);
            let half = side / 2;
            let mut pooled = vec![0.0; batch * half * half * outputs];
            pool(&y, pool_shape(batch, side, outputs), Pool::Max, &mut pooled, outputs, 0);
            stages.push(Stage { x: std::mem::replace(&mut x, pooled), y });
        }
        let mut features = vec![0.0; batch * FEATURES];
        self.linear(HIDDEN, &x, &mut features);
        features.iter_mut().for_each(|v| *v = v.max(0.0));
        let mut logits = vec![0.0; batch * CLASSES];
        self.linear(LOGITS, &features, &mut logits);
        stages.push(Stage { x, y: Vec::new() });
        Said { features, logits, stages }
    }

    fn linear(&self, layer: usize, x: &[f32], y: &mut [f32]) {
        let packed = PackedWeight::new(Precision::F32);
        let [outputs, inputs] = extents(layer);
        linear(
            x,
            packed.with(&self.values[layer], outputs, inputs),
            Some(&self.values[layer + 1]),
            y,
        );
    }

    /// Adds to `grads`, of the shapes of [`SHAPES`], those of a loss whose gradient by the logits is
    /// `dlogits` `[B, CLASSES]`.
    pub fn backward(&self, said: &Said, dlogits: &[f32], grads: &mut [Vec<f32>]) {
        let batch = dlogits.len() / CLASSES;
        let Some((flat, convs)) = said.stages.split_last() else { return };
        let mut dfeatures = self.linear_backward(LOGITS, &said.features, dlogits, grads);
        mask(&mut dfeatures, &said.features);
        let mut dpooled = self.linear_backward(HIDDEN, &flat.x, &dfeatures, grads);
        for (i, stage) in convs.iter().enumerate().rev() {
            let (side, channels, outputs) = CONVS[i];
            let mut dy = max_pool_backward(&stage.y, &dpooled, batch, side, outputs);
            mask(&mut dy, &stage.y);
            let (rows, patch) = (batch * side * side, 9 * channels);
            let patches = patches(&stage.x, side, channels);
            let (left, right) = grads.split_at_mut(2 * i + 1);
            let (dw, db) = (&mut left[2 * i], &mut right[0]);
            linear_grad_weight(Precision::F32, &patches, &dy, rows, dw, Some(db));
            if i > 0 {
                let packed = PackedWeight::new(Precision::F32);
                let weight = packed.with(&self.values[2 * i], outputs, patch);
                let mut dpatches = vec![0.0; rows * patch];
                linear_grad_input(&dy, weight, &mut dpatches, false);
                dpooled = add_patches(&dpatches, side, channels);
            }
        }
    }

    /// Gradients of a linear layer; returns that of its input.
    fn linear_backward(
        &self,
        layer: usize,
        x: &[f32],
        dy: &[f32],
        grads: &mut [Vec<f32>],
    ) -> Vec<f32> {
        let [outputs, inputs] = extents(layer);
        let rows = dy.len() / outputs;
        let (left, right) = grads.split_at_mut(layer + 1);
        let (dw, db) = (&mut left[layer], &mut right[0]);
        linear_grad_weight(Precision::F32, x, dy, rows, dw, Some(db));
        let packed = PackedWeight::new(Precision::F32);
        let mut dx = vec![0.0; rows * inputs];
        linear_grad_input(dy, packed.with(&self.values[layer], outputs, inputs), &mut dx, false);
        dx
    }
}

/// The index of the largest value.
pub fn largest(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0)
}

/// Outputs and inputs of a linear layer.
fn extents(layer: usize) -> [usize; 2] {
    if layer == HIDDEN { [FEATURES, FLAT] } else { [CLASSES, FEATURES] }
}

fn conv_shape(batch: usize, side: usize, channels: usize) -> ConvShape {
    let (height, width) = (side, side);
    ConvShape { batch, height, width, channels, kernel: [3, 3], stride: 1, padding: [1, 1] }
}

fn pool_shape(batch: usize, side: usize, channels: usize) -> PoolShape {
    let (height, width) = (side, side);
    PoolShape { batch, height, width, channels, window: 2, stride: 2, padding: 0 }
}

/// The backward pass of a ReLU with output `y`.
fn mask(dy: &mut [f32], y: &[f32]) {
    dy.iter_mut().zip(y).filter(|(_, y)| **y <= 0.0).for_each(|(dy, _)| *dy = 0.0);
}

/// Gives the gradient of each window to its first largest value. `y` `[B, side, side, C]`.
fn max_pool_backward(y: &[f32], dpooled: &[f32], batch: usize, side: usize, c: usize) -> Vec<f32> {
    let half = side / 2;
    let mut dy = vec![0.0; batch * side * side * c];
    let images = dy.par_chunks_mut(side * side * c).zip(y.par_chunks(side * side * c));
    images.zip(dpooled.par_chunks(half * half * c)).for_each(|((dy, y), dpooled)| {
        for (at, &gradient) in dpooled.iter().enumerate() {
            let (row, column, channel) = (at / (half * c), at / c % half, at % c);
            let pixel = |dr, dc| ((2 * row + dr) * side + 2 * column + dc) * c + channel;
            let mut best = pixel(0, 0);
            for other in [pixel(0, 1), pixel(1, 0), pixel(1, 1)] {
                if y[other] > y[best] {
                    best = other;
                }
            }
            dy[best] += gradient;
        }
    });
    dy
}

/// For each pixel the taps of its 3×3 patch that lie in the image: (tap, pixel).
fn taps(side: usize, pixel: usize) -> impl Iterator<Item = (usize, usize)> {
    let (row, column) = (pixel / side, pixel % side);
    (0..9).filter_map(move |tap| {
        let (r, c) = (row + tap / 3, column + tap % 3);
        let inside = (1..=side).contains(&r) && (1..=side).contains(&c);
        inside.then(|| (tap, (r - 1) * side + c - 1))
    })
}

/// The 3×3 patches of `x` `[B, side, side, C]`, zero outside: `[B·side·side, 9·C]`.
fn patches(x: &[f32], side: usize, c: usize) -> Vec<f32> {
    let pixels = side * side;
    let mut out = vec![0.0; x.len() * 9];
    out.par_chunks_mut(pixels * 9 * c).zip(x.par_chunks(pixels * c)).for_each(|(out, x)| {
        for (pixel, patch) in out.chunks_exact_mut(9 * c).enumerate() {
            for (tap, source) in taps(side, pixel) {
                patch[tap * c..][..c].copy_from_slice(&x[source * c..][..c]);
            }
        }
    });
    out
}

/// The transpose of [`patches`]: adds every tap to its pixel.
fn add_patches(dpatches: &[f32], side: usize, c: usize) -> Vec<f32> {
    let pixels = side * side;
    let mut dx = vec![0.0; dpatches.len() / 9];
    dx.par_chunks_mut(pixels * c).zip(dpatches.par_chunks(pixels * 9 * c)).for_each(
        |(dx, dpatches)| {
            for (pixel, patch) in dpatches.chunks_exact(9 * c).enumerate() {
                for (tap, source) in taps(side, pixel) {
                    let dx = &mut dx[source * c..][..c];
                    dx.iter_mut().zip(&patch[tap * c..][..c]).for_each(|(dx, &d)| *dx += d);
                }
            }
        },
    );
    dx
}

#[cfg(test)]
mod tests {
    use jit_core::rng::{Purpose, Stream};

    use super::*;
    use crate::digits::train::initial;

    /// The network in f64, loop by loop: logits `[B, CLASSES]`.
    fn plain(values: &[Vec<f64>], x: &[f32]) -> Vec<f64> {
        let mut logits = Vec::new();
        for image in x.chunks(SIDE * SIDE) {
            let mut x: Vec<f64> = image.iter().map(|&v| f64::from(v)).collect();
            for (i, &(side, c, outputs)) in CONVS.iter().enumerate() {
                let y = |pixel: usize, o: usize| -> f64 {
                    let filter = &values[2 * i][o * 9 * c..][..9 * c];
                    let products = taps(side, pixel).flat_map(|(tap, source)| {
                        (0..c).map(move |k| (tap * c + k, source * c + k))
                    });
                    let sum: f64 = products.map(|(w, v)| filter[w] * x[v]).sum();
                    (sum + values[2 * i + 1][o]).max(0.0)
                };
                let half = side / 2;
                let pooled = (0..half * half * outputs).map(|at| {
                    let (pixel, o) = (at / outputs, at % outputs);
                    let corner = pixel / half * 2 * side + pixel % half * 2;
                    let window = [corner, corner + 1, corner + side, corner + side + 1];
                    window.into_iter().map(|pixel| y(pixel, o)).fold(0.0, f64::max)
                });
                x = pooled.collect();
            }
            for layer in [HIDDEN, LOGITS] {
                let rows = values[layer].chunks(x.len()).zip(&values[layer + 1]);
                let y = rows.map(|(w, b)| b + w.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>());
                x = y.map(|v| if layer == HIDDEN { v.max(0.0) } else { v }).collect();
            }
            logits.extend(x);
        }
        logits
    }

    #[test]
    fn outputs_are_those_of_plain_loops_and_gradients_their_derivatives() {
        let net = Net::new(initial(3));
        let mut x = vec![0.0; 2 * SIDE * SIDE];
        Stream::new(1, Purpose::Noise, 0, 0).fill_uniform(0.0, 1.0, &mut x);
        let said = net.forward(&x);
        let mut values: Vec<Vec<f64>> =
            net.values.iter().map(|v| v.iter().map(|&v| f64::from(v)).collect()).collect();
        for (have, want) in said.logits.iter().zip(plain(&values, &x)) {
            assert!((f64::from(*have) - want).abs() < 1e-5, "{have} {want}");
        }
        // The derivative of Σ u·logits, along a random direction of each tensor.
        let mut u = vec![0.0; said.logits.len()];
        Stream::new(2, Purpose::Noise, 0, 0).fill_normal(&mut u);
        let mut grads: Vec<Vec<f32>> = net.values.iter().map(|v| vec![0.0; v.len()]).collect();
        net.backward(&said, &u, &mut grads);
        for (tensor, (name, _)) in SHAPES.iter().enumerate() {
            let mut direction = vec![0.0; values[tensor].len()];
            Stream::new(3, Purpose::Noise, 0, tensor as u64).fill_normal(&mut direction);
            let original = values[tensor].clone();
            let mut moved = |step: f64| -> f64 {
                let pairs = original.iter().zip(&direction);
                values[tensor] = pairs.map(|(v, &d)| v + step * f64::from(d)).collect();
                plain(&values, &x).iter().zip(&u).map(|(logit, &u)| logit * f64::from(u)).sum()
            };
            let slope = (moved(1e-7) - moved(-1e-7)) / 2e-7;
            values[tensor] = original;
            let terms = grads[tensor].iter().zip(&direction);
            let want: f64 = terms.map(|(&g, &d)| f64::from(g) * f64::from(d)).sum();
            assert!((slope - want).abs() < 1e-4 * want.abs().max(1.0), "{name}: {slope} {want}");
        }
    }

    #[test]
    fn flat_is_what_the_last_pool_leaves() {
        let (side, _, outputs) = CONVS[2];
        assert_eq!(FLAT, (side / 2) * (side / 2) * outputs);
    }
}
