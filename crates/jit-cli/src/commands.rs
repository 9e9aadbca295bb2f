//! What the commands do.

use std::io::Write;

use clap::CommandFactory;
use jit_core::threads::within;

use crate::cli::{Cli, Command, OptionsArgs, Workload};
use crate::failure::{Failure, Outcome};
use crate::launch::Launched;
use crate::ranks::Ranks;
use crate::{flags, options, presets};

pub mod ablate;
pub mod bench;
pub mod convert;
pub mod data;
pub mod doctor;
pub mod eval;
pub mod info;
pub mod report;
pub mod sample;
pub mod stats;
pub mod train;
pub mod verify;
pub mod weights;

/// Does what the command line asks for; results go to `out`, progress to the terminal. Of several processes
/// the first alone writes and prints.
///
/// # Errors
/// Whatever the command failed on.
pub fn run(cli: &Cli, launched: Option<Launched>, out: &mut (dyn Write + Send)) -> Outcome {
    // A wrong JIT_CPU is told before any work.
    jit_kernels::cpu::detect().map_err(Failure::usage)?;
    let ranks = match works_together(cli) {
        true => Ranks::join(launched)?,
        false => Ranks::alone(),
    };
    if let Some(threads) = threads(cli).or(ranks.threads).or(from_environment()?) {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    let computes = matches!(
        cli.command,
        Command::Train(_)
            | Command::Ablate(_)
            | Command::Sample(_)
            | Command::Eval(_)
            | Command::Stats(_)
            | Command::Verify(_)
            | Command::Bench(_)
    );
    if computes {
        let help = "run `jit doctor` to see what this build has";
        cli.global.device.check().map_err(|e| Failure::usage(e).help(help))?;
    }
    let mut nowhere = std::io::sink();
    let out = if ranks.is_first() { out } else { &mut nowhere };
    // From here on this is one of the threads that compute: handing each kernel over to them and
    // waiting for its end would cost a small model a fifth of its time.
    rayon::scope(|_| dispatch(cli, &ranks, out))
}

/// Whether several processes can share the command's work, or would disturb each other at it.
fn works_together(cli: &Cli) -> bool {
    !matches!(
        cli.command,
        Command::Info(_) | Command::Doctor | Command::Options(_) | Command::Completions { .. }
    )
}

/// Refuses several processes for a command whose work they cannot share.
fn by_itself(ranks: &Ranks, name: &str) -> Outcome {
    match ranks.comm().size() {
        1 => Ok(()),
        size => {
            let message = format!("`jit {name}` works with one process, not with {size}");
            Err(Failure::usage(message).help("start it without mpirun or srun"))
        }
    }
}

/// The threads of this process, where they are not all.
fn threads(cli: &Cli) -> Option<usize> {
    let asked = cli.global.threads.map(usize::from);
    match &cli.command {
        Command::Ablate(args) if args.jobs.get() > 1 => {
            let cores = || std::thread::available_parallelism().map_or(1, usize::from);
            Some((asked.unwrap_or_else(cores) / args.jobs).max(1))
        }
        _ => asked,
    }
}

/// The threads that the environment asks for, which the pool would take without a question.
fn from_environment() -> Outcome<Option<usize>> {
    const NAME: &str = "RAYON_NUM_THREADS";
    let asked = std::env::var(NAME).ok().and_then(|text| text.parse().ok()).filter(|&n| n > 0);
    if let Some(n) = asked {
        within(n).map_err(|why| Failure::usage(format!("{NAME}={n}: {why}")))?;
    }
    Ok(asked)
}

fn dispatch(cli: &Cli, ranks: &Ranks, out: &mut (dyn Write + Send)) -> Outcome {
    let alone = |name| by_itself(ranks, name);
    let device = cli.global.device;
    match &cli.command {
        Command::Train(args) => train::run(args, device, ranks.comm(), out),
        Command::Ablate(args) => alone("ablate").and_then(|()| ablate::run(args, device, out)),
        Command::Sample(args) => sample::run(args, device, ranks.comm(), out),
        Command::Eval(args) => eval::run(args, device, ranks.comm(), out),
        Command::Stats(args) => stats::run(args, ranks.comm(), out),
        Command::Data(args) => alone("data").and_then(|()| data::run(args, out)),
        Command::Weights(args) => alone("weights").and_then(|()| weights::run(args, out)),
        Command::Convert(args) => alone("convert").and_then(|()| convert::run(args, out)),
        Command::Verify(args) => verify::run(args, device, ranks.comm(), out),
        Command::Bench(args) => {
            if args.what != Workload::Reduce {
                alone("bench")?;
            }
            bench::run(args, device, ranks.comm(), out)
        }
        Command::Report(args) => alone("report").and_then(|()| report::run(args, out)),
        Command::Info(args) => info::run(args, out),
        Command::Doctor => doctor::run(out),
        Command::Options(args) => list_options(args, out),
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "jit", &mut &mut *out);
            Ok(())
        }
    }
}

fn list_options(args: &OptionsArgs, out: &mut dyn Write) -> Outcome {
    if args.presets {
        for name in presets::names() {
            writeln!(out, "{name}")?;
        }
        return Ok(());
    }
    let all = flags::run_options();
    let page = if args.markdown { options::markdown(&all) } else { options::text(&all) };
    Ok(out.write_all(page.as_bytes())?)
}
