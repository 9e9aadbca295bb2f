//! FID, or precision and recall, of features in a file, or of random ones: whole-process time and
//! memory beside other programs.
//!
//! ```text
//! cargo run --release -p jit-eval --example features_bench -- METRIC FILE.npz
//! cargo run --release -p jit-eval --example features_bench -- METRIC ROWS DIM
//! ```
//!
//! METRIC is `fid` or `precision-recall`; the file holds `generated` and `real`, f32 `[N, D]`.

use std::path::Path;
use std::time::Instant;

use jit_core::rng::{Purpose, Stream};
use jit_eval::{EvalError, Features, Moments, PrecisionRecall, fid, precision_recall};
use jit_model::weights::Npz;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (metric, generated, real) = match args[..] {
        [metric, file] => {
            let npz = Npz::open(Path::new(file))?;
            (metric, read(&npz, "generated")?, read(&npz, "real")?)
        }
        [metric, rows, dim] => {
            let (rows, dim) = (rows.parse()?, dim.parse()?);
            (metric, random(0, rows, dim)?, random(1, rows, dim)?)
        }
        _ => return Err("expected METRIC FILE.npz, or METRIC ROWS DIM".into()),
    };
    let started = Instant::now();
    match metric {
        "fid" => {
            let gaussian = |features| Moments::of(features).gaussian();
            let value = fid(&gaussian(&generated)?, &gaussian(&real)?)?;
            println!("{{\"fid\": {value}}}");
        }
        "precision-recall" => {
            let PrecisionRecall { precision, recall } = precision_recall(&generated, &real, 3)?;
            println!("{{\"precision\": {precision}, \"recall\": {recall}}}");
        }
        _ => return Err(format!("`{metric}` is neither `fid` nor `precision-recall`").into()),
    }
    eprintln!("{metric}: {:.2} s without reading", started.elapsed().as_secs_f64());
    Ok(())
}

fn read(npz: &Npz, name: &str) -> Result<Features, Box<dyn std::error::Error>> {
    let array = npz.array(name)?;
    let dim = array.shape.last().copied().unwrap_or(0);
    Ok(Features::new(dim, array.into_f32())?)
}

/// Normal.
fn random(seed: u64, rows: usize, dim: usize) -> Result<Features, EvalError> {
    let mut values = vec![0.0; rows * dim];
    for (row, values) in values.chunks_exact_mut(dim).enumerate() {
        Stream::new(seed, Purpose::Noise, 0, row as u64).fill_normal(values);
    }
    Features::new(dim, values)
}
