//! The licences of what torchd is made of: `licenses.tsv` for its own parts, which a test compares
//! with the lock file, and libtorch.

use std::process::ExitCode;

use super::failure::Failure;
use super::output::{self, Output};
use super::table;

/// Name, version, licence as an SPDX expression, and where to read it: a line for each package in
/// the three programs.
const PACKAGES: &str = include_str!("licenses.tsv");

/// Libraries that Cargo does not list: SQLite, which is built in, and those that the runner loads
/// and torchd does not contain. (The licence files of the wheels that `make libtorch` fetches.)
const LIBRARIES: [[&str; 4]; 4] = [
    ["SQLite", "as in libsqlite3-sys", "public domain", "https://sqlite.org/copyright.html"],
    ["libtorch", "2.11.0", "BSD-3-Clause, with parts under others", "libtorch/licenses/torch-2.11.0/"],
    ["CUDA runtime", "13.0.96", "NVIDIA's own", "libtorch/licenses/nvidia_cuda_runtime-13.0.96/"],
    ["CUPTI", "13.0.85", "NVIDIA's own", "libtorch/licenses/nvidia_cuda_cupti-13.0.85/"],
];

/// A licence, for `-o json`.
#[derive(serde::Serialize)]
struct Part<'a> {
    name: &'a str,
    version: &'a str,
    license: &'a str,
    read_at: &'a str,
}

/// Prints all licences.
pub(super) fn print(output: Output) -> Result<ExitCode, Failure> {
    let own = PACKAGES.lines().filter_map(|line| {
        let mut cells = line.split('\t');
        let (name, version, license) = (cells.next()?, cells.next()?, cells.next()?);
        Some(Part { name, version, license, read_at: cells.next()? })
    });
    let loaded = LIBRARIES.map(|[name, version, license, read_at]| Part { name, version, license, read_at });
    let parts: Vec<Part<'_>> = own.chain(loaded).collect();
    if output.is_json() {
        for part in &parts {
            let line = serde_json::to_string(part).map_err(|error| Failure::Other(error.to_string()))?;
            output::write(&(line + "\n"))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let cells = |part: &Part<'_>| [part.name.into(), part.version.into(), part.license.into(), part.read_at.into()];
    let rows: Vec<[String; 4]> = parts.iter().map(cells).collect();
    let table = table::columns(["PART", "VERSION", "LICENCE", "WHERE TO READ IT"], &rows);
    output::write(&format!("{table}\nlibtorch/ is where torchd was built; the wheels on PyPI hold the same files.\n"))?;
    Ok(ExitCode::SUCCESS)
}
