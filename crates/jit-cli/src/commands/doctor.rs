//! `jit doctor`: what this machine and this build can do, and what to do about what is missing.

use std::fs;
use std::io::Write;

use jit_kernels::cpu::{self, Isa, Level};

use crate::device;
use crate::failure::Outcome;

/// Prints the report.
///
/// # Errors
/// When the output cannot be written, or `JIT_CPU` is wrong.
pub fn run(out: &mut dyn Write) -> Outcome {
    let level = cpu::detect()?;
    let threads = rayon::current_num_threads();
    let mut advice = Vec::new();

    writeln!(out, "build      jit {} for {}", env!("CARGO_PKG_VERSION"), target())?;
    writeln!(out, "backends   {}", device::COMPILED.join(", "))?;
    writeln!(out, "processes  {}", processes())?;
    if cfg!(debug_assertions) {
        advice.push("this is a debug build: use `cargo build --release` for full speed".into());
    }
    if let Some(model) = proc_value("/proc/cpuinfo", "model name") {
        writeln!(out, "processor  {model}")?;
    }
    let all: Vec<String> = Level::all().iter().map(ToString::to_string).collect();
    writeln!(out, "kernels    {level} (of {})", all.join(", "))?;
    if Some(&level) != Level::all().last() {
        advice.push(format!("{} asks for {level} kernels: unset it for the fastest", cpu::ENV));
    }
    if level.isa() == Isa::Portable {
        advice.push("no vector instructions that the kernels know: they run at a fraction".into());
    }
    cards(out)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    writeln!(out, "threads    {threads} of {cores}")?;
    if threads > cores {
        advice.push(format!("--threads {threads} is more than there are cores: use {cores}"));
    }
    memory(out, &mut advice)?;
    huge_pages(out, &mut advice)?;
    for line in advice {
        writeln!(out, "advice     {line}")?;
    }
    Ok(())
}

/// With what several processes can work together.
fn processes() -> String {
    #[cfg(feature = "mpi")]
    let can = format!("many with {}", crate::mpi::library());
    #[cfg(not(feature = "mpi"))]
    let can = "one (for several: `cargo build --release --features mpi`)".to_string();
    can
}

/// What the graphics cards are that this build can use.
#[cfg(feature = "gpu")]
fn cards(out: &mut dyn Write) -> Outcome {
    use jit_train::config::PrecisionChoice;

    use crate::device::{DeviceName, Opened};

    for name in [DeviceName::Wgpu(None), DeviceName::Cuda(None)] {
        if name.check().is_ok() {
            let found = match name.open(PrecisionChoice::Auto) {
                Ok(Opened::Cpu(_)) => continue,
                #[cfg(feature = "wgpu")]
                Ok(Opened::Wgpu(card)) => card.describe(),
                #[cfg(any(feature = "cuda", feature = "cuda-emulator"))]
                Ok(Opened::Cuda(card)) => card.describe(),
                Err(error) => format!("none: {error}"),
            };
            writeln!(out, "{:<11}{found}", name.to_string())?;
        }
    }
    Ok(())
}

#[cfg(not(feature = "gpu"))]
fn cards(_out: &mut dyn Write) -> Outcome {
    Ok(())
}

fn target() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

fn memory(out: &mut dyn Write, advice: &mut Vec<String>) -> Outcome {
    let kib = |key| {
        let value = proc_value("/proc/meminfo", key)?;
        value.strip_suffix(" kB").and_then(|v| v.trim().parse::<u64>().ok())
    };
    match (kib("MemTotal"), kib("MemAvailable")) {
        (Some(total), Some(free)) => {
            let gib = |kib: u64| kib as f64 / f64::from(1 << 20);
            writeln!(out, "memory     {:.1} GiB, {:.1} GiB free", gib(total), gib(free))?;
            if free < 2 << 20 {
                advice.push(
                    "little memory is free: lower --batch-size, or --checkpoint-blocks".into(),
                );
            }
        }
        _ => writeln!(out, "memory     unknown on this system")?,
    }
    Ok(())
}

/// Huge pages spare the translation buffers of the processor when tensors are large.
fn huge_pages(out: &mut dyn Write, advice: &mut Vec<String>) -> Outcome {
    const SETTING: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    let Ok(text) = fs::read_to_string(SETTING) else { return Ok(()) };
    let chosen = text.split(['[', ']']).nth(1).unwrap_or("unknown");
    writeln!(out, "huge pages {chosen}")?;
    if chosen == "never" {
        advice.push(format!(
            "transparent huge pages are off: `echo madvise | sudo tee {SETTING}` speeds up large models"
        ));
    }
    Ok(())
}

/// The value of the first line `key : value` of a file under `/proc`.
fn proc_value(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let found = lines.into_iter().find(|(name, _)| name.trim() == key);
    found.map(|(_, value)| value.trim().to_string())
}
