//! Each operation of a block by itself, at the sizes of the model.

use std::io::Write;
use std::time::Instant;

use jit_core::rng::{Purpose, Stream};
use jit_model::config::MlpKind;
use jit_model::device::{AdamW, Attention, Device, Modulation, NormGrads};
use jit_model::rope;
use jit_train::RunConfig;
use serde::Serialize;

use super::median;
use super::report::{Machine, precision_name, time};
use crate::failure::Outcome;

/// A kernel's result.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    /// Median.
    seconds: f64,
    /// Of its matrix products, if it has any.
    gflops: Option<f64>,
    /// Of the peak, likewise.
    share_of_peak: Option<f64>,
    /// Of memory read and written, where that bounds it.
    gigabytes_per_second: Option<f64>,
}

/// What a kernel does, by which its speed is judged.
#[derive(Clone, Copy)]
enum Work {
    /// Floating-point operations of matrix products.
    Flops(usize),
    /// f32 values read and written.
    Values(usize),
}

/// Runs every kernel `1 + runs` times and prints medians.
///
/// # Errors
/// When the result cannot be written.
pub fn run<D: Device>(
    dev: &D,
    config: &RunConfig,
    machine: &Machine,
    runs: usize,
    json: bool,
    out: &mut dyn Write,
) -> Outcome {
    let mut bench =
        Bench { runs, peak: machine.peak_flops, wait: &|| dev.wait(), rows: Vec::new() };
    linears(dev, config, &mut bench);
    attention(dev, config, &mut bench);
    rows(dev, config, &mut bench);
    optimizer(dev, config, &mut bench);
    if json {
        #[derive(Serialize)]
        struct Kernels<'a> {
            workload: &'static str,
            batch_size: usize,
            #[serde(flatten)]
            machine: &'a Machine,
            kernels: &'a [Row],
        }
        let batch_size = config.train.batch_size;
        let report = Kernels { workload: "kernels", batch_size, machine, kernels: &bench.rows };
        return Ok(writeln!(out, "{}", serde_json::to_string(&report)?)?);
    }
    let (m, gflops) = (machine, machine.peak_flops / 1e9);
    let precision = precision_name(m.precision);
    writeln!(out, "kernels     {}, {precision}", m.kernels())?;
    writeln!(out, "peak        {gflops:.1} GFLOP/s")?;
    writeln!(out, "\n{:<44}{:>12}{:>10}{:>8}{:>8}", "", "time", "GFLOP/s", "peak", "GB/s")?;
    for row in &bench.rows {
        let cell = |value: Option<f64>, digits: usize| {
            value.map_or_else(String::new, |v| format!("{v:.digits$}"))
        };
        let share = row.share_of_peak.map_or_else(String::new, |s| format!("{:.0} %", 100.0 * s));
        let (gflops, bandwidth) = (cell(row.gflops, 1), cell(row.gigabytes_per_second, 1));
        let time = time(row.seconds);
        writeln!(out, "{:<44}{time:>12}{gflops:>10}{share:>8}{bandwidth:>8}", row.name)?;
    }
    Ok(())
}

struct Bench<'a> {
    runs: usize,
    /// Waits until the device is done.
    wait: &'a dyn Fn(),
    /// Operations per second.
    peak: f64,
    rows: Vec<Row>,
}

impl Bench<'_> {
    fn run<R>(&mut self, name: impl Into<String>, work: Work, mut f: impl FnMut() -> R) {
        let mut once = || {
            let started = Instant::now();
            // Results are freed within the time, as in a step.
            drop(f());
            (self.wait)();
            started.elapsed().as_secs_f64()
        };
        once();
        let seconds: Vec<f64> = (0..self.runs).map(|_| once()).collect();
        let seconds = median(&seconds);
        let (flops, values) = match work {
            Work::Flops(flops) => (Some(flops as f64 / seconds), None),
            Work::Values(values) => (None, Some((values * size_of::<f32>()) as f64 / seconds)),
        };
        self.rows.push(Row {
            name: name.into(),
            seconds,
            gflops: flops.map(|f| f / 1e9),
            share_of_peak: flops.map(|f| f / self.peak),
            gigabytes_per_second: values.map(|v| v / 1e9),
        });
    }
}

/// A tensor of normal numbers.
fn normal<D: Device>(dev: &D, shape: &[usize]) -> D::Tensor {
    let mut values = vec![0.0; shape.iter().product()];
    Stream::new(1, Purpose::Noise, values.len() as u64, 0).fill_normal(&mut values);
    dev.upload(&values, shape)
}

/// Tokens of an image in most blocks.
fn tokens(config: &RunConfig) -> usize {
    config.model.tokens() + config.model.in_context_len
}

fn linears<D: Device>(dev: &D, config: &RunConfig, bench: &mut Bench<'_>) {
    let (d, images) = (config.model.hidden_size, config.train.batch_size);
    let rows = images * tokens(config);
    let mut layers = vec![("qkv", rows, d, 3 * d), ("projection", rows, d, d)];
    match config.model.mlp {
        MlpKind::Swiglu => {
            let m = 4 * d * 2 / 3;
            layers.extend([("w12", rows, d, 2 * m), ("w3", rows, m, d)]);
        }
        MlpKind::Bottleneck => layers.extend([
            ("mlp.0", rows, d, d / 2),
            ("mlp.2", rows, d / 2, 4 * d),
            ("mlp.4", rows, 4 * d, d),
        ]),
    }
    layers.push(("adaLN", images, d, 6 * d));
    for (name, rows, inputs, outputs) in layers {
        let weight = dev.weight(normal(dev, &[outputs, inputs]));
        let bias = dev.weight(normal(dev, &[outputs]));
        let (x, dy) = (normal(dev, &[rows, inputs]), normal(dev, &[rows, outputs]));
        let (mut dw, mut db) = (dev.zeros(&[outputs, inputs]), dev.zeros(&[outputs]));
        let work = Work::Flops(2 * rows * inputs * outputs);
        let name = |pass: &str| format!("{name} {rows} x {inputs} x {outputs}, {pass}");
        bench.run(name("y"), work, || dev.linear(&x, &weight, Some(&bias)));
        bench.run(name("dx"), work, || dev.linear_grad_input(&dy, &weight));
        bench.run(name("dW"), work, || dev.linear_grad_weight(&x, &dy, &mut dw, Some(&mut db)));
    }
}

fn attention<D: Device>(dev: &D, config: &RunConfig, bench: &mut Bench<'_>) {
    let (c, b, n) = (&config.model, config.train.batch_size, tokens(config));
    let (d, h) = (c.hidden_size, c.head_dim());
    let qkv = normal(dev, &[b, n, 3 * d]);
    let [q_norm, k_norm] = [(); 2].map(|()| dev.weight(normal(dev, &[h])));
    let table = dev.upload(&rope::table(h, c.grid(), c.in_context_len), &[2, n, h]);
    let attention = || Attention::<D> {
        heads: c.num_heads,
        q_norm: &q_norm,
        k_norm: &k_norm,
        rope: &table,
        dropout: None,
    };
    let product = 2 * b * n * n * d;
    let name = |pass: &str| format!("attention of {n} tokens, {} heads{pass}", c.num_heads);
    bench.run(name(""), Work::Flops(2 * product), || dev.attention(&qkv, attention()));
    let (out, lse) = dev.attention(&qkv, attention());
    let dout = normal(dev, &[b, n, d]);
    let (mut dq, mut dk) = (dev.zeros(&[h]), dev.zeros(&[h]));
    // The recomputed logits are no work that anyone asked for.
    bench.run(name(", gradient"), Work::Flops(4 * product), || {
        let dnorm = NormGrads { q_norm: &mut dq, k_norm: &mut dk };
        dev.attention_grad(&qkv, attention(), &out, &lse, &dout, dnorm)
    });
}

fn rows<D: Device>(dev: &D, config: &RunConfig, bench: &mut Bench<'_>) {
    let (b, n, d) = (config.train.batch_size, tokens(config), config.model.hidden_size);
    let values = b * n * d;
    let [x, y, dout] = [(); 3].map(|()| normal(dev, &[b, n, d]));
    let (weight, mods) = (dev.weight(normal(dev, &[d])), normal(dev, &[b, 6 * d]));
    let at = || Modulation { vectors: &mods, shift: 0, scale: 1 };
    let (mut dx, mut dweight) = (dev.zeros(&[b, n, d]), dev.zeros(&[d]));
    let mut dmods = dev.zeros(&[b, 6 * d]);
    bench.run("norm and modulation", Work::Values(2 * values), || {
        dev.rms_norm_modulate(&x, &weight, at())
    });
    bench.run("norm and modulation, gradient", Work::Values(4 * values), || {
        dev.rms_norm_modulate_grad(&x, &weight, at(), &y, &mut dx, &mut dweight, &mut dmods);
    });
    bench.run("gated residual", Work::Values(3 * values), || dev.gated_residual(&x, &y, &mods, 2));
    bench.run("gated residual, gradient", Work::Values(3 * values), || {
        dev.gated_residual_grad(&y, &mods, 2, &dout, &mut dmods)
    });
    let m = 4 * d * 2 / 3;
    let (hidden, dproduct) = (normal(dev, &[b, n, 2 * m]), normal(dev, &[b, n, m]));
    bench.run("swiglu", Work::Values(3 * b * n * m), || dev.swiglu(&hidden));
    bench.run("swiglu, gradient", Work::Values(5 * b * n * m), || {
        dev.swiglu_grad(&hidden, &dproduct)
    });
}

fn optimizer<D: Device>(dev: &D, config: &RunConfig, bench: &mut Bench<'_>) {
    let d = config.model.hidden_size;
    let shape = [6 * d, d];
    let mut weight = dev.weight(normal(dev, &shape));
    let grad = normal(dev, &shape);
    let norm = dev.norm(&[&grad]);
    let (mut m, mut v) = (dev.zeros(&shape), dev.zeros(&shape));
    let mut averages: Vec<_> = config.optim.ema_decay.iter().map(|_| dev.zeros(&shape)).collect();
    let decays = &config.optim.ema_decay;
    let options = AdamW {
        lr: 1e-4,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.0,
        bias1: 1.0,
        bias2: 1.0,
    };
    let values = 6 * d * d * (7 + 2 * decays.len());
    let name = format!("AdamW and {} averages of {} values", decays.len(), 6 * d * d);
    bench.run(name, Work::Values(values), || {
        let mut emas: Vec<_> = averages.iter_mut().zip(decays.iter().copied()).collect();
        dev.adamw(&mut weight, &grad, (&mut m, &mut v), &mut emas, (&norm, 0.0), &options);
    });
    bench.run("norm of the gradient", Work::Values(6 * d * d), || dev.norm(&[&grad]));
}
