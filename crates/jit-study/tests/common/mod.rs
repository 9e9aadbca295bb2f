//! A small study of invented numbers that has one of everything: experiments with three seeds, a run
//! that diverged, one that is missing, one that is damaged, fused models, published figures, and
//! names that would be trouble if they were more than text.

// Each test file is a crate of its own and uses its part.
#![allow(dead_code)]
// Lints know test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use jit_data::grid::grid;
use jit_eval::{Report, Score};
use jit_study::record::{Evaluation, FinalLoss, Fusion, Hardware, Outcome, TBin};
use jit_study::{Record, layout};
use jit_train::StepReport;
use jit_train::evaluation::EvalReport;
use jit_train::observer::T_BINS;

/// A name that must stay text.
pub const HOSTILE: &str = "<script>document.title='owned'</script> | **x** & \"y\"";

const SUITE: &str = r#"
name = "small"
title = "A small study"
description = "Invented numbers that have one of everything."
seeds = [0, 1, 2]
baseline = "base"
published_note = "Precision and recall stand under their right names."
[[cells]]
name = "base"
title = "Baseline"
[[cells]]
name = "wide"
title = "Wide network"
note = "Twice as wide."
set.model.hidden_size = 32
[[cells]]
name = "odd"
title = """<script>document.title='owned'</script> | **x** & "y""""
set.model.depth = 3
[[cells]]
name = "lost"
set.model.depth = 5
[[fusions]]
name = "mix"
parents = ["base", "wide"]
mode = "blend"
schedule = "constant"
weights = [0.25, 0.5, 0.75]
[[published]]
cell = "base"
fid = 119.4591
precision = 0.1310
recall = 0.2314
[[published]]
cell = "wide"
fid = 106.2162
precision = 0.1316
recall = 0.3056
"#;

/// What the experiments reach: FID, precision and recall of the middle seed at the end.
const REACHED: [(&str, f64, f64, f64); 3] =
    [("base", 11.0, 0.80, 0.40), ("wide", 9.0, 0.60, 0.70), ("odd", 9.4, 0.65, 0.55)];

/// Writes the study.
pub fn study(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    fs::write(layout::suite(dir), SUITE).unwrap();
    for (i, (name, fid, precision, recall)) in REACHED.into_iter().enumerate() {
        for seed in 0..3u64 {
            let shift = seed as f64 - 1.0;
            // What a seed does to all alike, and a little of an experiment's own.
            let own = if seed == 0 { 0.1 * i as f64 } else { 0.0 };
            let reached = (fid + shift + own, precision + 0.01 * shift, recall - 0.01 * shift);
            run(dir, name, seed, i, reached);
        }
    }
    fs::remove_file(layout::record(dir, "odd", 1)).unwrap();
    fs::write(layout::record(dir, "odd", 2), "{\"suite\": ").unwrap();
    let mut diverged = record("lost", 0, &[]);
    diverged.outcome =
        Outcome::Diverged { diverged_at: 7, message: "the loss is not a finite number".into() };
    write(dir, &diverged, 7, 3);
    for (i, weight) in [0.25, 0.5, 0.75].into_iter().enumerate() {
        for seed in 0..3u64 {
            let noise = 0.002 * ((seed as f64 - 1.0) * (i as f64 + 1.0));
            let lift = [0.05, 0.0, -0.05][i];
            let (precision, recall) = (0.8 - 0.2 * weight + lift + noise, 0.4 + 0.3 * weight);
            let cell = format!("mix-{weight}");
            let mut record = record(&cell, seed, &[(30, 9.5, precision, recall)]);
            record.fusion = Some(Fusion {
                parents: ["base".into(), "wide".into()],
                mode: "blend".into(),
                schedule: "constant".into(),
                weight,
            });
            (record.steps, record.images, record.train_seconds) = (0, 0, 0.0);
            record.evaluations[0].samples = Some("../../runs/base/seed-0/config.toml".into());
            record.write(&layout::fused(dir, &cell, seed)).unwrap();
        }
    }
}

fn run(dir: &Path, name: &str, seed: u64, index: usize, (fid, precision, recall): (f64, f64, f64)) {
    let along = [(3, 6.0), (15, 2.0), (30, 1.0)];
    let evaluations =
        along.map(|(step, factor)| (step, fid * factor, precision / factor, recall / factor));
    write(dir, &record(name, seed, &evaluations), 30, index);
    let grids = layout::run(dir, name, seed).join("samples");
    for (step, _) in along {
        let shade = |i: usize| (i * 7 + step as usize * 5 + index * 40) as u8;
        let images: Vec<u8> = (0..20 * 28 * 28).map(|i| shade(i / 784)).collect();
        grid(&images, 1, 28, 10, 2).save(&grids.join(format!("step-{step:08}.png"))).unwrap();
    }
}

/// A record, its configuration and its losses.
fn write(dir: &Path, record: &Record, steps: u64, index: usize) {
    let folder = layout::run(dir, &record.cell, record.seed);
    record.write(&folder.join(layout::RECORD)).unwrap();
    let depth = [4, 4, 3, 5][index];
    let width = [16, 32, 16, 16][index];
    let config = format!(
        "[model]\nimage_size = 28\ndepth = {depth}\nhidden_size = {width}\n[train]\nseed = {}\n",
        record.seed
    );
    fs::write(folder.join("config.toml"), config).unwrap();
    fs::write(folder.join("metrics.jsonl"), losses(steps, index)).unwrap();
}

/// The lines of `metrics.jsonl`.
pub fn losses(steps: u64, index: usize) -> String {
    let line = |step: u64| {
        let loss = (1.0 + index as f64 / 10.0) / (step as f64).sqrt();
        let report = StepReport {
            step,
            epoch: step as f64 / 10.0,
            loss,
            diffusion: loss,
            lr: 1e-3,
            grad_norm: 1.0,
            loss_by_t: [Some(loss); T_BINS],
            images_by_t: [2; T_BINS],
            images_per_second: 100.0,
            elapsed: step as f64 / 5.0,
            ..StepReport::default()
        };
        serde_json::to_string(&report).unwrap() + "\n"
    };
    (1..=steps).map(line).collect()
}

fn record(cell: &str, seed: u64, evaluations: &[(u64, f64, f64, f64)]) -> Record {
    let score = |mean| Some(Score { mean, spread: 0.25 });
    let evaluation = |&(step, fid, precision, recall): &(u64, f64, f64, f64)| {
        let report = Report {
            generated: 500,
            real: 8000,
            fid: score(fid),
            inception_score: None,
            kid: None,
            precision: score(precision),
            recall: score(recall),
            class_accuracy: None,
        };
        let epoch = step as f64 / 10.0;
        Evaluation {
            eval: EvalReport { step, epoch, extractor: "digits".into(), seconds: 1.5, report },
            fraction: step as f64 / 30.0,
            weights: "ema-0.99".into(),
            count: 500,
            samples: Some(format!("samples/step-{step:08}.png")),
        }
    };
    let bin = |i: usize| TBin {
        low: i as f64 / 10.0,
        high: (i + 1) as f64 / 10.0,
        loss: 0.1 + (i as f64 - 5.0).powi(2) / 50.0 + 0.01 * seed as f64,
    };
    Record {
        suite: "small".into(),
        cell: cell.into(),
        seed,
        title: cell.into(),
        command: format!("jit ablate --suite small --only {cell}/seed-{seed}"),
        config_hash: "ab".repeat(32),
        hardware: Hardware {
            processor: "A processor".into(),
            kernels: "avx2".into(),
            threads: 2,
            memory_bytes: 1 << 33,
        },
        precision: "f32".into(),
        parameters: 1_234_567,
        flops_per_image: 2_000_000_000,
        steps: 30,
        images: 600,
        train_seconds: 60.0,
        eval_seconds: 12.0,
        started: "2026-01-02T03:04:05Z".into(),
        finished: "2026-01-02T03:05:17Z".into(),
        outcome: Outcome::Finished,
        evaluations: evaluations.iter().map(evaluation).collect(),
        last: Some(FinalLoss { loss: 0.5, diffusion: 0.25, per_t_bin: (0..10).map(bin).collect() }),
        fusion: None,
    }
}
