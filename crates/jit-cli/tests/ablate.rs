//! `jit ablate` end to end: a small study, killed at any moment, shared, and extended.

// Lints know test functions, not their helpers.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use jit_study::Record;
use jit_study::record::Outcome;

mod common;
use common::Place;

/// Two cells of a tiny network, two seeds, two looks.
const SUITE: &str = r#"
name = "tiny"
title = "A tiny study"
seeds = [0, 1]

[evaluation]
fractions = [0.5, 1.0]
count = 20
samples = 4

[base]
model = { image_size = 28, channels = 1, patch_size = 14, hidden_size = 16, depth = 2, num_heads = 2, bottleneck_dim = 8, in_context_len = 1, in_context_start = 1 }
data = { path = "digits", subset = 0.01, flip = false }
optim = { lr = 1e-3, warmup_epochs = 1, ema_decay = [0.9] }
train = { max_steps = 12, global_batch = 16, save_every = 4, keep_last = 1 }
sample = { steps = 2 }

[[cells]]
name = "swiglu"
set.model.mlp = "swiglu"

[[cells]]
name = "bottleneck"
title = "The bottleneck MLP"
set.model.mlp = "bottleneck"
"#;

const LABELS: [&str; 4] =
    ["bottleneck/seed-0", "bottleneck/seed-1", "swiglu/seed-0", "swiglu/seed-1"];

fn place() -> Place {
    let place = Place::new();
    fs::write(place.path("tiny-suite.toml"), SUITE).unwrap();
    place
}

/// Every record of a study, by run.
fn records(study: &Path) -> BTreeMap<String, Record> {
    let mut found = BTreeMap::new();
    for label in LABELS {
        if let Some(record) =
            Record::read(&study.join("runs").join(label).join("record.json")).unwrap()
        {
            found.insert(label.to_string(), record);
        }
    }
    found
}

/// The weights at the end of a run.
fn weights(study: &Path, label: &str) -> Vec<u8> {
    let name = "checkpoints/step-00000012/model.safetensors";
    fs::read(study.join("runs").join(label).join(name)).unwrap()
}

/// What a record says, but for times.
fn timeless(record: &Record) -> Record {
    let mut record = record.clone();
    (record.train_seconds, record.eval_seconds) = (0.0, 0.0);
    (record.started, record.finished) = (String::new(), String::new());
    record.command = String::new();
    record.hardware.threads = 0;
    record.evaluations.iter_mut().for_each(|evaluation| evaluation.eval.seconds = 0.0);
    record
}

fn assert_same(a: &Path, b: &Path) {
    let (ours, theirs) = (records(a), records(b));
    assert_eq!(ours.len(), LABELS.len());
    for label in LABELS {
        assert_eq!(timeless(&ours[label]), timeless(&theirs[label]), "{label}");
        assert!(weights(a, label) == weights(b, label), "{label}");
    }
}

#[test]
fn a_study_ends_with_a_record_for_every_run_and_repeats_none() {
    let place = place();
    let ran = place.ok("ablate --suite tiny-suite.toml --out study");
    assert!(ran.out.contains("all 4 runs of the study in study are finished"), "{}", ran.out);
    assert!(ran.err.contains("4/4 bottleneck/seed-1 in "), "{}", ran.err);
    let study = place.path("study");
    let page = String::from_utf8(place.bytes("study/report.html")).unwrap();
    assert!(ran.out.contains("report: study/report.html") && page.contains("The bottleneck MLP"));
    // What is kept of it makes the same tables and small pictures, without weights.
    let kept = place.ok("report study --keep kept --csv whole-tables").out;
    assert!(kept.contains("kept: 4 runs in kept"), "{kept}");
    place.ok("report kept --markdown kept.md --csv kept-tables");
    place.ok("report study --markdown study.md");
    for name in ["results.csv", "settings.csv"] {
        assert_eq!(
            place.bytes(&format!("whole-tables/{name}")),
            place.bytes(&format!("kept-tables/{name}"))
        );
    }
    for entry in std::fs::read_dir(place.path("study")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("samples") {
            assert_eq!(place.bytes(&format!("study/{name}")), place.bytes(&format!("kept/{name}")));
        }
    }
    assert!(!place.path("kept/runs/swiglu/seed-0/checkpoints").exists());
    let all = records(&study);
    assert_eq!(all.keys().map(String::as_str).collect::<Vec<_>>(), LABELS);
    let record = &all["bottleneck/seed-1"];
    assert_eq!((&*record.suite, &*record.title), ("tiny", "The bottleneck MLP"));
    assert_eq!((record.seed, record.steps, record.images), (1, 12, 192));
    assert_eq!(record.outcome, Outcome::Finished);
    let looks: Vec<_> = record.evaluations.iter().map(|e| (e.eval.step, e.fraction)).collect();
    assert_eq!(looks, [(6, 0.5), (12, 1.0)]);
    for evaluation in &record.evaluations {
        assert_eq!((&*evaluation.weights, evaluation.count), ("ema-0.9", 20));
        assert!(evaluation.eval.report.fid.unwrap().mean > 0.0);
        let grid = evaluation.samples.as_ref().unwrap();
        assert!(study.join("runs/bottleneck/seed-1").join(grid).is_file());
    }
    assert!(record.last.as_ref().unwrap().loss > 0.0);

    let metrics = place.bytes("study/runs/swiglu/seed-0/metrics.jsonl");
    let again = place.ok("ablate --suite tiny-suite.toml --out study");
    assert!(again.out.contains("all 4 runs"), "{}", again.out);
    assert_eq!(records(&study), all, "nothing was written anew");
    assert_eq!(place.bytes("study/runs/swiglu/seed-0/metrics.jsonl"), metrics);

    // The recorded command repeats the run to the bit, from the effective suite as well.
    let words = record.command.strip_prefix("jit ").unwrap();
    place.ok(words);
    let label = "bottleneck/seed-1";
    assert!(weights(&place.path("again"), label) == weights(&study, label));
    let repeated = records(&place.path("again"));
    assert_eq!(repeated.len(), 1);
    assert_eq!(timeless(&repeated[label]), timeless(record));
    place.ok("ablate --suite study/suite.toml --only swiglu/seed-0 --out effective");
    assert!(weights(&place.path("effective"), "swiglu/seed-0") == weights(&study, "swiglu/seed-0"));
}

#[test]
fn cells_differ_in_their_settings_alone_and_share_noise() {
    let place = place();
    let dry = place.ok("ablate --suite tiny-suite.toml --out study --dry-run");
    assert!(!place.path("study").exists(), "nothing was started");
    for expected in
        ["model.mlp", "swiglu", "runs        4 of 2 cells and 2 seeds", "time        about"]
    {
        assert!(dry.out.contains(expected), "{expected} is missing in:\n{}", dry.out);
    }
    place.ok("ablate --suite tiny-suite.toml --out study --seeds 1 --set train.max_steps=1 --set optim.lr=1e-9");
    let config = |cell: &str| {
        let text = place.bytes(&format!("study/runs/{cell}/seed-0/config.toml"));
        String::from_utf8(text).unwrap()
    };
    let (a, b) = (config("swiglu"), config("bottleneck"));
    let differing: Vec<_> = a.lines().zip(b.lines()).filter(|(a, b)| a != b).collect();
    assert_eq!(differing, [("mlp = \"swiglu\"", "mlp = \"bottleneck\"")]);
    // An untrained network predicts nothing: the same noise gives the same images.
    let grid = |cell: &str| place.bytes(&format!("study/runs/{cell}/seed-0/samples.png"));
    assert_eq!(grid("swiglu"), grid("bottleneck"));
}

/// Starts the study and kills it after `delay`.
fn killed(place: &Place, line: &str, delay: Duration) {
    let mut child = place.command(line).spawn().unwrap();
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn killed_at_any_moment_a_study_loses_and_repeats_no_run() {
    let place = place();
    let line = "ablate --suite tiny-suite.toml --out study";
    place.ok("ablate --suite tiny-suite.toml --out whole");
    let study = place.path("study");
    let mut before: BTreeMap<String, Record> = BTreeMap::new();
    let mut delay = 20;
    let started = Instant::now();
    // Moments spread over start, training, judging and writing; longer ones as long as nothing is done.
    while before.len() < LABELS.len() {
        assert!(started.elapsed() < Duration::from_secs(300), "the study never ends");
        killed(&place, line, Duration::from_millis(delay));
        delay = delay * 5 / 4 + 7;
        let now = records(&study);
        for (label, record) in &before {
            assert_eq!(now.get(label), Some(record), "{label} was lost or done twice");
        }
        before = now;
    }
    place.ok(line);
    assert_eq!(records(&study), before);
    assert_same(&study, &place.path("whole"));
}

fn finished(mut child: Child) -> bool {
    child.wait().unwrap().success()
}

#[test]
fn two_processes_on_one_folder_split_the_work() {
    let place = place();
    let line = "ablate --suite tiny-suite.toml --out study --threads 1 --set train.max_steps=60 --set train.epochs=1000";
    let (a, b) = (place.command(line).spawn().unwrap(), place.command(line).spawn().unwrap());
    let ids = [a.id(), b.id()];
    assert!(finished(a) && finished(b));
    let study = place.path("study");
    assert_eq!(records(&study).len(), 4);
    let holder = |label: &str| {
        let claim = fs::read_to_string(study.join("runs").join(label).join(".claim")).unwrap();
        let claim: jit_study::claim::Holder = serde_json::from_str(&claim).unwrap();
        claim.process
    };
    let shares = ids.map(|id| LABELS.iter().filter(|label| holder(label) == id).count());
    assert!(shares[0] > 0 && shares[1] > 0 && shares[0] + shares[1] == 4, "{shares:?}");
}

#[test]
fn jobs_share_a_study_and_end_with_the_process_that_started_them() {
    let place = place();
    place.ok("ablate --suite tiny-suite.toml --out whole");
    place.ok("ablate --suite tiny-suite.toml --out study --jobs 3 --threads 3");
    assert_same(&place.path("study"), &place.path("whole"));

    // A study that would take hours: every run has its worker, until the first process is killed.
    let line = "ablate --suite tiny-suite.toml --out long --jobs 2 --threads 2 \
                --set train.max_steps=100000000 --set train.epochs=1e8 --set train.save_every=1";
    let mut child = place.command(line).spawn().unwrap();
    let long = place.path("long");
    let claims = |all: &[&str]| -> Vec<PathBuf> {
        let path = |label: &&str| long.join("runs").join(label);
        all.iter().map(path).filter(|run| run.join("metrics.jsonl").exists()).collect()
    };
    wait_until(|| claims(&LABELS).len() == 2);
    child.kill().unwrap();
    child.wait().unwrap();
    for run in claims(&LABELS) {
        wait_until(|| jit_study::claim::claim(&run).unwrap().is_ok());
    }
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(120), "waited in vain");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_run_that_diverges_is_a_result() {
    let place = place();
    let suite = SUITE.replace("set.model.mlp = \"swiglu\"", "set.optim.lr = 1e30");
    fs::write(place.path("tiny-suite.toml"), suite).unwrap();
    let ran = place.ok("ablate --suite tiny-suite.toml --out study");
    assert!(ran.out.contains("2 of those done now diverged"), "{}", ran.out);
    let all = records(&place.path("study"));
    assert_eq!(all.len(), 4);
    match &all["swiglu/seed-0"].outcome {
        Outcome::Diverged { diverged_at, message } => {
            assert!((2..=12).contains(diverged_at), "{diverged_at}");
            assert!(message.contains("is not a finite number"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(all["bottleneck/seed-0"].outcome, Outcome::Finished);
}

/// A sweep over the two cells.
const SWEEP: &str = r#"
[[fusions]]
name = "blend"
parents = ["swiglu", "bottleneck"]
mode = "blend"
schedule = "constant"
weights = [0.0, 0.5]
"#;

#[test]
fn two_trained_models_draw_together_once_both_are_done() {
    let place = place();
    let line = "ablate --suite tiny-suite.toml --out study --set optim.lr=0.02";
    place.ok(line);
    let parents = records(&place.path("study"));
    // The sweep is added to the finished study, and the runs are left alone.
    fs::write(place.path("tiny-suite.toml"), format!("{SUITE}{SWEEP}")).unwrap();
    let ran = place.ok(line);
    assert!(ran.out.contains("all 4 runs and 4 fusions"), "{}", ran.out);
    assert_eq!(records(&place.path("study")), parents);
    let row = |study: &str, name: &str| {
        Record::read(&place.path(study).join("fused").join(name)).unwrap().unwrap()
    };
    for seed in [0, 1] {
        let end = row("study", &format!("blend-0/seed-{seed}.json"));
        let parent = &parents[&format!("swiglu/seed-{seed}")];
        let alone = &parent.evaluations.last().unwrap().eval.report;
        assert_eq!(&end.evaluations[0].eval.report, alone, "the same noise, labels and weights");
        let half = row("study", &format!("blend-0.5/seed-{seed}.json"));
        assert_ne!(half.evaluations[0].eval.report, end.evaluations[0].eval.report);
        let fusion = half.fusion.unwrap();
        assert_eq!((&*fusion.mode, &*fusion.schedule, fusion.weight), ("blend", "constant", 0.5));
        let grid = half.evaluations[0].samples.clone().unwrap();
        assert!(place.path("study/fused/blend-0.5").join(grid).is_file());
    }
    // Its command trains both parents and no other run.
    let record = row("study", "blend-0.5/seed-1.json");
    place.ok(record.command.strip_prefix("jit ").unwrap());
    assert_eq!(records(&place.path("again")).len(), 2);
    assert_eq!(timeless(&row("again", "blend-0.5/seed-1.json")), timeless(&record));
}

#[test]
fn what_cannot_be_is_refused_before_anything_starts() {
    let place = place();
    let unknown = place.fails(2, "ablate --suite papr");
    assert!(unknown.contains("did you mean `paper`?"), "{unknown}");
    let wrong = SUITE.replace("set.model.mlp = \"swiglu\"", "set.model.mpl = \"swiglu\"");
    fs::write(place.path("wrong.toml"), wrong).unwrap();
    let message = place.fails(2, "ablate --suite wrong.toml --out study");
    assert!(message.contains("cell `swiglu`: there is no option `model.mpl`"), "{message}");
    let message = place.fails(1, "ablate --suite tiny-suite.toml --out study --data nowhere");
    assert!(message.contains("nowhere"), "{message}");
    let message = place.fails(2, "ablate --suite tiny-suite.toml --out study --only swiglu/seed-9");
    assert!(message.contains("the suite has no `swiglu/seed-9`"), "{message}");
    assert!(!place.path("study/runs").exists());

    place.ok("ablate --suite tiny-suite.toml --out study --seeds 1 --set train.max_steps=1");
    let message = place.fails(2, "ablate --suite tiny-suite.toml --out study");
    assert!(message.contains("train.max_steps: started with 1, now 12"), "{message}");
    // Another seed is no other study.
    place.ok("ablate --suite tiny-suite.toml --out study --set train.max_steps=1");
    assert_eq!(records(&place.path("study")).len(), 4);
}

#[test]
fn every_embedded_suite_can_be_planned() {
    let place = place();
    for suite in jit_study::suites::names() {
        let dry = place.ok(&format!("ablate --suite {suite} --dry-run"));
        assert!(dry.out.contains("time        about"), "{suite}: {}", dry.out);
    }
}
