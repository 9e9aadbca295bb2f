//! Times the kernels other than the matrix product, at the sizes of JiT-B/16 and of a small model:
//! `cargo run --release -p jit-kernels --example ops_bench`.

use std::hint::black_box;
use std::time::Instant;

use jit_core::rng::{Purpose, Stream};
use jit_kernels::adamw::{AdamW, adamw_step, sum_squares};
use jit_kernels::attention::{AttentionDropout, AttentionShape, Rope, attention, attention_grad};
use jit_kernels::rms_norm::{Modulation, rms_norm_modulate, rms_norm_modulate_grad};
use jit_kernels::{activation, cpu, elementwise, residual, swiglu};

fn main() {
    println!("{} on {} threads", cpu::level(), rayon::current_num_threads());
    println!("JiT-B/16, 8 images");
    attentions(AttentionShape { batch: 8, tokens: 288, heads: 12, head_dim: 64 });
    rows(8, 288, 768, 2048);
    println!("small model, 64 images");
    attentions(AttentionShape { batch: 64, tokens: 53, heads: 6, head_dim: 32 });
    rows(64, 53, 192, 512);
    println!("one parameter of 16 M values");
    optimizer(16 << 20);
}

/// Runs `f` for about half a second and prints its best time, and `work / time` in 10⁹ per second.
fn bench(name: &str, work: f64, unit: &str, mut f: impl FnMut()) {
    f();
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed().as_secs_f64() < 0.5 {
        let once = Instant::now();
        f();
        best = best.min(once.elapsed().as_secs_f64());
    }
    println!("  {name:<28} {:>9.3} ms {:>8.1} {unit}", best * 1e3, work / best / 1e9);
}

fn normal(len: usize) -> Vec<f32> {
    let mut x = vec![0.0; len];
    Stream::new(1, Purpose::Noise, len as u64, 0).fill_normal(&mut x);
    x
}

fn attentions(shape: AttentionShape) {
    let AttentionShape { batch, tokens: n, heads, head_dim: h } = shape;
    let qkv = normal(batch * n * 3 * heads * h);
    let (weight, angles, dout) = (vec![1.0; h], normal(n * h), normal(batch * n * heads * h));
    let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
    let rope = Rope { cos: &cos, sin: &sin };
    let streams: Vec<Stream> =
        (0..batch as u64).map(|i| Stream::new(1, Purpose::AttentionDropout, 0, i)).collect();
    let (mut out, mut lse) = (vec![0.0; dout.len()], vec![0.0; batch * heads * n]);
    let (mut dqkv, mut dq, mut dk) = (vec![0.0; qkv.len()], vec![0.0; h], vec![0.0; h]);

    let product = (2 * batch * heads * n * n * h) as f64;
    for dropout in [None, Some(AttentionDropout { rate: 0.1, streams: &streams })] {
        let with = if dropout.is_some() { ", dropout" } else { "" };
        bench(&format!("attention{with}"), 2.0 * product, "GFLOP/s", || {
            attention(&qkv, &weight, &weight, rope, shape, dropout, &mut out, &mut lse);
        });
        bench(&format!("attention_grad{with}"), 5.0 * product, "GFLOP/s", || {
            attention_grad(
                &qkv, &weight, &weight, rope, shape, dropout, &out, &lse, &dout, &mut dqkv,
                &mut dq, &mut dk,
            );
        });
    }
}

/// Operations on the rows of `[B, N, D]`, and on an MLP's hidden values `[B, N, 2·m]`. Bytes count
/// each input and output once.
fn rows(b: usize, n: usize, d: usize, m: usize) {
    let (x, dy, weight, data) =
        (normal(b * n * d), normal(b * n * d), normal(d), normal(b * 6 * d));
    let (mut y, mut dweight, mut dmod) = (x.clone(), vec![0.0; d], vec![0.0; b * 6 * d]);
    let modulation = Modulation { data: &data, stride: 6 * d, shift: 0, scale: d };
    let bytes = (4 * b * n * d) as f64;
    bench("rms_norm_modulate", 2.0 * bytes, "GB/s", || {
        rms_norm_modulate(&x, &weight, modulation, b, n, d, &mut y);
    });
    bench("rms_norm_modulate_grad", 4.0 * bytes, "GB/s", || {
        rms_norm_modulate_grad(
            &x,
            &weight,
            modulation,
            &dy,
            b,
            n,
            d,
            &mut y,
            &mut dweight,
            &mut dmod,
        );
    });
    bench("gated_residual", 3.0 * bytes, "GB/s", || {
        residual::gated_residual(&x, &dy, &data, 6 * d, 0, b, n, d, &mut y);
    });
    bench("gated_residual_grad", 3.0 * bytes, "GB/s", || {
        residual::gated_residual_grad(&x, &data, 6 * d, 0, &dy, b, n, d, &mut y, &mut dmod);
    });
    bench("add_assign", 3.0 * bytes, "GB/s", || elementwise::add_assign(&mut y, &x));

    let (h12, dout) = (normal(b * n * 2 * m), normal(b * n * m));
    let (mut out, mut dh12) = (vec![0.0; b * n * m], vec![0.0; b * n * 2 * m]);
    let bytes = (4 * b * n * m) as f64;
    bench("swiglu", 3.0 * bytes, "GB/s", || swiglu::swiglu(&h12, b * n, m, &mut out));
    bench("swiglu_grad", 5.0 * bytes, "GB/s", || {
        swiglu::swiglu_grad(&h12, &dout, b * n, m, &mut dh12);
    });
    bench("gelu", 2.0 * bytes, "GB/s", || activation::gelu(&dout, &mut out));
    bench("gelu_grad", 3.0 * bytes, "GB/s", || {
        activation::gelu_grad(&dout, &h12[..b * n * m], &mut out);
    });
}

fn optimizer(len: usize) {
    let (mut p, g) = (normal(len), normal(len));
    let (mut m, mut v) = (vec![0.0; len], vec![0.0; len]);
    let (mut ema1, mut ema2) = (p.clone(), p.clone());
    let adamw = AdamW {
        lr: 1e-4,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.0,
        bias1: 0.5,
        bias2: 0.5,
    };
    let bytes = 4.0 * len as f64;
    bench("adamw_step, two EMAs", 11.0 * bytes, "GB/s", || {
        let emas = &mut [(&mut ema1[..], 0.999), (&mut ema2[..], 0.9999)];
        adamw_step(&mut p, &g, &mut m, &mut v, emas, 1.0, &adamw);
    });
    bench("sum_squares", bytes, "GB/s", || {
        black_box(sum_squares(&g));
    });
}
