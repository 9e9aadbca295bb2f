//! What this machine can do at best: the yardstick for the matrix kernels.

use std::{hint::black_box, time::Instant};

use rayon::prelude::*;

use crate::{
    cpu::{Isa, Level},
    gemm::Precision,
    simd::{Simd, simd_kernel},
};

/// Floating-point operations per second (a multiply-add counts two) that `level`'s instructions
/// for products in `precision` reach on `threads` cores with everything in registers: the best of
/// several runs of some milliseconds.
pub fn peak_flops(level: Level, precision: Precision, threads: usize) -> f64 {
    const STEPS: usize = 1 << 20;
    let chains = match (level.isa(), precision) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512Bf16, Precision::Bf16) => pair_chains,
        (Isa::Portable, _) => short_chains,
        _ => long_chains,
    };
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

/// Runs `steps` dot products of bfloat16 pairs on each of twelve chains; returns how many
/// multiply-adds that were.
#[cfg(target_arch = "x86_64")]
fn pair_chains(level: Level, steps: usize) -> usize {
    use crate::simd::Avx512Bf16;

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn run(steps: usize) -> usize {
        const CHAINS: usize = 12;
        let s = Avx512Bf16::here();
        // Pairs of 1 and 0.5 in bfloat16.
        let pairs = [0x3f80_3f00, 0x3f00_3f80].map(|bits| s.splat(f32::from_bits(black_box(bits))));
        let mut chains = [s.splat(0.0); CHAINS];
        for _ in 0..steps {
            for chain in &mut chains {
                *chain = s.dot_pairs(pairs[0], pairs[1], *chain);
            }
        }
        let mut sum = s.splat(0.0);
        for chain in chains {
            sum = s.add(sum, chain);
        }
        black_box(s.sum(sum));
        2 * steps * CHAINS * Avx512Bf16::LANES
    }

    assert_eq!(level.isa(), Isa::Avx512Bf16);
    // SAFETY: a `Level` exists only on machines that have its instructions.
    unsafe { run(steps) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_that_of_a_real_machine() {
        for level in Level::all() {
            for precision in [Precision::F32, Precision::Bf16] {
                let flops = peak_flops(level, precision, 1);
                assert!((1e8..1e12).contains(&flops), "{level}: {flops:e} operations per second");
            }
        }
    }
}
