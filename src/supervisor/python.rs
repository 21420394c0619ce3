//! Asks a Python which PyTorch it has, without importing it: that takes seconds and could fail.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::environment;
use crate::job::probe::Found;

/// An interpreter that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(10);

/// Prints two lines each for Python and for PyTorch: version and file. The metadata of packages is
/// read, nothing is imported.
const QUESTION: &str = r#"
import sys, importlib.metadata as metadata
print(sys.version.split()[0], sys.executable, sep="\n")
try:
    torch = metadata.distribution("torch")
    print(torch.version, torch.locate_file("torch"), sep="\n")
except metadata.PackageNotFoundError:
    pass
"#;

/// Python and PyTorch of this machine, or why they are absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PythonReport {
    /// The interpreter.
    pub python: Found,
    /// The package `torch` that it would import.
    pub pytorch: Found,
}

/// Where to look for a Python: the file of the settings, else `$PYSPARK_PYTHON`, which Databricks
/// sets to the Python of its runtime, else the environment that torchd is installed in, else
/// `python3` on the `PATH`.
pub async fn ask_python(chosen: Option<&Path>) -> PythonReport {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let (program, found_by): (OsString, _) = match (chosen, variable("PYSPARK_PYTHON")) {
        (Some(path), _) => (path.into(), "cluster.python"),
        (None, Some(named)) => (named, "PYSPARK_PYTHON"),
        (None, None) => match std::env::current_exe().ok().and_then(|program| in_environment(&program)) {
            Some(python) => (python.into(), "the Python environment of torchd"),
            None => ("python3".into(), "PATH"),
        },
    };
    match ask(&program).await {
        Ok(answer) => report(&answer, found_by, &program),
        Err(reason) => absent(&format!("{} ({found_by}) {reason}", Path::new(&program).display())),
    }
}

/// The Python of the environment in whose `bin` a program lies; None where that is none. venv and
/// conda each leave a mark in the environments that they make.
pub(crate) fn in_environment(program: &Path) -> Option<PathBuf> {
    let programs = program.parent()?;
    let environment = programs.parent()?;
    let is_environment = environment.join("pyvenv.cfg").is_file() || environment.join("conda-meta").is_dir();
    let python = programs.join("python3");
    (is_environment && python.is_file()).then_some(python)
}

async fn ask(program: &OsStr) -> Result<String, String> {
    let output = Command::new(program)
        .args(["-c", QUESTION])
        .env_clear()
        .envs(environment::of_python(std::env::vars_os()))
        // Where it looks for packages first; there are none.
        .current_dir("/")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(LIMIT, output).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("cannot be started: {error}")),
        Err(_) => return Err(format!("did not answer within {LIMIT:?}")),
    };
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let last = words.trim().lines().last().unwrap_or("it said nothing").to_owned();
        return Err(format!("ended with {}: {last}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|_| "answered in no text".to_owned())
}

fn report(answer: &str, found_by: &str, program: &OsStr) -> PythonReport {
    let mut lines = answer.lines();
    let mut next = || Some((lines.next()?.to_owned(), lines.next()?.to_owned()));
    let Some((version, path)) = next() else {
        return absent(&format!("{} ({found_by}) did not tell its version", Path::new(program).display()));
    };
    let pytorch = match next() {
        Some((version, place)) => {
            Found { version, path: place, found_by: format!("packages of {path}"), ..Found::default() }
        }
        None => Found { absent_reason: format!("{path} has no package torch"), ..Found::default() },
    };
    PythonReport { python: Found { version, path, found_by: found_by.into(), ..Found::default() }, pytorch }
}

fn absent(reason: &str) -> PythonReport {
    let absent = Found { absent_reason: reason.to_owned(), ..Found::default() };
    let pytorch = Found { absent_reason: format!("no Python to ask: {reason}"), ..Found::default() };
    PythonReport { python: absent, pytorch }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_python_beside_a_program_counts_in_an_environment_alone() {
        for mark in ["pyvenv.cfg", "conda-meta/history"] {
            let root = tempfile::tempdir().unwrap();
            let (program, mark) = (root.path().join("bin/torchd"), root.path().join(mark));
            let python = program.with_file_name("python3");
            fs::create_dir(program.parent().unwrap()).unwrap();
            fs::write(&python, "").unwrap();
            assert_eq!(in_environment(&program), None, "as in /usr/bin");
            fs::create_dir_all(mark.parent().unwrap()).unwrap();
            fs::write(mark, "").unwrap();
            assert_eq!(in_environment(&program), Some(python.clone()));
            fs::remove_file(python).unwrap();
            assert_eq!(in_environment(&program), None, "no Python is there");
        }
    }
}
