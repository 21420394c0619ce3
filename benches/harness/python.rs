//! Python programs that lie beside a bench.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A command that runs a script of `benches/`. The interpreter is that of the variable, or else
/// what `make pytorch` fetches.
pub(crate) fn python(variable: &str, script: &str) -> Command {
    let python = std::env::var_os(variable).map_or_else(|| ".pytorch/bin/python".into(), PathBuf::from);
    let mut command = Command::new(python);
    command.arg(Path::new("benches").join(script));
    command
}
