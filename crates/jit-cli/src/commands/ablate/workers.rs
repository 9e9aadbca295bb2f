//! Further processes that work on the same study: `--jobs`. They are this very command, told to be
//! quiet and to stop when the process that started them does, however it ends.

use std::io::{Read, stdin};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::AblateArgs;
use crate::device::DeviceName;
use crate::failure::{Failure, Outcome};

/// Processes that help.
pub struct Workers {
    children: Vec<Child>,
}

impl Workers {
    /// Starts one process fewer than there are jobs: this one works, too.
    ///
    /// # Errors
    /// When the system refuses a process.
    pub fn start(args: &AblateArgs, device: DeviceName, dir: &Path) -> Outcome<Self> {
        let program = std::env::current_exe()?;
        let threads = rayon::current_num_threads().to_string();
        let mut workers = Self { children: Vec::new() };
        for _ in 1..args.jobs.get() {
            let mut command = Command::new(&program);
            command.args(["ablate", "--worker", "--threads", &threads, "--suite", &args.suite]);
            command.args(["--device", &device.to_string()]).arg("--out").arg(dir);
            command.args(args.data.iter().flat_map(|data| ["--data", data]));
            command.args(args.set.iter().flat_map(|assignment| ["--set", assignment]));
            command.args(args.only.iter().flat_map(|name| ["--only", name]));
            if let Some(seeds) = args.seeds {
                command.args(["--seeds", &seeds.to_string()]);
            }
            command.stdin(Stdio::piped()).stdout(Stdio::null());
            workers.children.push(command.spawn()?);
        }
        Ok(workers)
    }

    /// Lets them go and waits for their end.
    ///
    /// # Errors
    /// When one failed; it has said why on the standard error that it shares with this process.
    pub fn finish(mut self) -> Outcome {
        let mut failed = 0;
        for child in &mut self.children {
            drop(child.stdin.take());
        }
        for child in &mut self.children {
            failed += usize::from(!child.wait()?.success());
        }
        match failed {
            0 => Ok(()),
            n => Err(Failure::new(format!("{n} of the processes that worked on the study failed"))),
        }
    }
}

/// Sets `stop` once the process at the other end of standard input is gone.
///
/// # Errors
/// When the system refuses a thread.
pub fn stop_with_parent(stop: Arc<AtomicBool>) -> Outcome {
    let wait = move || {
        let mut rest = Vec::new();
        let _ended_either_way = stdin().read_to_end(&mut rest);
        stop.store(true, Ordering::Relaxed);
    };
    std::thread::Builder::new().name("parent".into()).spawn(wait)?;
    Ok(())
}
