//! What the commands do.

use std::io::Write;

use clap::CommandFactory;

use crate::cli::{Cli, Command, OptionsArgs};
use crate::failure::{Failure, Outcome};
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

/// Does what the command line asks for; results go to `out`, progress to the terminal.
///
/// # Errors
/// Whatever the command failed on.
pub fn run(cli: &Cli, out: &mut (dyn Write + Send)) -> Outcome {
    // A wrong JIT_CPU is told before any work.
    jit_kernels::cpu::detect().map_err(Failure::usage)?;
    if let Some(threads) = threads(cli) {
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
    // From here on this is one of the threads that compute: handing each kernel over to them and
    // waiting for its end would cost a small model a fifth of its time.
    rayon::scope(|_| dispatch(cli, out))
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

fn dispatch(cli: &Cli, out: &mut (dyn Write + Send)) -> Outcome {
    match &cli.command {
        Command::Train(args) => train::run(args, out),
        Command::Ablate(args) => ablate::run(args, out),
        Command::Sample(args) => sample::run(args, out),
        Command::Eval(args) => eval::run(args, out),
        Command::Stats(args) => stats::run(args, out),
        Command::Data(args) => data::run(args, out),
        Command::Weights(args) => weights::run(args, out),
        Command::Convert(args) => convert::run(args, out),
        Command::Verify(args) => verify::run(args, out),
        Command::Bench(args) => bench::run(args, out),
        Command::Report(args) => report::run(args, out),
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
