//! What this machine can do at best: the yardstick for the matrix kernels.

use std::{hint::black_box, time::Instant};

use rayon::prelude::*;

use crate::{
    cpu::Level,
    simd::{Simd, simd_kernel},
};

/// Floating-point operations per second (a multiply-add counts two) that `level`'s instructions
/// reach on `threads` cores with everything in registers: the best of several runs of some
/// milliseconds.
pub fn peak_flops(level: Level, threads: usize) -> f64 {
    const STEPS: usize = 1 << 20;
    let chains = if level == Level::PORTABLE { short_chains } else { long_chains };
    let run = || {
        let start = Instant::now();
        let done = (0..threads).into_par_iter().with_max_len(1).map(|_| chains(level, STEPS));
        2.0 * done.sum::<usize>() as f64 / start.elapsed().as_secs_f64()
    };
    (0..20).map(|_| run()).fold(0.0, f64::max)
}

simd_kernel! {
    /// Runs `steps` multiply-adds on each of twelve chains, more than the latency times the units
    /// of most cores; returns how many that were.
    fn long_chains(level; steps: usize) -> usize = long_chains_kernel;
    /// The same with six chains: portable vectors take two of baseline x86-64's sixteen registers.
    fn short_chains(level; steps: usize) -> usize = short_chains_kernel;
}

#[inline(always)]
fn long_chains_kernel<S: Simd>(s: S, steps: usize) -> usize {
    multiply_add::<S, 12>(s, steps)
}

#[inline(always)]
fn short_chains_kernel<S: Simd>(s: S, steps: usize) -> usize {
    multiply_add::<S, 6>(s, steps)
}

#[inline(always)]
fn multiply_add<S: Simd, const CHAINS: usize>(s: S, steps: usize) -> usize {
    let (factor, term) = (s.splat(black_box(0.5)), s.splat(black_box(1.0)));
    let mut chains = [s.splat(0.0); CHAINS];
    for _ in 0..steps {
        for chain in &mut chains {
            *chain = s.fma(*chain, factor, term);
        }
    }
    let mut sum = s.splat(0.0);
    for chain in chains {
        sum = s.add(sum, chain);
    }
    black_box(s.sum(sum));
    steps * CHAINS * S::LANES
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
