//! Checkpoints that are damaged, foreign, old or interrupted.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jit_model::{Cpu, Denoiser};

use super::{Checkpoint, folder_name, latest, list};
use crate::config::{Role, RunConfig};
use crate::error::TrainError;
use crate::observer::Observer;
use crate::testing::{digits, small};
use crate::train;

/// Collects what a run says.
#[derive(Default)]
struct Log {
    checkpoints: Vec<u64>,
    warnings: Vec<String>,
}

impl Observer for Log {
    fn checkpoint(&mut self, step: u64, _: &Path) {
        self.checkpoints.push(step);
    }

    fn warning(&mut self, message: &str) {
        self.warnings.push(message.into());
    }
}

fn run(dir: &Path, config: &RunConfig) -> Result<Log, TrainError> {
    let mut log = Log::default();
    train(&Cpu::F32, dir, config.clone(), digits(config), &mut log, &AtomicBool::new(false))?;
    Ok(log)
}

fn steps(dir: &Path) -> Vec<u64> {
    list(&dir.join("checkpoints")).unwrap().into_iter().map(|(step, _)| step).collect()
}

fn path(dir: &Path, step: u64, file: &str) -> PathBuf {
    dir.join("checkpoints").join(folder_name(step)).join(file)
}

fn saving(every: u64, max_steps: u64) -> RunConfig {
    let mut config = small();
    config.train.epochs = 1e6;
    config.train.save_every = every;
    config.train.max_steps = max_steps;
    config
}

#[test]
fn the_last_k_and_every_nth_stay() {
    let mut config = saving(1, 10);
    config.train.keep_last = 2;
    config.train.keep_every = 4;
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(dir.path(), &config).unwrap().checkpoints, (1..=10).collect::<Vec<_>>());
    assert_eq!(steps(dir.path()), [4, 8, 9, 10]);
}

#[test]
fn a_damaged_newest_checkpoint_gives_way_to_an_older_one() {
    let damages: [fn(&Path); 5] = [
        |dir| flip_a_bit(&path(dir, 4, "model.safetensors")),
        |dir| flip_a_bit(&path(dir, 4, "optimizer.safetensors")),
        |dir| fs::remove_file(path(dir, 4, "ema-0.99.safetensors")).unwrap(),
        |dir| fs::write(path(dir, 4, "state.json"), "{\"format\": 1, \"st").unwrap(),
        |dir| {
            let file = OpenOptions::new().write(true).open(path(dir, 4, "model.safetensors"));
            file.unwrap().set_len(100).unwrap();
        },
    ];
    let expected = tempfile::tempdir().unwrap();
    run(expected.path(), &saving(2, 6)).unwrap();
    let expected = fs::read(path(expected.path(), 6, "model.safetensors")).unwrap();
    for (i, damage) in damages.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), &saving(2, 4)).unwrap();
        damage(dir.path());
        let log = run(dir.path(), &saving(2, 6)).unwrap();
        assert_eq!(log.checkpoints, [4, 6], "damage {i}");
        assert!(log.warnings[0].contains("step-00000004"), "{:?}", log.warnings);
        assert!(dir.path().join("checkpoints/damaged-step-00000004-0").exists());
        assert_eq!(fs::read(path(dir.path(), 6, "model.safetensors")).unwrap(), expected);
    }
}

fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&bytes).unwrap();
}

#[test]
fn a_run_does_not_start_over_behind_the_users_back() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &saving(0, 2)).unwrap();
    flip_a_bit(&path(dir.path(), 2, "model.safetensors"));
    let error = run(dir.path(), &saving(0, 4)).err().unwrap();
    assert!(matches!(error, TrainError::NoCheckpoint { .. }), "{error}");
    assert!(error.to_string().contains("checksum"), "{error}");
    assert_eq!(steps(dir.path()), [2], "nothing was changed");
}

#[test]
fn another_version_is_not_skipped() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &saving(1, 2)).unwrap();
    let state = path(dir.path(), 2, "state.json");
    let text = fs::read_to_string(&state).unwrap().replace("\"format\": 1", "\"format\": 2");
    fs::write(&state, text).unwrap();
    let error = run(dir.path(), &saving(1, 4)).err().unwrap();
    assert!(error.to_string().contains("format 2"), "{error}");
}

#[test]
fn a_checkpoint_reads_no_file_outside_of_itself() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &saving(0, 1)).unwrap();
    let state = path(dir.path(), 1, "state.json");
    let text = fs::read_to_string(&state).unwrap();
    fs::write(&state, text.replace("\"ema-0.99.safetensors\"", "\"../../config.toml\"")).unwrap();
    let error = Checkpoint::open(&path(dir.path(), 1, "")).unwrap_err();
    assert!(error.to_string().contains("outside"), "{error}");
}

#[test]
fn another_networks_weights_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = saving(0, 1);
    run(dir.path(), &config).unwrap();
    let checkpoint = Checkpoint::open(&path(dir.path(), 1, "")).unwrap();
    let message = |change: fn(&mut RunConfig)| {
        let mut other = config.clone();
        change(&mut other);
        let denoiser = Denoiser::new(&Cpu::F32, &other.model, &other.objective);
        checkpoint.weights(Role::First, denoiser.registry()).unwrap_err().to_string()
    };
    let wider = message(|c| c.model.num_classes = 11);
    assert!(wider.contains("embedding_table.weight` of shape [11, 16]"), "{wider}");
    assert!(wider.contains("the network needs [12, 16]"), "{wider}");
    let deeper = message(|c| c.model.depth = 5);
    assert!(deeper.contains("no tensor `net.blocks.4."), "{deeper}");
    let shallower = message(|c| c.model.depth = 3);
    assert!(shallower.contains("tensors; the network needs"), "{shallower}");
}

/// Where the process that is to be killed trains.
const VICTIM: &str = "JIT_TRAIN_TEST_KILLED_RUN";

/// Not a test by itself: what the test below runs in a process of its own, saving at every step
/// and reporting each checkpoint once it is on disk.
#[test]
fn victim() {
    struct Report;
    impl Observer for Report {
        fn checkpoint(&mut self, step: u64, _: &Path) {
            println!("\nsaved {step}");
        }
    }
    if let Some(dir) = std::env::var_os(VICTIM) {
        let config = saving(1, 0);
        let images = digits(&config);
        train(&Cpu::F32, dir.as_ref(), config, images, &mut Report, &AtomicBool::new(false))
            .unwrap();
    }
}

#[test]
fn a_kill_during_a_save_loses_no_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut newest = 0;
    for kill in 0..8u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["checkpoint::tests::victim", "--exact", "--nocapture"])
            .env(VICTIM, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let saved = lines.map_while(Result::ok).filter_map(|line| {
            line.strip_prefix("saved ").and_then(|step| step.parse::<u64>().ok())
        });
        // Let it save twice, then kill it at another moment of its next step or save every time.
        newest = saved.take(2).last().unwrap_or(newest);
        std::thread::sleep(Duration::from_micros(1700 * kill));
        child.kill().unwrap();
        child.wait().unwrap();

        let found = latest(&dir.path().join("checkpoints")).unwrap();
        assert!(found.damaged.is_empty(), "{:?}", found.damaged);
        let step = found.checkpoint.unwrap().state.step;
        assert!(step >= newest, "step {newest} was saved, but the newest is {step}");
        newest = step;
    }
    let rest = saving(1, newest + 3);
    assert_eq!(run(dir.path(), &rest).unwrap().warnings, [""; 0]);
    let whole = tempfile::tempdir().unwrap();
    run(whole.path(), &rest).unwrap();
    let weights = |dir: &Path| fs::read(path(dir, newest + 3, "model.safetensors")).unwrap();
    assert!(weights(dir.path()) == weights(whole.path()), "killed runs end in other bits");
}
