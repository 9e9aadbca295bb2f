//! What this machine can do at best: the yardstick for the matrix kernels.

use std::{hint::black_box, time::Instant};

use rayon::prelude::*;

use crate::{
    cpu::Level,
    simd::{Simd, simd_kernel},
};

/// Independent chains of multiply-adds: more than latency × units of any current core, few enough
/// for sixteen registers.
const CHAINS: usize = 12;

/// Floating-point operations per second (a multiply-add counts two) that `level`'s instructions
/// reach on `threads` cores with everything in registers: the best of several runs of some
/// milliseconds.
pub fn peak_flops(level: Level, threads: usize) -> f64 {
    const STEPS: usize = 1 << 20;
    let run = || {
        let start = Instant::now();
        let lanes: Vec<usize> = (0..threads)
            .into_par_iter()
            .with_max_len(1)
            .map(|_| multiply_add(level, STEPS))
            .collect();
        (2 * STEPS * CHAINS * lanes.iter().sum::<usize>()) as f64 / start.elapsed().as_secs_f64()
    };
    (0..20).map(|_| run()).fold(0.0, f64::max)
}

simd_kernel! {
    /// Runs `steps` multiply-adds on each chain; returns the lanes of each.
    fn multiply_add(level; steps: usize) -> usize = multiply_add_kernel;
}

#[inline(always)]
fn multiply_add_kernel<S: Simd>(s: S, steps: usize) -> usize {
    let (factor, term) = (s.splat(black_box(0.5)), s.splat(black_box(1.0)));
    let mut chains = [s.splat(0.0); CHAINS];
    for _ in 0..steps {
        for chain in &mut chains {
            *chain = s.fma(*chain, factor, term);
        }
    }
    black_box(chains.map(|chain| s.sum(chain)));
    S::LANES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_that_of_a_real_machine() {
        for level in Level::all() {
            let flops = peak_flops(level, 1);
            assert!((1e8..1e12).contains(&flops), "{level}: {flops:e} operations per second");
        }
    }
}
