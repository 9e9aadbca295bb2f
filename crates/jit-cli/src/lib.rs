//! The command line of JiT: options, commands and what they print. The only crate that prints.
//!
//! [`cli`] says what can be asked for, [`commands`] does it. Options are data ([`options`]), laid
//! down in layers ([`layers`]) of which flags ([`flags`]) are the last.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

pub mod classes;
pub mod cli;
pub mod commands;
pub mod device;
mod drawing;
pub mod failure;
pub mod flags;
mod fusion;
pub mod interrupt;
pub mod layers;
pub mod options;
pub mod presets;
pub mod shape;
pub mod source;
mod study_watch;
pub mod terminal;
pub mod verify;

/// Runs the command line `args`, the program's name first, and tells how it went: 0 for success,
/// 1 for failure, 2 for a wrong command line or configuration.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match cli::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(message) => {
            // Help and version are such messages too; a closed pipe is no reason to complain.
            let _closed = message.print();
            return ExitCode::from(u8::try_from(message.exit_code()).unwrap_or(2));
        }
    };
    let mut out = io::stdout();
    let result = commands::run(&cli, &mut out);
    match result.and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            let _closed = writeln!(io::stderr(), "{failure}");
            ExitCode::from(failure.status() as u8)
        }
    }
}
