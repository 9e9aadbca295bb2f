//! Speed of the matrix products of linear layers on the shapes of training, in GFLOP/s and as a
//! share of what the machine's multiply-add units can do.
//!
//! `gemm_bench [f32|bf16]`; `RAYON_NUM_THREADS` and `JIT_CPU` set threads and instruction set.

use std::{process::ExitCode, time::Instant};

use jit_kernels::{
    cpu,
    gemm::Precision,
    linear::{PackedWeight, linear, linear_grad_input, linear_grad_weight_in},
    peak::peak_flops,
};

/// Name, rows, inputs, outputs: the layers of JiT-B/16 for nine images of 256 pixels, and of a
/// small model of width 192 for 64 images of 53 tokens.
const SHAPES: [(&str, usize, usize, usize); 8] = [
    ("B/16 qkv", 2304, 768, 2304),
    ("B/16 projection", 2304, 768, 768),
    ("B/16 w12", 2304, 768, 4096),
    ("B/16 w3", 2304, 2048, 768),
    ("B/16 adaLN", 9, 768, 4608),
    ("small qkv", 64 * 53, 192, 576),
    ("small w12", 64 * 53, 192, 1024),
    ("small w3", 64 * 53, 512, 192),
];

/// Seconds of the fastest of several calls of `f`.
fn fastest(mut f: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while start.elapsed().as_secs_f64() < 0.7 {
        let call = Instant::now();
        f();
        best = best.min(call.elapsed().as_secs_f64());
    }
    best
}

fn main() -> ExitCode {
    let precision = match std::env::args().nth(1).as_deref() {
        None | Some("f32") => Precision::F32,
        Some("bf16") => Precision::Bf16,
        Some(other) => {
            eprintln!("`{other}`: no such precision; use f32 or bf16");
            return ExitCode::FAILURE;
        }
    };
    let level = match cpu::detect() {
        Ok(level) => level,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let threads = rayon::current_num_threads();
    let peak = peak_flops(level, threads);
    println!("{level}, {threads} threads, {precision:?}; f32 peak {:.1} GFLOP/s", peak / 1e9);
    println!("{:16} {:>16} {:>14} {:>14} {:>14}", "", "rows × in × out", "y", "dx", "dW");
    for (name, rows, inputs, outputs) in SHAPES {
        let (mut x, mut y) = (vec![0.5; rows * inputs], vec![0.5; rows * outputs]);
        let (w, mut dw) = (vec![0.5; inputs * outputs], vec![0.0; inputs * outputs]);
        let packed = PackedWeight::new(precision);
        let weight = packed.with(&w, outputs, inputs);
        let seconds = [
            fastest(|| linear(&x, weight, None, &mut y)),
            fastest(|| linear_grad_weight_in(precision, &x, &y, rows, &mut dw, None)),
            fastest(|| linear_grad_input(&y, weight, &mut x, false)),
        ];
        let [y, dw, dx] = seconds.map(|seconds| {
            let flops = 2.0 * (rows * inputs * outputs) as f64 / seconds;
            format!("{:.1} ({:.0} %)", flops / 1e9, 100.0 * flops / peak)
        });
        let shape = format!("{rows} {inputs} {outputs}");
        println!("{name:16} {shape:>16} {y:>14} {dx:>14} {dw:>14}");
    }
    ExitCode::SUCCESS
}
