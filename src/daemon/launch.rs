//! `torchd launch`: the launcher of the Python package, as that of its environment's Python.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::supervisor::in_python_environment;

/// The first argument.
pub(super) const MODE: &str = "launch";

/// Ends with 3 where the package is missing: a folder of that name alone is none.
const QUESTION: &str = "\
import importlib.util, sys
found = importlib.util.find_spec('torchd')
sys.exit(0 if found and found.origin else 3)";
const MISSING: i32 = 3;

/// Becomes `python -m torchd launch` with these arguments: by the Python of the environment that we
/// are installed in, else by `python3` on the PATH. Ranks are started by this program, unless
/// TORCHD_PROGRAM names another.
pub(super) fn main(arguments: &[OsString]) -> ExitCode {
    let own = std::env::current_exe().ok();
    let python = own.as_deref().and_then(in_python_environment).unwrap_or_else(|| PathBuf::from("python3"));
    let refuse = |words: String| {
        let version = env!("CARGO_PKG_VERSION");
        eprintln!(
            "torchd launch: {words}; install the wheel of torchd {version} there, or start `python -m torchd launch` by a Python that has it"
        );
        ExitCode::FAILURE
    };
    match Command::new(&python).args(["-c", QUESTION]).status() {
        Ok(ended) if ended.code() == Some(MISSING) => {
            return refuse(format!("{} has no package torchd, which has the launchers", python.display()));
        }
        // It says by itself what else is wrong.
        Ok(_) => {}
        Err(error) => return refuse(format!("{} cannot be started: {error}", python.display())),
    }
    let mut command = Command::new(&python);
    command.args(["-m", "torchd", "launch"].map(OsStr::new)).args(arguments);
    let is_named = std::env::var_os("TORCHD_PROGRAM").is_some_and(|named| !named.is_empty());
    if let Some(own) = own.filter(|_| !is_named) {
        command.env("TORCHD_PROGRAM", own);
    }
    let error = command.exec();
    refuse(format!("{} cannot be started: {error}", python.display()))
}
