//! Loading images in the order of training, as fast as the threads that decode allow.

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use jit_data::{Loader, LoaderOptions, Share};
use jit_train::RunConfig;
use serde::Serialize;

use super::report::peak_memory;
use crate::commands::info::bytes;
use crate::failure::{Failure, Outcome};

/// What was measured. Its JSON has these fields.
#[derive(Debug, Serialize)]
struct Loading {
    data: String,
    image_size: usize,
    workers: usize,
    images: usize,
    seconds: f64,
    images_per_second: f64,
    peak_memory_bytes: Option<u64>,
}

/// Delivers `steps` batches, from a start with nothing prepared, keeping no image, and prints.
///
/// # Errors
/// Images that cannot be used.
pub fn run(config: &RunConfig, steps: usize, json: bool, out: &mut dyn Write) -> Outcome {
    let (data, model) = (&config.data, &config.model);
    let dataset = jit_data::open(data, model.image_size, model.channels, config.train.seed)
        .map_err(Failure::usage)?
        .uncached();
    let workers = data.worker_threads();
    let options = LoaderOptions {
        seed: config.train.seed,
        flip: data.flip,
        workers,
        position: 0,
        share: Share::WHOLE,
    };
    let images = steps * config.train.global_batch;
    let started = Instant::now();
    let mut loader = Loader::new(Arc::new(dataset), options)?;
    for _ in 0..steps {
        loader.next_batch(config.train.global_batch)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let report = Loading {
        data: data.path.clone(),
        image_size: model.image_size,
        workers,
        images,
        seconds,
        images_per_second: images as f64 / seconds,
        peak_memory_bytes: peak_memory(),
    };
    if json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
        return Ok(());
    }
    writeln!(out, "data        {} at {} pixels", report.data, report.image_size)?;
    writeln!(out, "images      {images} in {seconds:.2} s, {workers} threads")?;
    writeln!(out, "            {:.1} a second", report.images_per_second)?;
    if let Some(memory) = report.peak_memory_bytes {
        writeln!(out, "memory      {} at the peak", bytes(memory))?;
    }
    Ok(())
}
