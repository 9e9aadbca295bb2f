//! AdamW (Loshchilov & Hutter 2019) and the exponential moving averages, in one pass over memory.

use crate::{
    cpu,
    disjoint::Disjoint,
    lanes::{load_at, store_at},
    par,
    simd::{Simd, simd_kernel},
};

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
    // One task updates a chunk of the parameter and the same chunk of every average, while the new
    // values are still in the cache.
    let (level, step) = (cpu::level(), Step::new(grad_scale, adamw));
    let [p, m, v] = [p, m, v].map(Disjoint::new);
    let emas: Vec<_> = emas.iter_mut().map(|(ema, decay)| (Disjoint::new(ema), *decay)).collect();
    par::for_each_index(len.div_ceil(CHUNK), OPS * len, |chunk| {
        let from = chunk * CHUNK;
        let count = CHUNK.min(len - from);
        // SAFETY: chunks do not overlap, and each is one task's.
        let [p, m, v] = [p, m, v].map(|x| unsafe { x.part(from, count) });
        update(level, &step, &g[from..][..count], p, m, v);
        for (ema, decay) in &emas {
            // SAFETY: as above.
            let ema = unsafe { ema.part(from, count) };
            average(level, *decay as f32, (1.0 - decay) as f32, p, ema);
        }
    });
}

/// The scalars as the loop uses them: derived in f64, as Python does, and only then rounded.
struct Step {
    grad_scale: f32,
    shrink: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    rate: f32,
    root: f32,
    eps: f32,
}

impl Step {
    fn new(grad_scale: f32, adamw: &AdamW) -> Self {
        Self {
            grad_scale,
            shrink: (1.0 - adamw.lr * adamw.weight_decay) as f32,
            beta1: adamw.beta1 as f32,
            rest1: (1.0 - adamw.beta1) as f32,
            beta2: adamw.beta2 as f32,
            rest2: (1.0 - adamw.beta2) as f32,
            rate: (adamw.lr / adamw.bias1) as f32,
            root: (1.0 / adamw.bias2.sqrt()) as f32,
            eps: adamw.eps as f32,
        }
    }
}

simd_kernel! {
    fn update(level; step: &Step, g: &[f32], p: &mut [f32], m: &mut [f32], v: &mut [f32])
        = update_kernel;

    /// `ema = decay·ema + rest·p`
    fn average(level; decay: f32, rest: f32, p: &[f32], ema: &mut [f32]) = average_kernel;
}

/// Products and sums are rounded one by one, as PyTorch rounds them, so all levels agree to the bit.
#[inline(always)]
fn update_kernel<S: Simd>(
    s: S,
    step: &Step,
    g: &[f32],
    p: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
) {
    let (grad_scale, shrink) = (s.splat(step.grad_scale), s.splat(step.shrink));
    let (beta1, rest1) = (s.splat(step.beta1), s.splat(step.rest1));
    let (beta2, rest2) = (s.splat(step.beta2), s.splat(step.rest2));
    let (rate, root, eps) = (s.splat(step.rate), s.splat(step.root), s.splat(step.eps));
    for i in (0..p.len()).step_by(S::LANES) {
        let g = s.mul(grad_scale, load_at(s, g, i));
        let vm = s.add(s.mul(beta1, load_at(s, m, i)), s.mul(rest1, g));
        let vv = s.add(s.mul(beta2, load_at(s, v, i)), s.mul(rest2, s.mul(g, g)));
        let below = s.add(s.mul(s.sqrt(vv), root), eps);
        let moved = s.div(s.mul(rate, vm), below);
        let vp = s.sub(s.mul(load_at(s, p, i), shrink), moved);
        store_at(s, vm, m, i);
        store_at(s, vv, v, i);
        store_at(s, vp, p, i);
    }
}

#[inline(always)]
fn average_kernel<S: Simd>(s: S, decay: f32, rest: f32, p: &[f32], ema: &mut [f32]) {
    let (decay, rest) = (s.splat(decay), s.splat(rest));
    for i in (0..p.len()).step_by(S::LANES) {
        let sum = s.add(s.mul(decay, load_at(s, ema, i)), s.mul(rest, load_at(s, p, i)));
        store_at(s, sum, ema, i);
    }
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
    use crate::cpu::Level;
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
    fn every_level_rounds_as_scalar_code_does() {
        let adamw = AdamW {
            lr: 1e-2,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            bias1: 0.3,
            bias2: 0.2,
        };
        let step = Step::new(0.7, &adamw);
        for len in [1, 15, 16, 33, 100] {
            let [p, g, m] = [1, 2, 3].map(|seed| random(seed, len));
            let v: Vec<f32> = random(4, len).iter().map(|x| x * x).collect();
            let mut expected = [p.clone(), m.clone(), v.clone(), random(5, len)];
            for i in 0..len {
                let g = step.grad_scale * g[i];
                let [p, m, v, ema] = expected.each_mut().map(|x| &mut x[i]);
                *m = step.beta1 * *m + step.rest1 * g;
                *v = step.beta2 * *v + step.rest2 * (g * g);
                *p = *p * step.shrink - step.rate * *m / (v.sqrt() * step.root + step.eps);
                *ema = 0.99 * *ema + 0.01 * *p;
            }
            for level in Level::all() {
                let (mut p, mut m, mut v, mut ema) =
                    (p.clone(), m.clone(), v.clone(), random(5, len));
                update(level, &step, &g, &mut p, &mut m, &mut v);
                average(level, 0.99, 0.01, &p, &mut ema);
                assert_eq!([p, m, v, ema], expected, "{level}, {len} values");
            }
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
