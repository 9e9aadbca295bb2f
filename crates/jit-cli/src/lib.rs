//! The command line of JiT: options, commands and what they print. The only crate that prints.
//!
//! [`cli`] says what can be asked for, [`commands`] does it. Options are data ([`options`]), laid
//! down in layers ([`layers`]) of which flags ([`flags`]) are the last.

use std::ffi::OsString;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;

use clap::Parser;
use jit_core::text::{self, Plain};

pub mod classes;
pub mod cli;
pub mod commands;
pub mod cores;
pub mod device;
mod drawing;
pub mod failure;
pub mod flags;
mod fusion;
pub mod interrupt;
pub mod launch;
pub mod layers;
#[cfg(feature = "mpi")]
pub mod mpi;
pub mod options;
mod places;
pub mod presets;
pub mod ranks;
pub mod shape;
pub mod source;
mod study_watch;
pub mod terminal;
pub mod verify;

/// Runs the command line `args`, the program's name first, and tells how it went: 0 for success,
/// 1 for failure, 2 for a wrong command line or configuration.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let launched = launch::Launched::from_env();
    let cli = match cli::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(message) => {
            // One of several processes says what all have to say.
            if launched.is_none_or(|launched| launched.rank == 0) {
                // Help and version are such messages too; a closed pipe is no reason to complain.
                let text = message.render().to_string();
                let _closed = match text == text::lines(&text) {
                    true => message.print(),
                    false => writeln!(Plain(io::stderr()), "{}", text.trim_end()),
                };
            }
            return ExitCode::from(u8::try_from(message.exit_code()).unwrap_or(2));
        }
    };
    #[cfg(all(unix, feature = "wgpu"))]
    device::settle_session(match cli.command {
        // It looks at every card.
        cli::Command::Doctor => device::DeviceName::Wgpu(None),
        _ => cli.global.device,
    });
    // What is told goes elsewhere while a result goes to standard output.
    let streams = places::streams(&cli);
    let streamed = !matches!(streams, Ok(false));
    let mut out: Plain<Box<dyn Write + Send>> = Plain(match streamed {
        false => Box::new(io::stdout()),
        true => Box::new(io::stderr()),
    });
    // A process that panics must not leave the others waiting.
    let ran = catch_unwind(AssertUnwindSafe(|| {
        streams?;
        commands::run(&cli, launched, &mut out).and_then(|()| Ok(out.flush()?))
    }));
    let result = match ran {
        Ok(result) => result,
        Err(panic) => {
            if let Some(name) = ranks::name() {
                terminal::complain(&format!("the above was {name}"));
                ranks::abort(PANICKED);
            }
            resume_unwind(panic)
        }
    };
    match result {
        Ok(()) => {
            ranks::leave();
            ExitCode::SUCCESS
        }
        // Whoever read our output has seen enough.
        Err(failure) if failure.is_broken_pipe(streamed) => {
            ranks::abort(0);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let status = failure.status() as u8;
            ranks::fail(&failure.to_string(), status);
            ExitCode::from(status)
        }
    }
}

/// Exit code of a process that panicked.
const PANICKED: u8 = 101;
