//! Parallel loops whose results never depend on the number of threads.
//!
//! Work is cut into chunks whose size the caller fixes: a thread writes outputs of its own, and
//! partial sums are combined in the chunks' order. The threads are those of rayon's current pool.

use std::ops::Range;

use rayon::prelude::*;

/// Below this many scalar operations a loop runs on the calling thread: waking another costs about
/// as much as doing them.
pub const SERIAL_OPS: usize = 1 << 16;

fn serial(chunks: usize, ops: usize) -> bool {
    chunks <= 1 || ops < SERIAL_OPS || rayon::current_num_threads() == 1
}

/// Calls `f(i, chunk)` on every `chunk_len`-long piece of `out` (the last may be shorter). `ops` is
/// the rough number of scalar operations of the whole loop.
pub fn for_each_chunk<T: Send>(
    out: &mut [T],
    chunk_len: usize,
    ops: usize,
    f: impl Fn(usize, &mut [T]) + Sync,
) {
    if serial(out.len().div_ceil(chunk_len), ops) {
        out.chunks_mut(chunk_len).enumerate().for_each(|(i, chunk)| f(i, chunk));
    } else {
        out.par_chunks_mut(chunk_len).enumerate().for_each(|(i, chunk)| f(i, chunk));
    }
}

/// [`for_each_chunk`] over two outputs at once, cut into equally many pieces.
///
/// # Panics
/// If the outputs do not give the same number of chunks.
pub fn for_each_chunk2<T: Send, U: Send>(
    (out_a, len_a): (&mut [T], usize),
    (out_b, len_b): (&mut [U], usize),
    ops: usize,
    f: impl Fn(usize, &mut [T], &mut [U]) + Sync,
) {
    let chunks = out_a.len().div_ceil(len_a);
    assert_eq!(chunks, out_b.len().div_ceil(len_b), "outputs with different numbers of chunks");
    if serial(chunks, ops) {
        let pairs = out_a.chunks_mut(len_a).zip(out_b.chunks_mut(len_b));
        pairs.enumerate().for_each(|(i, (a, b))| f(i, a, b));
    } else {
        let pairs = out_a.par_chunks_mut(len_a).zip(out_b.par_chunks_mut(len_b));
        pairs.enumerate().for_each(|(i, (a, b))| f(i, a, b));
    }
}

/// Calls `f(i)` for every `i < count`; `ops` as in [`for_each_chunk`].
pub fn for_each_index(count: usize, ops: usize, f: impl Fn(usize) + Sync) {
    if serial(count, ops) {
        (0..count).for_each(&f);
    } else {
        (0..count).into_par_iter().for_each(&f);
    }
}

/// `f` of every `chunk_len`-long range of `0..len`, in the ranges' order; `ops` as in
/// [`for_each_chunk`].
pub fn map_ranges<R: Send>(
    len: usize,
    chunk_len: usize,
    ops: usize,
    f: impl Fn(Range<usize>) -> R + Sync,
) -> Vec<R> {
    let chunks = len.div_ceil(chunk_len);
    let range = |i: usize| i * chunk_len..((i + 1) * chunk_len).min(len);
    if serial(chunks, ops) {
        (0..chunks).map(|i| f(range(i))).collect()
    } else {
        (0..chunks).into_par_iter().map(|i| f(range(i))).collect()
    }
}

/// The sum of `f` over the `chunk_len`-long ranges of `0..len`, added in the ranges' order.
pub fn sum_ranges(
    len: usize,
    chunk_len: usize,
    ops: usize,
    f: impl Fn(Range<usize>) -> f64 + Sync,
) -> f64 {
    map_ranges(len, chunk_len, ops, f).into_iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `f` in pools of one and of three threads.
    fn in_pools<R: Send>(f: impl Fn() -> R + Sync) -> [R; 2] {
        [1, 3].map(|threads| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&f)
        })
    }

    #[test]
    fn sums_have_the_same_bits_on_any_number_of_threads() {
        let x: Vec<f64> = (1..10_000).map(|i| 1.0 / i as f64).collect();
        let [one, three] =
            in_pools(|| sum_ranges(x.len(), 7, SERIAL_OPS, |r| x[r].iter().sum::<f64>()));
        assert_eq!(one.to_bits(), three.to_bits());
        assert!((one - x.iter().sum::<f64>()).abs() < 1e-12);
    }

    #[test]
    fn every_chunk_is_visited_once_with_its_index() {
        for ops in [0, SERIAL_OPS] {
            for result in in_pools(|| {
                let (mut a, mut b) = (vec![0; 1001], vec![0; 301]);
                for_each_chunk2((&mut a, 10), (&mut b, 3), ops, |i, a, b| {
                    a.fill(i + 1);
                    b.fill(i + 1);
                });
                for_each_chunk(&mut a, 10, ops, |i, a| a.iter_mut().for_each(|x| *x += i));
                (a, b)
            }) {
                assert!(result.0.iter().enumerate().all(|(i, &x)| x == 2 * (i / 10) + 1));
                assert!(result.1.iter().enumerate().all(|(i, &x)| x == i / 3 + 1));
            }
        }
    }
}
