//! The daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    torchd::daemon::main(std::env::args_os())
}
