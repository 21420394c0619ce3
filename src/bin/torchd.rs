//! The daemon, and its outposts on other machines.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|first| first == torchd::outpost::MODE) {
        return torchd::outpost::main(std::env::args_os());
    }
    torchd::daemon::main(std::env::args_os())
}
