//! Programs that tests drive and that a machine may not have. A test without its tool is skipped and says so; `make test`
//! lists what was skipped at its end, and in continuous integration that is a failure.

use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Whether a program is on the machine; if not, the test that asks is told as skipped.
pub(crate) fn is_there(program: &str, install: &str) -> bool {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| folder.join(program).is_file());
    if !found {
        skip(program, install);
    }
    found
}

/// Python with the packages of scripts/python-tools.txt; None where they are not set up.
pub(crate) fn python() -> Option<Command> {
    if !Path::new(".python/.pins").exists() {
        skip("the Python packages of the tests", "make test");
        return None;
    }
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", Path::new(".python").canonicalize().unwrap()).env("PYTHONDONTWRITEBYTECODE", "1");
    Some(command)
}

/// Tells that the test is skipped for want of something, and how to come by it.
pub(crate) fn skip(what: &str, install: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("{test}: {what} is missing. Install it with: {install}");
    eprintln!("skipped {line}");
    if let Some(list) = std::env::var_os("TORCHD_TESTS_SKIPPED") {
        let mut list = std::fs::OpenOptions::new().append(true).create(true).open(list).unwrap();
        writeln!(list, "{line}").unwrap();
    }
}
