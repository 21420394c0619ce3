//! The examination of the state, which changes nothing: whether the database is whole, each folder
//! readable, and both of one mind.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, SystemTime};

use super::Places;
use crate::job::{Job, JobId};
use crate::journal::{JobFolder, Signature, is_held};
use crate::manager::{JobFile, JobFileError};
use crate::store::{self, Contents, StoreError};

/// The words for a job whose folder is newer than the database.
const TAKES_FOLDER: &str = "the folder is newer, and the next start of torchd takes the job from it";

/// The findings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The parts that are well, in words.
    pub well: Vec<String>,
    /// The problems.
    pub problems: Vec<Problem>,
}

/// A problem of the database or of a job's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The place and the problem. Where `--repair` does not help, also the way out if there is one.
    pub words: String,
    /// `--repair` puts it right.
    pub can_repair: bool,
}

impl From<String> for Problem {
    fn from(words: String) -> Self {
        Self { words, can_repair: true }
    }
}

/// Looks at the database and at every job's folder. An error only where the folders cannot be
/// listed.
pub fn examine(places: &Places) -> io::Result<Findings> {
    let mut findings = Findings::default();
    let folders = JobFolder::all(&places.jobs)?;
    let rows = look_at_database(places, folders.len(), &mut findings);
    // Only a later version can repair the state that it wrote.
    let can_repair = findings.problems.iter().all(|problem| problem.can_repair);
    let born = store::born(&places.database);
    let mut sound = 0;
    for (id, folder) in &folders {
        match look_at_folder(id, folder, rows.as_ref(), born) {
            Ok(None) => sound += 1,
            Ok(Some(note)) => findings.well.push(format!("{}: {note}", id.name())),
            Err(problem) => {
                let words = format!("{}: {}", id.name(), problem.words);
                findings.problems.push(Problem { words, can_repair: can_repair && problem.can_repair });
            }
        }
    }
    let agreed = if rows.is_some() { ", and the database tells the same of them" } else { "" };
    findings.well.push(format!("job folders: {sound} of {} can be read{agreed}", folders.len()));
    for id in rows.iter().flat_map(BTreeMap::keys) {
        if folders.binary_search_by(|(other, _)| other.cmp(id)).is_err() {
            findings.problems.push(format!("{}: the database has it, and its folder is gone", id.name()).into());
        }
    }
    Ok(findings)
}

/// The rows of the database; None where they cannot be had.
fn look_at_database(places: &Places, folders: usize, findings: &mut Findings) -> Option<BTreeMap<JobId, JobFile>> {
    let path = places.database.display();
    match store::look(&places.database) {
        Ok(Contents::Whole { jobs, .. }) => {
            findings.well.push(format!("{path}: whole, {} jobs", jobs.len()));
            return Some(by_id(jobs));
        }
        Ok(Contents::Earlier { form }) => findings
            .well
            .push(format!("{path}: whole, of the earlier form {form}, which the next start of torchd changes")),
        Ok(Contents::Nothing) if folders == 0 => {
            findings.well.push(format!("{path}: not there yet; torchd makes it when it starts"));
        }
        Ok(Contents::Nothing) => {
            let found = if places.database.exists() { "empty" } else { "missing" };
            findings.problems.push(format!("{path}: {found}, although there are job folders").into());
        }
        Err(error) => {
            let can_repair = !matches!(error, StoreError::TooNew { .. });
            findings.problems.push(Problem { words: format!("{path}: {error}"), can_repair });
        }
    }
    None
}

/// The rows of a database by job.
pub(super) fn by_id(jobs: Vec<(Job, Option<store::Asked>)>) -> BTreeMap<JobId, JobFile> {
    jobs.into_iter().map(|(job, request)| (job.id.clone(), JobFile { job, request })).collect()
}

/// Nothing where all is well, words where there is something to know, an error where something is
/// wrong.
fn look_at_folder(
    id: &JobId,
    folder: &JobFolder,
    rows: Option<&BTreeMap<JobId, JobFile>>,
    born: Option<SystemTime>,
) -> Result<Option<String>, Problem> {
    let row = rows.map(|rows| rows.get(id));
    let job_file = match JobFile::read(folder) {
        Err(JobFileError::Missing) if row == Some(None) && folder.is_unanswered(id, born).unwrap_or(false) => {
            let note = "left by a request that was never answered; the next start of torchd removes it";
            return Ok(Some(note.into()));
        }
        read => read.map_err(|error| error.to_string())?,
    };
    folder.read_spec().map_err(|error| format!("spec.json cannot be read: {error}"))?;
    if job_file.job.id != *id {
        return Err(format!("its job.json is that of {}", job_file.job.id.name()).into());
    }
    match row {
        None => {}
        Some(None) => return Err(format!("the database does not have it; {TAKES_FOLDER}").into()),
        Some(Some(row)) => {
            let attempt = folder.last_attempt();
            let attempt = attempt.map_err(|error| format!("its attempts cannot be told: {error}"))?;
            if !row.job.state.is_final() && attempt > row.job.attempt.max(job_file.job.attempt) {
                return Err(format!(
                    "its folder knows of attempt {attempt}, and job.json and the database do not; {TAKES_FOLDER}"
                )
                .into());
            }
            let is_newer = job_file.job.generation > row.job.generation;
            if let Some(words) = differences(&job_file, row) {
                return Err(if is_newer { format!("{TAKES_FOLDER}: {words}") } else { words }.into());
            }
        }
    }
    // Only a state that database and folder agree on says whether there should be a runner.
    judge_runner(&job_file.job, folder).map_err(|words| Problem { words, can_repair: false })?;
    Ok(None)
}

/// Whether a runner lives where there should be one and nowhere else, and whether what it was told
/// can be read.
fn judge_runner(job: &Job, folder: &JobFolder) -> Result<(), String> {
    let is_alive = is_held(&folder.shim()).and_then(|held| Ok(held || is_held(&folder.lock())?));
    let is_alive = is_alive.map_err(|error| format!("whether its runner lives cannot be told: {error}"))?;
    if !job.state.is_active() {
        // Its shim, or the runner itself where that has none: either hands on what it is told.
        let signed = [folder.shim(), folder.lock()].into_iter().find(|lock| is_held(lock).unwrap_or(false));
        let signed = signed.and_then(|lock| Signature::read_file(&lock).ok().flatten());
        let way_out = signed.map_or_else(String::new, |signed| format!("; `kill {}` stops it in order", signed.pid));
        return match is_alive {
            true => Err(format!("it is {}, and a runner works for it all the same{way_out}", job.state)),
            false => Ok(()),
        };
    }
    match folder.read_order(job.attempt) {
        // It is written after the row and before the runner is started.
        Err(error) if is_alive || error.kind() != io::ErrorKind::NotFound => {
            let so = match is_alive {
                true => "its runner goes on and counts as holding what its spec asks for; `torchctl cancel` ends it",
                false => "the next start of torchd takes it up from its last checkpoint",
            };
            Err(format!("the order of attempt {} cannot be read: {error}; {so}", job.attempt))
        }
        Err(_) | Ok(_) => Ok(()),
    }
}

/// How a job.json and the row of the same job differ, in words; None where they do not.
fn differences(job_file: &JobFile, row: &JobFile) -> Option<String> {
    let job_file = as_stored(job_file);
    let facts = |job: &Job| format!("{}, generation {}, attempt {}", job.state, job.generation, job.attempt);
    let (told, stored) = (facts(&job_file.job), facts(&row.job));
    if told != stored {
        return Some(format!("job.json says {told}, and the database {stored}"));
    }
    // Values that are not numbers are equal to nothing, so the words are compared.
    if format!("{:?}", job_file.job) != format!("{:?}", row.job) {
        return Some("job.json and the database differ in what they tell of it".into());
    }
    // A version that did not keep requests in job.json may have written it.
    let is_told = job_file.request.is_none() || job_file.request == row.request;
    (!is_told).then(|| "job.json and the database differ in the request that made it".into())
}

/// The database keeps times to the microsecond.
fn as_stored(job_file: &JobFile) -> JobFile {
    let rounded = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    };
    let mut stored = job_file.clone();
    stored.job.created = rounded(stored.job.created);
    stored.job.started = stored.job.started.map(rounded);
    stored.job.ended = stored.job.ended.map(rounded);
    stored
}
