//! Training of the classifier: cross entropy on distorted digits, AdamW, a cosine schedule, and an
//! average of the weights at the end.

use std::collections::BTreeMap;
use std::path::Path;

use jit_core::rng::{Purpose, Stream, permutation};
use jit_data::digits::{self, Split};
use jit_kernels::adamw::{AdamW, adamw_step};
use jit_model::weights::write_safetensors;
use rayon::prelude::*;

use super::accuracy;
use super::distort::distort;
use super::net::{CLASSES, Net, SHAPES, SIDE};
use crate::EvalError;

/// Passes over the training digits.
const EPOCHS: usize = 30;
/// Digits in a step.
const BATCH: usize = 64;
/// Highest learning rate.
const LR: f64 = 3e-3;
/// Steps until it is reached.
const WARMUP: usize = 100;
/// Decay of the weights that are matrices.
const WEIGHT_DECAY: f64 = 1e-2;
/// Decay of the average.
const EMA_DECAY: f64 = 0.998;
/// Probability that is spread evenly over all classes.
const SMOOTHING: f64 = 0.05;
/// Seed of everything.
const SEED: u64 = 0;

/// Where training is: steps done, steps in all, and the loss of the last.
pub type Progress<'a> = dyn FnMut(usize, usize, f64) + 'a;

/// A trained network.
pub struct Trained {
    net: Net,
    accuracy: f64,
}

/// Trains on the 8 000 training digits, always to the same bits on the same kind of processor.
///
/// # Errors
/// If the digits compiled into the program are unusable.
pub fn train(progress: &mut Progress<'_>) -> Result<Trained, EvalError> {
    let tiles = digits::tiles()?;
    let count = Split::Train.range().len();
    let mut net = Net::new(initial(SEED));
    let zeros = || net.values.iter().map(|v| vec![0.0; v.len()]).collect::<Vec<Vec<f32>>>();
    let (mut first, mut second, mut average) = (zeros(), zeros(), net.values.clone());
    let per_epoch = count / BATCH;
    let steps = EPOCHS * per_epoch;
    for step in 0..steps {
        let epoch = (step / per_epoch) as u64;
        let order = permutation(Stream::new(SEED, Purpose::Order, epoch, 0), count);
        let chosen = &order[step % per_epoch * BATCH..][..BATCH];
        let mut x = vec![0.0; BATCH * SIDE * SIDE];
        x.par_chunks_mut(SIDE * SIDE).zip(chosen).for_each(|(x, &tile)| {
            let stream = Stream::new(SEED, Purpose::Distortion, epoch, u64::from(tile));
            distort(&tiles[tile as usize * SIDE * SIDE..][..SIDE * SIDE], stream, x);
        });
        let labels: Vec<u32> = chosen.iter().map(|&tile| digits::label(tile as usize)).collect();
        let said = net.forward(&x);
        let (loss, dlogits) = cross_entropy(&said.logits, &labels);
        let mut grads: Vec<Vec<f32>> = net.values.iter().map(|v| vec![0.0; v.len()]).collect();
        net.backward(&said, &dlogits, &mut grads);
        let done = step + 1;
        for (i, (_, shape)) in SHAPES.iter().enumerate() {
            let adamw = AdamW {
                lr: learning_rate(step, steps),
                beta1: 0.9,
                beta2: 0.99,
                eps: 1e-8,
                weight_decay: if shape.len() > 1 { WEIGHT_DECAY } else { 0.0 },
                bias1: 1.0 - 0.9f64.powi(done as i32),
                bias2: 1.0 - 0.99f64.powi(done as i32),
            };
            let mut emas = [(&mut average[i][..], EMA_DECAY)];
            let (m, v) = (&mut first[i], &mut second[i]);
            adamw_step(&mut net.values[i], &grads[i], m, v, &mut emas, 1.0, &adamw);
        }
        progress(done, steps, loss);
    }
    let net = Net::new(average);
    let accuracy = accuracy(&net, Split::HeldOut)?;
    Ok(Trained { net, accuracy })
}

impl Trained {
    /// The share of the held-out digits that it reads right.
    pub fn accuracy(&self) -> f64 {
        self.accuracy
    }

    /// Writes the weights, with how they came to be.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), EvalError> {
        let metadata = BTreeMap::from([
            ("held_out_accuracy".to_string(), format!("{:.4}", self.accuracy)),
            ("made_by".to_string(), "jit weights train-digits".to_string()),
        ]);
        let tensors = SHAPES.iter().zip(&self.net.values);
        let tensors = tensors.map(|(&(name, shape), values)| (name, shape, &values[..]));
        Ok(write_safetensors(path, tensors, &metadata)?)
    }
}

/// A linear warmup, then half a cosine down to zero.
fn learning_rate(step: usize, steps: usize) -> f64 {
    let warmup = ((step + 1) as f64 / WARMUP as f64).min(1.0);
    let progress = step as f64 / steps as f64;
    LR * warmup * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
}

/// He initialisation (2015): normal with deviation √(2/fan-in); biases zero.
pub(super) fn initial(seed: u64) -> Vec<Vec<f32>> {
    let tensor = |(i, (_, shape)): (usize, &(&str, &[usize]))| {
        let count = shape.iter().product();
        let mut values = vec![0.0; count];
        if shape.len() > 1 {
            let deviation = (2.0 / (count / shape[0]) as f32).sqrt();
            Stream::new(seed, Purpose::Init, 0, i as u64).fill_normal(&mut values);
            values.iter_mut().for_each(|v| *v *= deviation);
        }
        values
    };
    SHAPES.iter().enumerate().map(tensor).collect()
}

/// Mean cross entropy with smoothed labels, and its gradient by the logits `[B, CLASSES]`.
pub(super) fn cross_entropy(logits: &[f32], labels: &[u32]) -> (f64, Vec<f32>) {
    let batch = labels.len() as f64;
    let mut loss = 0.0;
    let mut gradient = Vec::with_capacity(logits.len());
    for (row, &label) in logits.chunks_exact(CLASSES).zip(labels) {
        let max = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = row.iter().map(|&v| (f64::from(v) - max).exp()).sum();
        for (class, &v) in row.iter().enumerate() {
            let log = f64::from(v) - max - sum.ln();
            let right = if class == label as usize { 1.0 - SMOOTHING } else { 0.0 };
            let target = right + SMOOTHING / CLASSES as f64;
            loss -= target * log / batch;
            gradient.push(((log.exp() - target) / batch) as f32);
        }
    }
    (loss, gradient)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_depends_on_nothing_but_the_seed() {
        // The threads of the pool share the work in another way each time.
        let loss = || {
            let mut losses = Vec::new();
            let net = Net::new(initial(1));
            let x = vec![0.5; 2 * SIDE * SIDE];
            let said = net.forward(&x);
            let (loss, dlogits) = cross_entropy(&said.logits, &[1, 2]);
            let mut grads: Vec<Vec<f32>> = net.values.iter().map(|v| vec![0.0; v.len()]).collect();
            net.backward(&said, &dlogits, &mut grads);
            losses.push(loss);
            (losses, grads)
        };
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let many = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        assert_eq!(alone.install(loss), many.install(loss));
    }

    #[test]
    fn indifferent_logits_cost_the_logarithm_of_the_classes() {
        let (loss, gradient) = cross_entropy(&[0.0; CLASSES], &[4]);
        assert!((loss - (CLASSES as f64).ln()).abs() < 1e-9);
        assert!((gradient.iter().sum::<f32>()).abs() < 1e-6 && gradient[4] < 0.0);
    }

    #[test]
    fn the_rate_rises_and_ends_at_nothing() {
        assert!(learning_rate(0, 1000) < 0.02 * LR && learning_rate(200, 1000) > 0.8 * LR);
        assert!(learning_rate(999, 1000) < 1e-5 * LR);
    }
}
