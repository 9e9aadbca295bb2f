//! Whole runs of a tiny network on the embedded digits.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use jit_model::Cpu;
use jit_model::config::{MlpKind, PatchEmbedKind};
use jit_model::fusion::WeightSchedule;
use jit_model::objective::Auxiliary;
use jit_model::weights::File;
use serde_json::Value;

use super::{fitting_batch, train, train_together};
use crate::checkpoint;
use crate::communicator::Communicator;
use crate::communicator::threads::together;
use crate::config::{PARTNER, PrecisionChoice, RunConfig, Schedule};
use crate::error::TrainError;
use crate::evaluation::EvalReport;
use crate::observer::{Observer, Outcome, Silent, StepReport};
use crate::testing::{digits, small};

/// Sets the stop flag when a given number of steps is done.
struct StopAfter<'a> {
    steps: u64,
    stop: &'a AtomicBool,
}

impl Observer for StopAfter<'_> {
    fn step(&mut self, report: &StepReport) {
        self.stop.store(report.step >= self.steps, Ordering::Relaxed);
    }
}

fn run(dir: &Path, config: &RunConfig, steps: u64) -> Result<Outcome, TrainError> {
    let stop = AtomicBool::new(false);
    let mut observer = StopAfter { steps, stop: &stop };
    train(&Cpu::F32, dir, config.clone(), digits(config), &mut observer, &stop)
}

/// The lines of `metrics.jsonl` without what a clock says.
fn metrics(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    let timeless = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        for key in ["images_per_second", "data_wait", "elapsed"] {
            assert!(line.as_object_mut().unwrap().remove(key).is_some(), "{key} is recorded");
        }
        line
    };
    text.lines().map(timeless).collect()
}

/// Every tensor file of the newest checkpoint, byte for byte.
fn tensors(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let checkpoint = checkpoint::latest(&dir.join("checkpoints")).unwrap().checkpoint.unwrap();
    let names = checkpoint.state.files.keys().filter(|name| name.ends_with(".safetensors"));
    names.map(|name| (name.clone(), fs::read(checkpoint.dir.join(name)).unwrap())).collect()
}

#[test]
fn a_run_that_was_stopped_anywhere_ends_in_the_same_bits() {
    let mut config = small();
    // Ten steps over four epochs of two and a half steps each, in micro-batches of 12, 12 and 8,
    // with everything random that training has.
    config.train.batch_size = 12;
    config.optim.schedule = Schedule::Cosine;
    config.optim.clip_norm = 1.0;
    config.optim.weight_decay = 0.1;
    config.objective.auxiliary = Auxiliary::Rotation;
    config.train.sample_every = 4;
    config.train.sample_count = 2;
    let whole = tempfile::tempdir().unwrap();
    assert_eq!(run(whole.path(), &config, 99).unwrap(), Outcome::Finished { step: 10 });
    assert_eq!(metrics(whole.path()).len(), 10);

    for stops in [&[1][..], &[3, 4, 5], &[9]] {
        let parts = tempfile::tempdir().unwrap();
        for &step in stops {
            assert_eq!(run(parts.path(), &config, step).unwrap(), Outcome::Stopped { step });
        }
        assert_eq!(run(parts.path(), &config, 99).unwrap(), Outcome::Finished { step: 10 });
        assert_eq!(metrics(whole.path()), metrics(parts.path()), "stopped after {stops:?}");
        for ((name, a), (_, b)) in tensors(whole.path()).iter().zip(&tensors(parts.path())) {
            assert!(a == b, "{name} differs when stopped after {stops:?}");
        }
        for grid in ["samples/step-00000004.png", "samples/step-00000008.png", "samples.png"] {
            let read = |dir: &Path| fs::read(dir.join(grid)).unwrap();
            assert_eq!(read(whole.path()), read(parts.path()), "{grid}");
        }
    }
    assert_eq!(tensors(whole.path()).len(), 4, "weights, two averages, moments");
}

#[test]
fn steps_after_the_last_checkpoint_are_repeated_alike() {
    let mut config = small();
    config.train.save_every = 3;
    let whole = tempfile::tempdir().unwrap();
    run(whole.path(), &config, 99).unwrap();
    // The state after a kill at step 8: two whole checkpoints, metrics beyond, leftovers.
    let killed = tempfile::tempdir().unwrap();
    run(killed.path(), &config, 99).unwrap();
    let checkpoints = killed.path().join("checkpoints");
    for step in [9, 10] {
        fs::remove_dir_all(checkpoints.join(checkpoint::folder_name(step))).unwrap();
    }
    fs::create_dir(checkpoints.join(".tmp-abc")).unwrap();
    assert_eq!(run(killed.path(), &config, 99).unwrap(), Outcome::Finished { step: 10 });
    assert_eq!(metrics(whole.path()), metrics(killed.path()));
    assert_eq!(tensors(whole.path()), tensors(killed.path()));
    assert!(!checkpoints.join(".tmp-abc").exists());
}

#[test]
fn a_finished_run_is_left_alone_and_a_longer_one_goes_on() {
    let mut config = small();
    config.train.max_steps = 4;
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &config, 99).unwrap();
    let before = tensors(dir.path());
    assert_eq!(run(dir.path(), &config, 99).unwrap(), Outcome::Finished { step: 4 });
    assert_eq!(tensors(dir.path()), before);
    config.train.max_steps = 6;
    assert_eq!(run(dir.path(), &config, 99).unwrap(), Outcome::Finished { step: 6 });
    assert_eq!(metrics(dir.path()).len(), 6);
}

#[test]
fn accumulation_equals_one_large_batch() {
    // 1×32 = 2×16 = 4×8, and an uneven split. Only the order in which f32 gradients are summed
    // differs, so after five steps, which move weights by 3e-3, they agree to two units in the last
    // place of a weight of 1.
    const TOLERANCE: f32 = 2.4e-7;
    let weights = |batch_size: usize| {
        let mut config = small();
        config.train.batch_size = batch_size;
        config.train.max_steps = 5;
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), &config, 99).unwrap();
        let checkpoint = checkpoint::latest(&dir.path().join("checkpoints")).unwrap();
        let file =
            File::open(&checkpoint.checkpoint.unwrap().dir.join("model.safetensors")).unwrap();
        let names = file.names();
        let values = names.iter().flat_map(|name| file.tensor(name).unwrap().into_f32());
        (metrics(dir.path()), values.collect::<Vec<f32>>())
    };
    let (one_metrics, one) = weights(32);
    for batch_size in [16, 8, 12] {
        let (metrics, parts) = weights(batch_size);
        let differs = one.iter().zip(&parts).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(differs < TOLERANCE, "weights differ by {differs} at batch size {batch_size}");
        assert_eq!(metrics[0]["loss"], one_metrics[0]["loss"], "the first loss is exact");
        assert_eq!(metrics[4]["lr"], one_metrics[4]["lr"]);
    }
}

#[test]
fn training_learns() {
    let mut config = small();
    config.model.attention_dropout = 0.0;
    config.model.projection_dropout = 0.0;
    config.train.epochs = 24.0;
    config.optim.lr = 5e-3;
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &config, 99).unwrap();
    let losses: Vec<f64> =
        metrics(dir.path()).iter().map(|line| line["loss"].as_f64().unwrap()).collect();
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (first, last) = (mean(&losses[..10]), mean(&losses[losses.len() - 10..]));
    assert!(last < 0.8 * first, "the loss went from {first} to {last}");
}

#[test]
fn divergence_stops_the_run_and_spares_the_checkpoint() {
    // Weights of this size overflow the next forward pass.
    let mut wild = small();
    wild.train.save_every = 1;
    wild.optim.warmup_epochs = 0.0;
    wild.optim.lr = 1e30;
    let fresh = tempfile::tempdir().unwrap();
    let error = run(fresh.path(), &wild, 99).unwrap_err();
    let TrainError::NotFinite { step, lr, last_good, .. } = &error else { panic!("{error}") };
    assert_eq!((*step, *lr), (2, 1e30));
    let message = error.to_string();
    assert!(message.contains("at step 2") && message.contains("1e30"), "{message}");
    let last_good = last_good.as_ref().unwrap();
    assert!(message.contains(&last_good.display().to_string()), "{message}");
    checkpoint::Checkpoint::open(last_good).unwrap();

    // A rate beyond f32 spoils the weights although the loss before it was finite: they are not
    // saved.
    wild.optim.lr = 1e39;
    let fresh = tempfile::tempdir().unwrap();
    let error = run(fresh.path(), &wild, 99).unwrap_err();
    assert!(error.to_string().starts_with("a weight is not a finite number at step 1"), "{error}");
    assert!(error.to_string().contains("no checkpoint from before"), "{error}");
    assert!(checkpoint::latest(&fresh.path().join("checkpoints")).unwrap().checkpoint.is_none());
}

#[test]
fn changed_options_are_refused_with_both_values() {
    let config = small();
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &config, 2).unwrap();
    let before = fs::read(dir.path().join("config.toml")).unwrap();

    let mut other = config.clone();
    other.optim.lr = 0.5;
    other.train.seed = 3;
    let message = run(dir.path(), &other, 99).unwrap_err().to_string();
    assert!(message.contains("optim.lr: started with 0.001, now 0.5"), "{message}");

    let mut fewer_images = config.clone();
    fewer_images.data.subset = 0.02;
    let message = run(dir.path(), &fewer_images, 99).unwrap_err().to_string();
    assert!(message.contains("data.subset: started with 0.01, now 0.02"), "{message}");

    let other_images = digits(&fewer_images);
    let stop = AtomicBool::new(false);
    let error = train(&Cpu::F32, dir.path(), config, other_images, &mut Silent, &stop).unwrap_err();
    assert!(matches!(error, TrainError::DataDiffers { .. }), "{error}");
    assert_eq!(fs::read(dir.path().join("config.toml")).unwrap(), before, "nothing was changed");
}

#[test]
fn listed_shares_of_a_run_are_drawn_and_evaluated_with_a_seed_of_their_own() {
    let mut config = small();
    config.train.eval_at = vec![0.25, 1.0];
    config.train.eval_count = 20;
    config.train.sample_count = 2;
    config.train.sample_seed = 7;
    let lines = |config: &RunConfig, stops: &[u64]| {
        let dir = tempfile::tempdir().unwrap();
        for &step in stops {
            run(dir.path(), config, step).unwrap();
        }
        for step in [3, 10] {
            assert!(dir.path().join(format!("samples/step-{step:08}.png")).exists());
        }
        let text = fs::read_to_string(dir.path().join("evals.jsonl")).unwrap();
        let line = |text| serde_json::from_str::<EvalReport>(text).unwrap();
        text.lines().map(line).map(|line| EvalReport { seconds: 0.0, ..line }).collect::<Vec<_>>()
    };
    let whole = lines(&config, &[99]);
    assert_eq!(whole.iter().map(|line| line.step).collect::<Vec<_>>(), [3, 10]);
    assert_eq!(lines(&config, &[2, 3, 5, 99]), whole);
    config.train.sample_seed = 8;
    assert_ne!(lines(&config, &[99]), whole);
}

#[test]
fn a_folder_has_one_trainer() {
    struct Nested(RunConfig, std::path::PathBuf);
    impl Observer for Nested {
        fn step(&mut self, _: &StepReport) {
            let error = run(&self.1, &self.0, 99).unwrap_err();
            assert!(matches!(error, TrainError::Locked { .. }), "{error}");
        }
    }
    let mut config = small();
    config.train.max_steps = 1;
    let dir = tempfile::tempdir().unwrap();
    let mut observer = Nested(config.clone(), dir.path().into());
    let stop = AtomicBool::new(false);
    let images = digits(&config);
    train(&Cpu::F32, dir.path(), config, images, &mut observer, &stop).unwrap();
}

#[test]
fn a_network_needs_a_class_for_each_of_the_data() {
    let mut config = small();
    config.model.num_classes = 4;
    let dir = tempfile::tempdir().unwrap();
    let error = run(dir.path(), &config, 99).unwrap_err();
    assert!(matches!(error, TrainError::Classes { have: 4, need: 10 }), "{error}");
}

#[test]
fn the_effective_configuration_is_one_that_can_be_given_back() {
    let mut config = small();
    config.train.max_steps = 1;
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &config, 99).unwrap();
    let text = fs::read_to_string(dir.path().join("config.toml")).unwrap();
    config.train.precision = PrecisionChoice::F32; // what `auto` was on this device
    assert_eq!(RunConfig::from_toml(&text).unwrap(), config);
    let manifest = fs::read(dir.path().join("manifest.json")).unwrap();
    let manifest: jit_data::Manifest = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest.images.len(), 80);
}

/// A partner of another width, patch, MLP and embedding.
fn with_partner(config: &RunConfig) -> RunConfig {
    let mut config = config.clone();
    config.partner.mlp = Some(MlpKind::Bottleneck);
    config.partner.patch_embed = Some(PatchEmbedKind::Silu);
    config.partner.patch_size = Some(7);
    config.partner.hidden_size = Some(24);
    config
}

#[test]
fn two_that_train_together_end_as_each_does_alone() {
    // Micro-batches, dropout, dropped labels, rotations, clipping: nothing couples the two.
    let mut config = small();
    config.train.batch_size = 12;
    config.train.sample_count = 2;
    config.optim.clip_norm = 1.0;
    config.objective.auxiliary = Auxiliary::Rotation;
    let joint_config = with_partner(&config);
    let [first, partner, joint] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let alone = RunConfig { model: joint_config.partner_model().unwrap(), ..config.clone() };
    assert_eq!(run(first.path(), &config, 99).unwrap(), Outcome::Finished { step: 10 });
    run(partner.path(), &alone, 99).unwrap();
    run(joint.path(), &joint_config, 99).unwrap();

    let joint_tensors: BTreeMap<_, _> = tensors(joint.path()).into_iter().collect();
    for (dir, prefix) in [(first.path(), ""), (partner.path(), "partner-")] {
        for (name, bytes) in tensors(dir) {
            assert!(joint_tensors[&format!("{prefix}{name}")] == bytes, "{prefix}{name} differs");
        }
    }
    assert_eq!(joint_tensors.len(), 8, "weights, two averages, moments: twice");
    assert_ne!(joint_tensors["model.safetensors"], joint_tensors["partner-model.safetensors"]);

    let [first, partner, joint] = [first, partner, joint].map(|dir| {
        let grid = fs::read(dir.path().join("samples.png")).unwrap();
        (metrics(dir.path()), grid)
    });
    assert_eq!(joint.1, first.1, "the first network draws the grids");
    for ((one, two), mut both) in first.0.iter().zip(&partner.0).zip(joint.0) {
        let beside = both.as_object_mut().unwrap().remove("partner").unwrap();
        assert_eq!(*one, both);
        for key in ["loss", "diffusion", "auxiliary", "grad_norm", "loss_by_t"] {
            assert_eq!(two[key], beside[key], "{key}");
        }
    }
}

#[test]
fn two_that_train_together_go_on_in_the_same_bits() {
    let mut config = with_partner(&small());
    config.fusion.with = PARTNER.into();
    config.train.sample_every = 4;
    config.train.sample_count = 2;
    let [whole, parts, other] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    run(whole.path(), &config, 99).unwrap();
    for step in [1, 5] {
        assert_eq!(run(parts.path(), &config, step).unwrap(), Outcome::Stopped { step });
    }
    run(parts.path(), &config, 99).unwrap();
    assert_eq!(tensors(whole.path()), tensors(parts.path()));
    assert_eq!(metrics(whole.path()), metrics(parts.path()));
    let grid = |dir: &Path| fs::read(dir.join("samples.png")).unwrap();
    assert_eq!(grid(whole.path()), grid(parts.path()));
    // The grids are of both, as `[fusion]` says.
    config.fusion.weight = WeightSchedule::Constant(0.0);
    run(other.path(), &config, 99).unwrap();
    assert_ne!(grid(whole.path()), grid(other.path()));
    assert_eq!(tensors(whole.path()), tensors(other.path()), "drawing does not enter training");

    let message = |config: &RunConfig| run(whole.path(), config, 99).unwrap_err().to_string();
    let alone = RunConfig { partner: Default::default(), fusion: Default::default(), ..config };
    let expected = "partner.mlp: started with \"bottleneck\", now unset";
    assert!(message(&alone).contains(expected), "{}", message(&alone));
    let mut elsewhere = with_partner(&alone);
    elsewhere.fusion.with = "runs/b".into();
    assert!(message(&elsewhere).starts_with("fusion.with = runs/b: expected `partner`"));
}

#[test]
fn a_checkpoint_without_its_partner_is_damaged() {
    let config = with_partner(&small());
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &config, 1).unwrap();
    let path = dir.path().join("checkpoints").join(checkpoint::folder_name(1)).join("state.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("partner-optimizer", "another-optimizer")).unwrap();
    fs::rename(
        path.with_file_name("partner-optimizer.safetensors"),
        path.with_file_name("another-optimizer.safetensors"),
    )
    .unwrap();
    let message = run(dir.path(), &config, 2).unwrap_err().to_string();
    assert!(message.contains("does not list `partner-optimizer.safetensors`"), "{message}");
}

/// A run by several processes, the last of which is asked to stop at once if `stops`.
fn run_together(dir: &Path, config: &RunConfig, size: usize, stops: bool) -> Vec<Outcome> {
    together(size, |comm| {
        let stop = AtomicBool::new(stops && comm.rank() + 1 == comm.size());
        let (config, images) = (config.clone(), digits(config));
        train_together(comm, &Cpu::F32, dir, config, images, &mut Silent, &stop).unwrap()
    })
}

/// The largest difference between two runs' weights, averages or moments, by file.
fn distance(a: &Path, b: &Path) -> f32 {
    let values = |dir: &Path| {
        let found = checkpoint::latest(&dir.join("checkpoints")).unwrap().checkpoint.unwrap();
        let names = found.state.files.keys().filter(|name| name.ends_with(".safetensors"));
        let file = |name: &String| {
            let file = File::open(&found.dir.join(name)).unwrap();
            let names = file.names();
            names.iter().flat_map(|name| file.tensor(name).unwrap().into_f32()).collect::<Vec<_>>()
        };
        names.flat_map(file).collect::<Vec<f32>>()
    };
    let (a, b) = (values(a), values(b));
    assert_eq!(a.len(), b.len());
    a.iter().zip(&b).fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

#[test]
fn several_processes_end_as_one_does() {
    // Everything that training has: micro-batches, dropout, a second pass, clipping, a partner that draws along,
    // recomputed blocks, evaluations; 32 images on 3 processes are 11, 11 and 10.
    const TOLERANCE: f32 = 2.4e-7;
    let mut config = with_partner(&small());
    config.fusion.with = PARTNER.into();
    config.train.batch_size = 5;
    config.train.checkpoint_blocks = true;
    config.train.max_steps = 5;
    config.train.eval_every = 5;
    config.train.eval_count = 20;
    config.train.sample_count = 7;
    config.optim.clip_norm = 1.0;
    config.objective.auxiliary = Auxiliary::Rotation;
    let one = tempfile::tempdir().unwrap();
    run(one.path(), &config, 99).unwrap();
    let text = |dir: &Path, name: &str| fs::read_to_string(dir.join(name)).unwrap();
    for size in [2, 3, 4] {
        let [first, again] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        for dir in [&first, &again] {
            let outcomes = run_together(dir.path(), &config, size, false);
            assert!(outcomes.iter().all(|o| *o == Outcome::Finished { step: 5 }), "{outcomes:?}");
        }
        let first = first.path();
        assert_eq!(tensors(first), tensors(again.path()), "the same bits every time");
        let differs = distance(one.path(), first);
        assert!(differs < TOLERANCE, "{size} processes differ by {differs}");
        for (a, b) in metrics(one.path()).iter().zip(metrics(first)) {
            for key in ["loss", "diffusion", "auxiliary", "grad_norm", "lr", "epoch"] {
                let [a, b] = [a, &b].map(|line| line[key].as_f64().unwrap());
                assert!((a - b).abs() <= 1e-5 * a.abs(), "{key}: {a} and {b}");
            }
            assert_eq!(a["images_by_t"], b["images_by_t"]);
        }
        assert!(text(first, "metrics.jsonl").contains("merge_wait"));
        assert_eq!(text(first, "evals.jsonl").lines().count(), 1);
        let manifest = [one.path(), first].map(|dir| text(dir, "manifest.json"));
        assert_eq!(manifest[0], manifest[1]);
    }
}

#[test]
fn any_number_of_processes_goes_on_from_any_others_checkpoint() {
    const TOLERANCE: f32 = 2.4e-7;
    let config = small();
    let [one, many] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    run(one.path(), &config, 99).unwrap();
    for (size, steps) in [(3, 3), (1, 5), (4, 8), (2, 10)] {
        let config = RunConfig {
            train: crate::TrainConfig { max_steps: steps, ..config.train.clone() },
            ..config.clone()
        };
        let outcomes = run_together(many.path(), &config, size, false);
        assert_eq!(outcomes, vec![Outcome::Finished { step: steps }; size]);
    }
    let differs = distance(one.path(), many.path());
    assert!(differs < TOLERANCE, "{differs}");
    assert_eq!(metrics(many.path()).len(), 10);
}

#[test]
fn a_request_to_stop_that_one_process_hears_stops_all_at_one_step() {
    let dir = tempfile::tempdir().unwrap();
    let outcomes = run_together(dir.path(), &small(), 3, true);
    assert_eq!(outcomes, [Outcome::Stopped { step: 1 }; 3]);
    assert!(dir.path().join("checkpoints/step-00000001/state.json").exists());
}

#[test]
fn processes_that_are_not_alike_are_told_apart() {
    let message = |config: &RunConfig, change: fn(&mut RunConfig)| {
        let dir = tempfile::tempdir().unwrap();
        let results = together(2, |comm| {
            let mut config = config.clone();
            if comm.rank() == 1 {
                change(&mut config);
            }
            let (images, stop) = (digits(&config), AtomicBool::new(false));
            train_together(comm, &Cpu::F32, dir.path(), config, images, &mut Silent, &stop)
        });
        results.into_iter().nth(1).unwrap().unwrap_err().to_string()
    };
    let lr = message(&small(), |c| c.optim.lr = 0.5);
    assert!(lr.contains("process 1 has another configuration than process 0: lr = 0.5"), "{lr}");
    let few =
        RunConfig { train: crate::TrainConfig { global_batch: 1, ..small().train }, ..small() };
    let few = message(&few, |_| {});
    assert!(few.contains("2 processes cannot share 1 images a step"), "{few}");
}

#[test]
fn advice_leaves_room_for_what_does_not_shrink_with_the_batch() {
    // 10 bytes at rest, 100 of each image and 40 whatever the batch.
    let peak = |batch: u64| 10 + 100 * batch + 40;
    let fits = fitting_batch(64, 10, peak(64), peak(63) - 1).unwrap();
    assert!((55..=62).contains(&fits) && peak(fits as u64) < peak(63), "{fits}");
    assert_eq!(fitting_batch(64, 10, peak(64), 60), None, "not one image fits");
}
