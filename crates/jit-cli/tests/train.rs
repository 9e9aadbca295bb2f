//! `jit train` end to end: finishing, stopping in every way, going on to the same bits.

// Lints know test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

mod common;
use common::Place;

#[test]
fn a_run_finishes_leaves_its_files_and_says_so_again() {
    let place = Place::new();
    let ran = place.ok("train --config tiny.toml");
    assert!(ran.out.contains("the run in runs/tiny finished after 6 steps"), "{}", ran.out);
    assert!(ran.out.contains("samples: runs/tiny/samples.png"), "{}", ran.out);
    assert!(ran.err.contains("step 6/6"), "progress without a terminal: {}", ran.err);
    for file in ["config.toml", "manifest.json", "metrics.jsonl", "samples.png"] {
        assert!(place.path("runs/tiny").join(file).is_file(), "{file}");
    }
    let lines = String::from_utf8(place.bytes("runs/tiny/metrics.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 6);
    let again = place.ok("train --config tiny.toml");
    assert!(again.out.contains("was finished already after 6 steps"), "{}", again.out);
}

#[test]
fn stopping_and_going_on_ends_in_the_same_bits() {
    let place = Place::new();
    place.ok("train --config tiny.toml --out whole --max-steps 7");
    for steps in [1, 2, 5, 7] {
        place.ok(&format!("train --config tiny.toml --out parts --max-steps {steps}"));
    }
    assert!(place.checkpoint("whole", 7) == place.checkpoint("parts", 7));
    assert_eq!(place.bytes("whole/samples.png"), place.bytes("parts/samples.png"));
    // The last step that both runs saved on their way.
    assert!(place.checkpoint("whole", 7) != place.checkpoint("whole", 6));
}

#[test]
fn threads_and_the_saved_configuration_change_nothing() {
    let place = Place::new();
    place.ok("train --config tiny.toml --out a --threads 1 --set optim.clip_norm=0.5");
    place.ok("train --config a/config.toml --out b --threads 3");
    assert!(place.checkpoint("a", 6) == place.checkpoint("b", 6));
    assert_eq!(place.bytes("a/config.toml"), place.bytes("b/config.toml"));
}

#[test]
fn a_changed_option_is_refused_with_both_values() {
    let place = Place::new();
    place.ok("train --config tiny.toml");
    let message = place.fails(2, "train --config tiny.toml --lr 0.5 --max-steps 8");
    assert!(message.contains("optim.lr: started with 0.001, now 0.5"), "{message}");
    assert!(!message.contains("max_steps"), "{message}");
    let message = place.fails(2, "train --config tiny.toml --subset 0.02");
    assert!(message.contains("data.subset: started with 0.01, now 0.02"), "{message}");
}

/// Starts a run that would take hours and waits until it has saved step `at_least`.
fn long_run(place: &Place, at_least: u64) -> Child {
    let line =
        "train --config tiny.toml --out long --max-steps 1000000 --epochs 1e6 --save-every 1";
    let child = place.command(line).spawn().unwrap();
    let started = Instant::now();
    while place.steps("long").last().is_none_or(|&step| step < at_least) {
        assert!(started.elapsed() < Duration::from_secs(120), "no checkpoint of step {at_least}");
        std::thread::sleep(Duration::from_millis(3));
    }
    child
}

#[test]
fn killed_while_it_saves_a_run_loses_no_checkpoint() {
    let place = Place::new();
    let mut reached = 0;
    for round in 0..6 {
        let mut child = long_run(&place, reached + 2);
        // A little later each time: kills fall into every phase of the saves that fill the run.
        std::thread::sleep(Duration::from_millis(round * 7));
        child.kill().unwrap();
        child.wait().unwrap();
        let newest = *place.steps("long").last().unwrap();
        assert!(newest >= reached + 2, "step {newest} after {reached}");
        reached = newest;
    }
    // The newest that has its name is whole, and the run goes on from it.
    let steps = reached + 3;
    let line = format!("train --config tiny.toml --out long --epochs 1e6 --max-steps {steps}");
    let ran = place.ok(&format!("{line} --save-every 1"));
    assert!(ran.err.contains(&format!("going on after step {reached}")), "{}", ran.err);
    assert!(!ran.err.contains("warning"), "{}", ran.err);
    place.ok(&format!("train --config tiny.toml --out whole --epochs 1e6 --max-steps {steps}"));
    assert!(place.checkpoint("long", steps) == place.checkpoint("whole", steps));
    let left = std::fs::read_dir(place.path("long/checkpoints")).unwrap();
    let left: Vec<_> = left.map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|n| n.to_string_lossy().starts_with("step-")), "{left:?}");
}

#[cfg(unix)]
#[test]
fn the_first_signal_saves_and_says_how_to_go_on() {
    let place = Place::new();
    for signal in ["TERM", "INT"] {
        let reached = place.steps("long").last().copied().unwrap_or(0);
        let child = long_run(&place, reached + 1);
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).unwrap();
        let newest = place.steps("long").last().copied().unwrap();
        let expected = format!("stopped after step {newest}; the same command continues");
        assert!(text.contains(&expected), "{text}");
    }
}

#[test]
fn only_one_process_trains_in_a_folder() {
    let place = Place::new();
    let mut child = long_run(&place, 1);
    let message = place.fails(
        1,
        "train --config tiny.toml --out long --max-steps 1000000 --epochs 1e6 --save-every 1",
    );
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(message.contains("another process is training in `long`"), "{message}");
}

#[test]
fn a_folder_tells_the_number_of_classes() {
    let place = Place::new();
    for class in ["cat", "dog"] {
        for i in 0..4 {
            place.picture(&format!("pets/{class}/{i}.png"), 40, 33, i);
            place.picture(&format!("plain/{class}{i}.png"), 33, 40, i);
        }
    }
    let line = "train --config tiny.toml --subset 1 --set model.channels=3 --global-batch 4";
    place.ok(&format!("{line} --data pets --out pets.run"));
    let config = String::from_utf8(place.bytes("pets.run/config.toml")).unwrap();
    assert!(config.contains("num_classes = 2"), "{config}");
    place.ok("sample --checkpoint pets.run --classes dog,0 --count 3 --out pets.png");
    let message = place.fails(2, "sample --checkpoint pets.run --classes dgo --out pets.png");
    assert!(message.contains("no class `dgo` (did you mean `dog`?)"), "{message}");

    place.ok(&format!("{line} --data plain --out plain.run"));
    let config = String::from_utf8(place.bytes("plain.run/config.toml")).unwrap();
    assert!(config.contains("num_classes = 0"), "{config}");
    place.ok("sample --checkpoint plain.run --count 3 --out plain.png");

    let line = format!("{line} --data pets --out other --set model.num_classes=3");
    let message = place.fails(2, &line);
    assert!(message.contains("sets model.num_classes = 3"), "{message}");
    assert!(message.contains("have 2 classes") && message.contains("set it to 2"), "{message}");
}

#[test]
fn progress_lines_count_up_without_a_terminal() {
    let place = Place::new();
    let mut child = place.command("train --config tiny.toml --max-steps 3").spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let lines: Vec<String> = lines.map(|l| l.unwrap()).collect();
    assert!(child.wait().unwrap().success());
    assert!(
        lines[0].starts_with("images: 80 ") && lines[1].starts_with("classes: 10,"),
        "{lines:?}"
    );
    assert!(lines[2].contains("80 images, 3 steps of 16 images"), "{lines:?}");
    assert!(lines.iter().any(|l| l.starts_with("step 3/3  loss ")), "{lines:?}");
    assert!(lines.iter().all(|l| !l.contains('\u{1b}')), "no control codes: {lines:?}");
}
