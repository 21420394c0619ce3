//! `torchd doctor`: tells what is found in a state folder, and repairs it where that is asked for.
//! Its words go to standard output; the exit code is 0 if all is well, 1 if not, and 69 if nothing
//! could be done.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use super::modes::GroupReads;
use super::owner::become_owner_of;
use super::startup::{self, StartError, StateDir};
use crate::config::Settings;
use crate::doctor::{Findings, Places, Repaired, examine, repair};
use crate::journal::is_held;
use crate::terminal::shown;

/// A daemon that changes a job writes the database first and the folder then; this is long enough
/// for that.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Something is wrong with the state.
const EXIT_PROBLEMS: u8 = 1;

/// Looks the state over, repairs it if asked to, and tells what came of it.
pub(super) fn main(settings: &Settings, is_repair: bool) -> ExitCode {
    let done = if is_repair { mend(settings) } else { look(&settings.state_dir) };
    let (words, is_well) = match done {
        Ok(done) => done,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "torchd: {}", shown(&failure.to_string()));
            return ExitCode::from(failure.code);
        }
    };
    // A reader that has closed the pipe has seen enough.
    let _ = std::io::stdout().write_all(shown(&words).as_bytes());
    if is_well { ExitCode::SUCCESS } else { ExitCode::from(EXIT_PROBLEMS) }
}

/// The findings, and whether all is well.
fn look(state_dir: &Path) -> Result<(String, bool), StartError> {
    let state_dir = existing(state_dir)?;
    let lock = startup::lock_file(&state_dir);
    let is_served = is_held(&lock).map_err(|error| StartError::unavailable(&lock.display().to_string(), error))?;
    let places = startup::places(&state_dir);
    let mut findings = found(&places)?;
    if is_served && !findings.problems.is_empty() {
        // A thing that the daemon has just put right, or is about to, is no problem.
        std::thread::sleep(LOOK_AGAIN_AFTER);
        let again = found(&places)?;
        findings.problems.retain(|problem| again.problems.contains(problem));
        findings.well = again.well;
    }
    let mut words = match is_served.then(|| startup::holder(&lock)).flatten() {
        Some(pid) => format!("{}: the torchd with pid {pid} uses it\n", state_dir.display()),
        None if is_served => format!("{}: a torchd uses it\n", state_dir.display()),
        None => format!("{}: no torchd uses it\n", state_dir.display()),
    };
    words += &listed(&findings);
    if findings.problems.is_empty() {
        words += "all is well\n";
    } else {
        let _ = writeln!(words, "{}", counted(findings.problems.len(), "problem"));
        if findings.problems.iter().any(|problem| problem.can_repair) {
            let stop = if is_served { "stop torchd; then " } else { "" };
            let way_out = startup::way_out(&state_dir);
            let _ = writeln!(words, "{stop}{way_out} makes the database anew from the job folders");
        }
    }
    Ok((words, findings.problems.is_empty()))
}

/// Repairs what is wrong, and tells what came of it and whether every job is back.
fn mend(settings: &Settings) -> Result<(String, bool), StartError> {
    let path = existing(&settings.state_dir)?;
    let roots = startup::data_roots(settings)?;
    let state = StateDir::open(&path, GroupReads(settings.state_group_read))?;
    let places = startup::places(&path);
    let findings = found(&places)?;
    let mut words = listed(&findings);
    if findings.problems.is_empty() {
        words += "all is well; nothing was changed\n";
        return Ok((words, true));
    }
    let repaired = repair(&places, &roots, SystemTime::now())
        .map_err(|error| StartError::unavailable(&places.database.display().to_string(), error))?;
    drop(state);
    let Repaired { rebuilt, notes, left, aside } = repaired;
    let _ = writeln!(words, "{} rebuilt", counted(rebuilt, "job"));
    for note in &notes {
        let _ = writeln!(words, "  {note}");
    }
    if !left.is_empty() {
        let _ = writeln!(words, "{} not rebuilt, and left as found", counted(left.len(), "job"));
        for why in &left {
            let _ = writeln!(words, "  {why}");
        }
    }
    if let Some(aside) = aside {
        let _ = writeln!(words, "the old database is now {}", aside.display());
    }
    Ok((words, left.is_empty()))
}

/// The canonical path of a state folder that is there: nothing is made where a path was mistyped.
/// From here on the process is one of its owner's.
fn existing(state_dir: &Path) -> Result<std::path::PathBuf, StartError> {
    let what = || format!("state_dir = {}", state_dir.display());
    let cannot = |error| StartError::unavailable(&what(), error);
    let path = state_dir.canonicalize().map_err(|error| match error.kind() {
        ErrorKind::NotFound => StartError::unavailable(&what(), "there is no such folder; --state-dir names another"),
        _ => cannot(error),
    })?;
    become_owner_of(&path)
        .map_err(|error| StartError::unavailable(&what(), format!("root cannot go on as its owner: {error}")))?;
    match startup::places(&path).jobs.is_dir() {
        true => Ok(path),
        false => Err(StartError::unavailable(&what(), "no torchd has worked there: it holds no folder jobs")),
    }
}

fn found(places: &Places) -> Result<Findings, StartError> {
    examine(places).map_err(|error| StartError::unavailable(&places.jobs.display().to_string(), error))
}

fn listed(findings: &Findings) -> String {
    let well = findings.well.iter().map(|line| format!("  {line}\n"));
    well.chain(findings.problems.iter().map(|problem| format!("! {}\n", problem.words))).collect()
}

fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
