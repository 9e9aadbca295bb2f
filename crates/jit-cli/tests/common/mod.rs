//! What the end-to-end tests share: the binary, and a run that takes a second.

// Each test file is a crate of its own and uses its part.
#![allow(dead_code)]
// Lints know test functions, not their helpers.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use jit_model::weights::File;
use serde_json::Value;

/// A tiny network on 80 digits.
pub const TINY: &str = r#"
[model]
image_size = 28
channels = 1
patch_size = 14
hidden_size = 16
depth = 2
num_heads = 2
bottleneck_dim = 8
in_context_len = 2
in_context_start = 1
projection_dropout = 0.1

[data]
path = "digits"
subset = 0.01
flip = false

[optim]
lr = 1e-3
warmup_epochs = 1.0
ema_decay = [0.9, 0.99]

[train]
seed = 3
epochs = 100
max_steps = 6
global_batch = 16
save_every = 2
sample_count = 10

[sample]
steps = 3
"#;

/// The largest difference between two runs' checkpoints of `step`.
pub fn distance(place: &Place, [a, b]: [&str; 2], step: u64) -> f32 {
    let mut most = 0f32;
    for file in ["model", "ema-0.9", "ema-0.99", "optimizer"] {
        let open = |run: &str| {
            let name = format!("{run}/checkpoints/step-{step:08}/{file}.safetensors");
            File::open(&place.path(&name)).unwrap()
        };
        let (a, b) = (open(a), open(b));
        assert_eq!(a.names(), b.names());
        for name in a.names() {
            let [a, b] = [&a, &b].map(|file| file.tensor(&name).unwrap().into_f32());
            most = a.iter().zip(&b).fold(most, |most, (a, b)| most.max((a - b).abs()));
        }
    }
    most
}

/// The lines of a run's journal.
pub fn journal(place: &Place, run: &str) -> Vec<Value> {
    let text = String::from_utf8(place.bytes(&format!("{run}/metrics.jsonl"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A folder of its own with the tiny configuration in it.
pub struct Place {
    dir: tempfile::TempDir,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tiny.toml"), TINY).unwrap();
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let path = self.path(name);
        std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// `jit` with the words of `line`, in this folder.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jit"));
        command.current_dir(self.dir.path()).args(line.split_whitespace());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, line: &str) -> Ran {
        Self::end(self.command(line))
    }

    /// Runs a command whose graphics card may use so many GiB.
    pub fn limited(&self, line: &str, gib: &str) -> Ran {
        let mut command = self.command(line);
        command.env("JIT_DEVICE_MEMORY", gib);
        Self::end(command)
    }

    fn end(mut command: Command) -> Ran {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: status.code(), out: text(stdout), err: text(stderr) }
    }

    /// Runs a command that must succeed.
    pub fn ok(&self, line: &str) -> Ran {
        let ran = self.run(line);
        assert_eq!(ran.code, Some(0), "jit {line}\n{}\n{}", ran.out, ran.err);
        ran
    }

    /// Runs a command that must fail with `code`, and returns what it complains about.
    pub fn fails(&self, code: i32, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!(ran.code, Some(code), "jit {line}\n{}\n{}", ran.out, ran.err);
        assert!(ran.err.lines().any(|l| l.starts_with("error: ")), "{}", ran.err);
        ran.err
    }

    /// The weights, averages and moments after `step`.
    pub fn checkpoint(&self, run: &str, step: u64) -> Vec<Vec<u8>> {
        let files = ["model", "ema-0.9", "ema-0.99", "optimizer"];
        let name = |file| format!("{run}/checkpoints/step-{step:08}/{file}.safetensors");
        files.map(|file| self.bytes(&name(file))).into()
    }

    /// The steps of the finished checkpoints of a run.
    pub fn steps(&self, run: &str) -> Vec<u64> {
        let found = jit_train::checkpoint::list(&self.path(run).join("checkpoints")).unwrap();
        found.into_iter().map(|(step, _)| step).collect()
    }

    /// Writes a picture whose pixels depend on `seed`.
    pub fn picture(&self, name: &str, width: usize, height: usize, seed: usize) {
        let pixel = |i: usize| (i * 7 + seed * 31 + i / 3 * seed) as u8;
        let pixels: Vec<u8> = (0..width * height * 3).map(pixel).collect();
        jit_data::grid::save_png(&self.path(name), &pixels, width, height, 3).unwrap();
    }
}

/// A golden file below `crates/`.
pub fn golden(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path).display().to_string()
}
