//! Several processes under mpirun: one run, one set of images, one end.

#![cfg(feature = "mpi")]
// Lints know test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

mod common;
use common::{Place, Ran, distance, golden, journal};

/// Weights, averages and moments of a few steps that differ in the order of f32 additions alone: two units
/// in the last place of a weight of 1.
const TOLERANCE: f32 = 2.4e-7;

/// A job dies within this time of one of its processes.
const MINUTE: Duration = Duration::from_secs(60);

/// `mpirun` with these words, as root and on few cores, too.
fn mpirun(place: &Place, words: &[&str]) -> Command {
    let mut command = Command::new("mpirun");
    command.current_dir(place.path("")).args(words);
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.env("OMPI_MCA_rmaps_base_oversubscribe", "1");
    // Seconds until SIGTERM, and from there to SIGKILL: enough for a checkpoint on a busy machine.
    command.env("OMPI_MCA_odls_base_sigkill_timeout", "3");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// `jit` with the words of `line`, `size` times.
fn start(place: &Place, size: usize, line: &str) -> Command {
    let size = size.to_string();
    let mut words = vec!["-n", &size, env!("CARGO_BIN_EXE_jit")];
    words.extend(line.split_whitespace());
    mpirun(place, &words)
}

fn finish(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn ok(place: &Place, size: usize, line: &str) -> Ran {
    let ran = finish(start(place, size, line).spawn().unwrap());
    assert_eq!(ran.code, Some(0), "{size} × jit {line}\n{}\n{}", ran.out, ran.err);
    ran
}

fn fails(place: &Place, size: usize, line: &str) -> String {
    let ran = finish(start(place, size, line).spawn().unwrap());
    assert_ne!(ran.code, Some(0), "{size} × jit {line}\n{}\n{}", ran.out, ran.err);
    ran.err
}

const TRAIN: &str = "train --config tiny.toml --set train.precision=f32";

#[test]
fn two_and_four_processes_end_as_one_does() {
    let place = Place::new();
    place.ok(&format!("{TRAIN} --out one"));
    for size in [2, 4] {
        for run in ["first", "again"] {
            let ran = ok(&place, size, &format!("{TRAIN} --out {run}{size}"));
            let said = ran.out.matches("finished after 6 steps").count();
            assert_eq!(said, 1, "process 0 alone speaks: {}", ran.out);
            assert_eq!(ran.err.matches("step 6/6").count(), 1, "{}", ran.err);
        }
        let [first, again] = ["first", "again"].map(|run| format!("{run}{size}"));
        assert!(place.checkpoint(&first, 6) == place.checkpoint(&again, 6), "the same bits again");
        let differs = distance(&place, ["one", &first], 6);
        assert!(differs < TOLERANCE, "{size} processes differ by {differs}");
        assert_eq!(place.bytes("one/config.toml"), place.bytes(&format!("{first}/config.toml")));
        for (one, many) in journal(&place, "one").iter().zip(journal(&place, &first)) {
            for key in ["loss", "grad_norm", "lr", "epoch"] {
                let [a, b] = [one, &many].map(|line| line[key].as_f64().unwrap());
                assert!((a - b).abs() <= 1e-6 * a.abs(), "{key}: {a} and {b}");
            }
        }
    }
}

#[test]
fn uneven_shares_micro_batches_and_a_partner_change_nothing() {
    let place = Place::new();
    let line = format!("{TRAIN} --global-batch 13 --batch-size 2 --set partner.mlp=bottleneck");
    place.ok(&format!("{line} --out one"));
    ok(&place, 3, &format!("{line} --out three"));
    assert!(distance(&place, ["one", "three"], 6) < TOLERANCE);
    ok(&place, 2, &format!("{line} --out two --checkpoint-blocks"));
    assert!(distance(&place, ["one", "two"], 6) < TOLERANCE);
}

#[test]
fn any_number_of_processes_continues_any_others_run() {
    let place = Place::new();
    place.ok(&format!("{TRAIN} --out one"));
    ok(&place, 4, &format!("{TRAIN} --out many --max-steps 2"));
    place.ok(&format!("{TRAIN} --out many --max-steps 4"));
    let ran = ok(&place, 2, &format!("{TRAIN} --out many"));
    assert!(ran.err.contains("going on after step 4"), "{}", ran.err);
    assert!(distance(&place, ["one", "many"], 6) < TOLERANCE);
    assert_eq!(journal(&place, "many").len(), 6);
}

#[test]
fn images_and_metrics_do_not_depend_on_the_number_of_processes() {
    let place = Place::new();
    place.ok(&format!("{TRAIN} --out run --set train.eval_every=6 --set train.eval_count=30"));
    let line = format!("{TRAIN} --out runs --set train.eval_every=6 --set train.eval_count=30");
    ok(&place, 2, &line);
    assert!(
        String::from_utf8(place.bytes("runs/evals.jsonl")).unwrap().contains("\"generated\":30")
    );

    // 50 images, 7 at a time: processes run out at different moments.
    let sample = |to: &str| {
        format!(
            "sample --checkpoint run --count 50 --batch-size 7 --npz {to}.npz --folder {to} \
             --out {to}.png --trajectory {to}-steps.png"
        )
    };
    let judge = |to: &str| {
        format!("eval --checkpoint run --count 130 --kid-subset 100 --folder {to}-judged --json")
    };
    let judge_folder = "eval one-judged --reference digits --kid-subset 100 --json";
    place.ok(&sample("one"));
    let metrics = place.ok(&judge("one")).out;
    let of_folder = place.ok(judge_folder).out;
    for (size, to) in [(2, "two"), (4, "four")] {
        ok(&place, size, &sample(to));
        for file in [".npz", ".png", "-steps.png", "/000000.png", "/000049.png"] {
            let [one, many] = ["one", to].map(|to| place.bytes(&format!("{to}{file}")));
            assert!(one == many, "{to}{file}");
        }
        assert_eq!(std::fs::read_dir(place.path(to)).unwrap().count(), 50);
        assert_eq!(ok(&place, size, &judge(to)).out, metrics);
        assert_eq!(
            place.bytes("one-judged/000129.png"),
            place.bytes(&format!("{to}-judged/000129.png"))
        );
        assert_eq!(ok(&place, size, judge_folder).out, of_folder);
    }
}

#[test]
fn golden_cases_hold_for_two_and_four_processes() {
    let place = Place::new();
    let file = golden("jit-train/tests/golden/training.safetensors");
    for size in [2, 4] {
        let ran = ok(&place, size, &format!("verify {file}"));
        assert!(ran.out.contains("final weights") && !ran.out.contains("FAIL"), "{}", ran.out);
    }
    let message = fails(&place, 9, &format!("verify {file}"));
    assert!(message.contains("8 images a step: too few for 9 processes"), "{message}");
}

/// Starts a run that would take hours and waits until it has saved step `at_least`.
fn long_run(place: &Place, size: usize, at_least: u64) -> Child {
    let line = format!("{TRAIN} --out long --max-steps 1000000 --epochs 1e6 --save-every 5");
    let child = start(place, size, &line).spawn().unwrap();
    let started = Instant::now();
    while place.steps("long").last().is_none_or(|&step| step < at_least) {
        assert!(started.elapsed() < 2 * MINUTE, "no checkpoint of step {at_least}");
        std::thread::sleep(Duration::from_millis(3));
    }
    child
}

/// The process of this rank in this folder.
fn find(place: &Place, rank: usize) -> Option<u32> {
    let rank = format!("OMPI_COMM_WORLD_RANK={rank}");
    let folder = place.path("").canonicalize().unwrap();
    std::fs::read_dir("/proc").unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        let id = path.file_name()?.to_str()?.parse().ok()?;
        let here = std::fs::read_link(path.join("cwd")).ok()? == folder;
        let variables = std::fs::read(path.join("environ")).ok()?;
        let named = variables.split(|&byte| byte == 0).any(|variable| variable == rank.as_bytes());
        (here && named).then_some(id)
    })
}

fn signal(name: &str, process: u32) {
    let id = process.to_string();
    assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
}

#[test]
fn a_process_that_is_killed_ends_the_job_which_goes_on_from_its_checkpoint() {
    let place = Place::new();
    for rank in [1, 0] {
        let before = place.steps("long").last().copied().unwrap_or(0);
        let child = long_run(&place, 2, before + 10);
        // In the middle of anything.
        std::thread::sleep(Duration::from_millis(17 + 20 * rank as u64));
        let killed = Instant::now();
        signal("KILL", find(&place, rank).unwrap());
        let ran = finish(child);
        assert!(killed.elapsed() < MINUTE, "{:?}", killed.elapsed());
        assert_ne!(ran.code, Some(0), "{}", ran.err);
        let names_it = ran.err.contains(&format!("process rank {rank} with PID"));
        assert!(names_it && ran.err.contains("signal 9"), "{}", ran.err);
    }
    let reached = *place.steps("long").last().unwrap();
    let line = format!("--epochs 1e6 --max-steps {}", reached + 2);
    let ran = ok(&place, 2, &format!("{TRAIN} --out long --save-every 5 {line}"));
    assert!(ran.err.contains(&format!("going on after step {reached}")), "{}", ran.err);
    ok(&place, 2, &format!("{TRAIN} --out whole {line}"));
    assert!(place.checkpoint("long", reached + 2) == place.checkpoint("whole", reached + 2));
}

#[test]
fn a_signal_stops_all_processes_at_one_step() {
    let place = Place::new();
    for name in ["TERM", "INT", "USR1"] {
        let before = place.steps("long").last().copied().unwrap_or(0);
        let child = long_run(&place, 2, before + 5);
        signal(name, child.id());
        let ran = finish(child);
        let newest = *place.steps("long").last().unwrap();
        let expected = format!("stopped after step {newest}; the same command continues");
        assert_eq!(ran.out.matches(&expected).count(), 1, "{name}: {}\n{}", ran.out, ran.err);
        // Ended by a signal or not, no process complained.
        assert!(!ran.err.contains("error"), "{name}: {}", ran.err);
    }
}

#[test]
fn an_error_of_one_process_ends_the_job_and_names_it() {
    let place = Place::new();
    for data in ["good", "bad"] {
        for i in 0..8 {
            place.picture(&format!("{data}/{i}.png"), 28, 28, i);
        }
    }
    std::fs::write(place.path("bad/notes.tiff"), "of a form that is not read").unwrap();
    let jit = env!("CARGO_BIN_EXE_jit");
    let line =
        format!("{TRAIN} --subset 1 --set model.channels=3 --global-batch 4 --out run --data");
    let words = |data| ["-n", "1", jit].into_iter().chain(line.split_whitespace()).chain([data]);
    let words: Vec<&str> = words("good").chain([":"]).chain(words("bad")).collect();
    let started = Instant::now();
    let ran = finish(mpirun(&place, &words).spawn().unwrap());
    assert!(started.elapsed() < MINUTE);
    assert_ne!(ran.code, Some(0));
    let line = ran.err.lines().find(|line| line.starts_with("process 1 on ")).unwrap_or(&ran.err);
    assert!(line.contains(": error: ") && ran.err.contains("notes.tiff"), "{}", ran.err);
}

#[test]
fn processes_check_their_shares_of_the_pictures_and_conclude_as_one_does() {
    let place = Place::new();
    for i in 0..12 {
        place.picture(&format!("photos/{i:02}.png"), 28, 28, i);
    }
    let line =
        format!("{TRAIN} --subset 1 --set model.channels=3 --global-batch 4 --data photos --out");
    // A picture in the share of each process.
    std::fs::write(place.path("photos/10.png"), "torn").unwrap();
    let message = fails(&place, 2, &format!("{line} refused"));
    assert_eq!(message.matches("`10.png`: ").count(), 1, "told once: {message}");
    std::fs::write(place.path("photos/03.png"), "torn").unwrap();
    let message = fails(&place, 2, &format!("{line} refused"));
    let one = place.fails(1, &format!("{line} refused"));
    let list = |message: &str| {
        let lines = message.lines().skip_while(|line| !line.contains("error: 2 files in `photos`"));
        lines.skip(1).take(3).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(list(&one)[0].contains("`03.png`: ") && list(&one)[1].contains("`10.png`: "), "{one}");
    assert_eq!(list(&message), list(&one), "{message}\n{one}");
    assert_eq!(message.matches("error: 2 files").count(), 1, "told once: {message}");
    assert!(!place.path("refused").exists());

    let line = format!("{line} skipped");
    let ran = ok(&place, 2, &format!("{line}2 --skip-damaged"));
    assert!(ran.err.contains("image 6/6  checked by process 0 of 2"), "{}", ran.err);
    for name in ["03.png", "10.png"] {
        let warning = format!("warning: left out `{name}`");
        assert_eq!(ran.err.matches(&warning).count(), 1, "{}", ran.err);
    }
    place.ok(&format!("{line}1 --skip-damaged"));
    assert!(distance(&place, ["skipped1", "skipped2"], 6) < TOLERANCE);
    assert_eq!(place.bytes("skipped1/manifest.json"), place.bytes("skipped2/manifest.json"));

    // Shares of different data sets would not add up.
    place.picture("others/00.png", 28, 28, 0);
    let jit = env!("CARGO_BIN_EXE_jit");
    let words = ["-n", "1", jit].into_iter().chain(line.split_whitespace());
    let mut words: Vec<&str> = words.clone().chain([":"]).chain(words).collect();
    let last = words.iter().rposition(|&word| word == "photos").unwrap();
    words[last] = "others";
    let ran = finish(mpirun(&place, &words).spawn().unwrap());
    assert_ne!(ran.code, Some(0));
    assert!(ran.err.contains("process 1 has another fingerprint of the images"), "{}", ran.err);
}

#[test]
fn what_all_processes_fail_on_is_told_once() {
    let place = Place::new();
    let message = fails(&place, 3, &format!("{TRAIN} --global-batch 2"));
    assert!(message.contains("3 processes cannot share 2 images a step"), "{message}");
    assert_eq!(message.matches("error: train.global_batch").count(), 1, "{message}");
    let message = fails(&place, 2, "train --confg tiny.toml");
    assert_eq!(message.matches("unexpected argument '--confg'").count(), 1, "{message}");
    let message = fails(&place, 2, "ablate --suite smoke");
    assert!(message.contains("`jit ablate` works with one process, not with 2"), "{message}");
    assert!(!Path::new(&place.path("studies")).exists());
}
