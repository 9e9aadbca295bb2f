//! AdamW (Loshchilov & Hutter 2019) and the exponential moving averages, in one pass over memory.

use crate::{disjoint::Disjoint, par};

/// Elements a task handles. Part of the definition of [`sum_squares`]: its partial sums are over
/// chunks of this size.
const CHUNK: usize = 1 << 14;
/// Rough cost of an element in scalar operations.
const OPS: usize = 16;

/// The scalars of one AdamW step.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay; 0 for 1-D parameters.
    pub weight_decay: f64,
    /// Bias correction `1 − beta1^step`, steps counted from 1.
    pub bias1: f64,
    /// Bias correction `1 − beta2^step`.
    pub bias2: f64,
}

/// One step on one tensor, exactly as PyTorch's AdamW, then every average:
///
/// ```text
/// g ← grad_scale·g                 p ← p·(1 − lr·weight_decay)
/// m ← beta1·m + (1 − beta1)·g      v ← beta2·v + (1 − beta2)·g²
/// p ← p − lr/bias1 · m / (√v/√bias2 + eps)
/// ema ← decay·ema + (1 − decay)·p  for each (ema, decay)
/// ```
///
/// `grad_scale` is the factor of gradient clipping or accumulation (1 for none). All slices are as
/// long as `p`.
pub fn adamw_step(
    p: &mut [f32],
    g: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    emas: &mut [(&mut [f32], f64)],
    grad_scale: f32,
    adamw: &AdamW,
) {
    let len = p.len();
    assert_eq!((g.len(), m.len(), v.len()), (len, len, len), "adamw_step: lengths differ");
    assert!(emas.iter().all(|(ema, _)| ema.len() == len), "adamw_step: an EMA's length differs");
    // Scalars are derived in f64, as Python does, and only then rounded.
    let shrink = (1.0 - adamw.lr * adamw.weight_decay) as f32;
    let (beta1, rest1) = (adamw.beta1 as f32, (1.0 - adamw.beta1) as f32);
    let (beta2, rest2) = (adamw.beta2 as f32, (1.0 - adamw.beta2) as f32);
    let step = (adamw.lr / adamw.bias1) as f32;
    let (root, eps) = ((1.0 / adamw.bias2.sqrt()) as f32, adamw.eps as f32);

    // One task updates a chunk of the parameter and the same chunk of every average, while the new
    // values are still in the cache.
    let [p, m, v] = [p, m, v].map(Disjoint::new);
    let emas: Vec<_> = emas.iter_mut().map(|(ema, decay)| (Disjoint::new(ema), *decay)).collect();
    par::for_each_index(len.div_ceil(CHUNK), OPS * len, |chunk| {
        let from = chunk * CHUNK;
        let count = CHUNK.min(len - from);
        // SAFETY: chunks do not overlap, and each is one task's.
        let [p, m, v] = [p, m, v].map(|x| unsafe { x.part(from, count) });
        for (((p, g), m), v) in p.iter_mut().zip(&g[from..]).zip(m).zip(v) {
            let g = grad_scale * g;
            *m = beta1 * *m + rest1 * g;
            *v = beta2 * *v + rest2 * (g * g);
            *p = *p * shrink - step * *m / (v.sqrt() * root + eps);
        }
        for (ema, decay) in &emas {
            // SAFETY: as above.
            let ema = unsafe { ema.part(from, count) };
            let (decay, rest) = (*decay as f32, (1.0 - decay) as f32);
            for (e, p) in ema.iter_mut().zip(&*p) {
                *e = decay * *e + rest * p;
            }
        }
    });
}

/// `Σ x²` in f64, for the global gradient norm: partial sums over fixed chunks, added in order, so
/// the result does not depend on the number of threads.
pub fn sum_squares(x: &[f32]) -> f64 {
    par::sum_ranges(x.len(), CHUNK, x.len(), |range| {
        // Independent accumulators, so that the loop is not bound by the latency of one sum.
        let mut lanes = [0.0f64; 8];
        let eights = x[range].chunks_exact(8);
        let rest: f64 = eights.remainder().iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        for eight in eights {
            for (lane, &v) in lanes.iter_mut().zip(eight) {
                *lane += f64::from(v) * f64::from(v);
            }
        }
        lanes.iter().sum::<f64>() + rest
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, random};

    /// The published algorithm in f64, one element at a time, written from the paper rather than
    /// from the code above (bias-corrected moments, then the step).
    fn reference(p0: f32, grads: &[f32], decays: &[f64], lr: f64, wd: f64) -> Vec<f64> {
        let (beta1, beta2, eps) = (0.9, 0.95, 1e-8);
        let mut p = f64::from(p0);
        let (mut m, mut v) = (0.0, 0.0);
        let mut emas = vec![p; decays.len()];
        for (i, &g) in grads.iter().enumerate() {
            let g = 0.5 * f64::from(g);
            let step = i as i32 + 1;
            m = beta1 * m + (1.0 - beta1) * g;
            v = beta2 * v + (1.0 - beta2) * g * g;
            let m_hat = m / (1.0 - f64::powi(beta1, step));
            let v_hat = v / (1.0 - f64::powi(beta2, step));
            p = p - lr * wd * p - lr * m_hat / (v_hat.sqrt() + eps);
            for (ema, d) in emas.iter_mut().zip(decays) {
                *ema = d * *ema + (1.0 - d) * p;
            }
        }
        emas.push(p);
        emas
    }

    #[test]
    fn ten_steps_match_the_published_algorithm() {
        let len = CHUNK + 37;
        let p0 = random(1, len);
        let grads: Vec<Vec<f32>> = (0..10).map(|i| random(10 + i, len)).collect();
        let decays = [0.9, 0.9999];
        let (lr, wd) = (1e-2, 0.1);
        let (mut p, mut m, mut v) = (p0.clone(), vec![0.0; len], vec![0.0; len]);
        let (mut ema1, mut ema2) = (p0.clone(), p0.clone());
        for (i, g) in grads.iter().enumerate() {
            let adamw = AdamW {
                lr,
                beta1: 0.9,
                beta2: 0.95,
                eps: 1e-8,
                weight_decay: wd,
                bias1: 1.0 - 0.9f64.powi(i as i32 + 1),
                bias2: 1.0 - 0.95f64.powi(i as i32 + 1),
            };
            let emas = &mut [(&mut ema1[..], decays[0]), (&mut ema2[..], decays[1])];
            adamw_step(&mut p, g, &mut m, &mut v, emas, 0.5, &adamw);
        }
        let expected: Vec<Vec<f64>> = (0..len)
            .map(|e| {
                let g: Vec<f32> = grads.iter().map(|g| g[e]).collect();
                reference(p0[e], &g, &decays, lr, wd)
            })
            .collect();
        for (actual, column) in [(&ema1, 0), (&ema2, 1), (&p, 2)] {
            let expected: Vec<f32> = expected.iter().map(|e| e[column] as f32).collect();
            assert_close(actual, &expected, 1e-6);
        }
    }

    #[test]
    fn the_sum_of_squares_is_exact_over_chunk_borders() {
        let x: Vec<f32> = (0..CHUNK + 11).map(|i| (i % 13) as f32).collect();
        let expected: u64 = (0..CHUNK as u64 + 11).map(|i| (i % 13) * (i % 13)).sum();
        assert_eq!(sum_squares(&x), expected as f64);
        assert_eq!(sum_squares(&[]), 0.0);
    }
}
