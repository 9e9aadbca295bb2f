//! Speed of the matrix product on the shapes of training, in GFLOP/s and as a share of what the
//! machine's multiply-add units can do.

use std::time::Instant;

use jit_kernels::{
    cpu,
    gemm::{MatRef, PackedB, Store, gemm},
    peak::peak_flops,
};

/// Seconds of the fastest of several calls of `f`.
fn fastest(mut f: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < 1.0 {
        let call = Instant::now();
        f();
        best = best.min(call.elapsed().as_secs_f64());
    }
    best
}

fn main() {
    let threads = rayon::current_num_threads();
    let level = cpu::level();
    let peak = peak_flops(level, threads);
    println!("{level}, {threads} threads, peak {:.1} GFLOP/s", peak / 1e9);
    for (name, m, k, n) in [("target", 2304, 768, 2304), ("small", 3392, 192, 576)] {
        let (a, b) = (vec![0.5; m * k], vec![0.5; k * n]);
        let mut c = vec![0.0; m * n];
        let packed = PackedB::new(MatRef::row_major(&b, k, n));
        let secs =
            fastest(|| gemm(MatRef::row_major(&a, m, k), &packed, &mut c, Store::Overwrite, None));
        let flops = 2.0 * (m * k * n) as f64 / secs;
        println!(
            "{name:>20} {m} {k} {n}: {:.1} GFLOP/s, {:.0} %",
            flops / 1e9,
            100.0 * flops / peak
        );
    }
}
