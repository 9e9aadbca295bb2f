//! The binary `jit`: see the library for the commands.

use std::process::ExitCode;

fn main() -> ExitCode {
    jit_cli::main(std::env::args_os())
}
