//! Names that a terminal would obey, inputs that never end, numbers that nobody means.

#![cfg(unix)]
// Lints know test functions, not their helpers.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Place, Ran};

/// A class that would turn the terminal red, set its title, begin a line of its own, and read backwards.
const NAME: &str = "\u{1b}[31mred\u{1b}]0;mine\u{7}\nhelp: all is well\r\u{202e}gnp";

/// Nothing that acts is left but line ends and tabs.
fn is_plain(ran: &Ran, line: &str) {
    for text in [&ran.out, &ran.err] {
        let acts = |c: char| jit_core::text::acts(c) && c != '\n' && c != '\t';
        assert!(!text.contains(acts), "{line}: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("help: all is well")), "{line}: {text}");
    }
}

#[test]
fn names_from_data_are_text() {
    let place = Place::new();
    for class in [NAME, "plain"] {
        place.picture(&format!("photos/{class}/1.png"), 28, 28, 1);
        place.picture(&format!("photos/{class}/2.png"), 28, 28, 2);
    }
    // A tar archive keeps such names as they are.
    let mut tar = tar::Builder::new(fs::File::create(place.path("photos.tar")).unwrap());
    tar.append_dir_all("", place.path("photos")).unwrap();
    tar.finish().unwrap();
    place.ok("data pack photos photos.jitpack --size 28");
    for data in ["photos", "photos.tar", "photos.jitpack"] {
        let line = format!("data info {data}");
        let ran = place.ok(&line);
        is_plain(&ran, &line);
        assert!(ran.out.contains("\\u001b[31mred"), "{}", ran.out);
        assert!(ran.out.contains("\\nhelp: all is well\\r\\u202egnp"), "{}", ran.out);
    }
    // Damage is told by name, in errors and in warnings.
    fs::write(place.path(&format!("photos/{NAME}/2.png")), "no picture").unwrap();
    for line in ["data check photos", "data pack photos b.jitpack --skip-damaged"] {
        let ran = place.run(line);
        is_plain(&ran, line);
        assert!(ran.err.contains("\\nhelp: all is well"), "{line}: {}", ran.err);
    }
    let line = "data check photos";
    let message = place.fails(1, line);
    assert!(message.contains("`jit data pack` and `jit train` leave them out"), "{message}");

    // A trained network knows the names, and a page of the run tells them.
    let image = "--set model.channels=3 --skip-damaged --global-batch 2";
    place.ok(&format!("train --config tiny.toml --data photos --subset 1 --out run {image}"));
    for line in [
        "sample --checkpoint run --classes plian",
        "sample --checkpoint run --classes 7",
        "report run --markdown page.md --csv tables",
        "convert run all.safetensors",
        "sample --checkpoint all.safetensors --classes red",
    ] {
        is_plain(&place.run(line), line);
    }
    let page = String::from_utf8(place.bytes("page.md")).unwrap();
    assert!(!page.contains(|c| jit_core::text::acts(c) && c != '\n'), "{page}");
}

#[test]
fn names_of_files_are_text() {
    let place = Place::new();
    let mut command = place.command("train --data");
    let ran = command.arg(NAME).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let ran = Ran { code: ran.status.code(), out: text(&ran.stdout), err: text(&ran.stderr) };
    assert_eq!(ran.code, Some(1));
    is_plain(&ran, "train --data NAME");
    assert!(ran.err.contains("\\u001b[31mred"), "{}", ran.err);
    // Keys of a configuration, quoted in messages and in the excerpts of the TOML reader.
    for toml in ["\"\\u001b[31mred\" = 1\n", "a = \"\u{202e}\n", "[train]\nseed = \"\\u009b2J\"\n"]
    {
        fs::write(place.path("mine.toml"), toml).unwrap();
        let ran = place.run("train --config mine.toml");
        assert_eq!(ran.code, Some(2), "{}", ran.err);
        is_plain(&ran, toml);
    }
    // What the parser itself quotes.
    let output = place.command("sample --checkpoint run --out").arg("\u{1b}[31m.jpg").output();
    let message = text(&output.unwrap().stderr);
    assert!(message.contains("\\u001b[31m.png") && !message.contains('\u{1b}'), "{message:?}");
}

#[test]
fn what_never_ends_is_refused_by_name() {
    let place = Place::new();
    place.ok("train --config tiny.toml --out run --max-steps 1");
    assert!(Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
    fs::copy(place.path("tiny.toml"), place.path("kept.toml")).unwrap();
    symlink("/dev/zero", place.path("zero")).unwrap();
    place.picture("photos/1.png", 28, 28, 1);
    let lines = [
        "train --config {}",
        "train --data {} --set model.channels=3",
        "train --data photos --labels {} --config tiny.toml",
        "train --data photos --class-names {} --config tiny.toml",
        "data info {}",
        "data check {}",
        "sample --checkpoint {}",
        "sample --checkpoint run --fuse {}",
        "sample --checkpoint run --config {}",
        "convert {} x.safetensors",
        "info --checkpoint {}",
        "info --config {}",
        "eval {} --reference digits",
        "eval photos --reference {} --extractor digits",
        "stats {} x.npz --extractor digits",
        "verify {}",
        "ablate --suite {}",
        "report {}",
    ];
    for line in lines {
        for name in ["pipe", "zero"] {
            let line = line.replace("{}", name);
            let mut child = place.command(&line).spawn().unwrap();
            let started = Instant::now();
            while child.try_wait().unwrap().is_none() {
                if started.elapsed() > Duration::from_secs(60) {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    unreachable!("jit {line} does not end");
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let output = child.wait_with_output().unwrap();
            let message = String::from_utf8(output.stderr).unwrap();
            assert!(!output.status.success(), "jit {line}");
            assert!(message.contains(name), "jit {line}: {message}");
        }
    }
    // Files that are too long to be what they are given for.
    fs::write(place.path("long.toml"), "# long\n".repeat(1 << 20)).unwrap();
    for line in ["train --config long.toml", "ablate --suite long.toml"] {
        let message = place.fails(2, line);
        assert!(message.contains("`long.toml`: it has more than 4 MiB"), "{message}");
    }
}

#[test]
fn numbers_that_nobody_means_are_refused() {
    let place = Place::new();
    for line in [
        "doctor --threads 100000",
        "train --config tiny.toml --threads 100000",
        "train --config tiny.toml --set data.workers=100000",
        "ablate --suite smoke --jobs 100000",
        "data check photos --workers 100000",
    ] {
        let ran = place.run(line);
        assert!(matches!(ran.code, Some(1 | 2)), "jit {line}\n{}", ran.err);
        let expected = "there; expected at most ";
        assert!(ran.err.contains(expected) && ran.err.contains("processor"), "{}", ran.err);
    }
    let mut doctor = place.command("doctor");
    let output = doctor.env("RAYON_NUM_THREADS", "100000").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(place.ok("doctor --threads 3").out.contains("threads    3 of "));
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_that_does_not_fit_is_refused_before_it_starts() {
    let place = Place::new();
    place.picture("photos/a/1.png", 28, 28, 1);
    let message = place.fails(2, "train --preset JiT-G/16 --data photos --out run");
    for part in ["a micro-batch of 1024 images needs 1005.", "and this process can have"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(message.contains("train.batch_size=") || message.contains("Not even one image fits"));
    assert!(!place.path("run").exists() && !message.contains("checked"), "{message}");
}

/// Sends `signal` once the run has begun.
fn signalled(mut command: Command, place: &Place, signal: &str) -> Ran {
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    let lines = || {
        let journal = fs::read(place.path("run/metrics.jsonl")).unwrap_or_default();
        journal.iter().filter(|&&byte| byte == b'\n').count()
    };
    while lines() < 2 {
        assert!(started.elapsed() < Duration::from_secs(120), "the run does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    let kill = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    if signal == "-HUP" {
        // The system and the shell may both tell of a terminal's end.
        let _ended_already = Command::new("kill").args([signal, &child.id().to_string()]).output();
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[cfg(target_os = "linux")]
#[test]
fn a_closed_terminal_ends_a_run_with_a_checkpoint() {
    let line = "train --config tiny.toml --out run --max-steps 0 --epochs 1e6 --save-every 0";
    let place = Place::new();
    let ran = signalled(place.command(line), &place, "-HUP");
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("the same command continues"), "{}", ran.out);
    assert_eq!(place.steps("run").len(), 1);
}
