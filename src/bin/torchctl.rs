//! The command-line client.

use std::process::ExitCode;

fn main() -> ExitCode {
    torchd::cli::main(std::env::args_os())
}
