//! Rebuilds a job from its folder and its row in the database: the newer of the two is taken.
//!
//! `job.json` holds the whole job. If that is lost, the job is put together from spec, orders,
//! journal, lock and exit note, and nothing is invented: a job without a noted end was interrupted.
//! This module writes nothing: the start of a daemon (`recovery`) and `torchd doctor --repair`
//! store the result.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use super::job_json::{JobFile, JobFileError, generation_told};
use crate::dataset::{DataRoots, Files, Format, Lookup};
use crate::job::end::{self, Exit};
use crate::job::spec::data::Named;
use crate::job::spec::{HostMemory, Work};
use crate::job::state::Outcome;
use crate::job::{DataInputs, Inputs, Job, JobId, Spec, State};
use crate::journal::{ExitNote, JobFolder, JournalTail, ProgressFold, is_held};
use crate::proto::{json, v1};
use crate::supervisor::last_lines;

/// Lines of the log that go with an end.
const TAIL_LINES: usize = 20;
/// Changes of state that an attempt may have gone through, and more: the generation of a job must
/// not fall below what was seen.
const GENERATIONS_PER_ATTEMPT: u64 = 8;

/// A job that was rebuilt.
#[derive(Debug)]
pub struct Rebuilt {
    /// The job, with its request.
    pub job_file: JobFile,
    /// The sources it was put together from; None where its job.json was taken as it is.
    pub how: Option<String>,
}

/// The database on a job.
#[derive(Debug, Clone, Copy)]
pub struct Old<'a> {
    /// Its row, if it has one.
    pub row: Option<&'a JobFile>,
    /// When the database was made, where the file system tells.
    pub born: Option<SystemTime>,
}

/// Why a job cannot be rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum NotRebuilt {
    /// A part of its folder cannot be read, so that nothing is known: the next look may tell.
    #[error("{0}")]
    Unread(String),
    /// Its folder holds nothing that this version can use.
    #[error("{0}")]
    Unusable(String),
}

impl NotRebuilt {
    fn unread(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Unread(format!("{what}: {error}"))
    }
}

/// Rebuilds a job; None where the folder holds none that anybody was promised.
pub fn rebuild(
    id: &JobId,
    folder: &JobFolder,
    old: Option<Old<'_>>,
    roots: &DataRoots,
) -> Result<Option<Rebuilt>, NotRebuilt> {
    let row = old.and_then(|old| old.row);
    let error = match JobFile::read(folder) {
        Ok(job_file) if job_file.job.id != *id => {
            return Err(NotRebuilt::Unusable(format!("its job.json is that of {}", job_file.job.id.name())));
        }
        Ok(job_file) => {
            let (newest, how) = newer(job_file, row);
            return brought_up(newest, how, folder).map(Some);
        }
        Err(error) => error,
    };
    // A job.json of a later version may still show that it is newer; an older row does not replace
    // it.
    let is_newer = |row: &JobFile| matches!(generation_told(folder), Ok(Some(told)) if told > row.job.generation);
    if let Some(row) = row.filter(|row| !is_newer(row)) {
        return brought_up(row.clone(), Some(format!("from the old database: {error}")), folder).map(Some);
    }
    match error {
        JobFileError::Missing | JobFileError::Damaged(_) => {}
        JobFileError::Io(_) => return Err(NotRebuilt::Unread(error.to_string())),
        JobFileError::Unknown(_) => {
            return Err(NotRebuilt::Unusable(format!(
                "{error}; start the version that wrote it, or take job.json away to rebuild the job from spec.json"
            )));
        }
    }
    if let Some(old) = old
        && folder.is_unanswered(id, old.born).map_err(NotRebuilt::unread("whether it was promised cannot be told"))?
    {
        return Ok(None);
    }
    let job = from_spec(id, folder, roots).map_err(|not_rebuilt| match not_rebuilt {
        NotRebuilt::Unread(why) => NotRebuilt::Unread(format!("{error}; {why}")),
        NotRebuilt::Unusable(why) => NotRebuilt::Unusable(format!("{error}; {why}")),
    })?;
    let how = format!("from spec.json, now {}: {error}", job.state);
    Ok(Some(Rebuilt { job_file: JobFile { job, request: None }, how: Some(how) }))
}

/// The newer of job.json and row, with words unless it is job.json unchanged. job.json is written
/// after the row, and is older if the daemon died in between. A row is older if the database lost
/// its write-ahead log.
fn newer(mut job_file: JobFile, row: Option<&JobFile>) -> (JobFile, Option<String>) {
    let Some(row) = row else { return (job_file, None) };
    if row.job.generation > job_file.job.generation {
        return (row.clone(), Some("from the old database: job.json is behind it".into()));
    }
    if job_file.request.is_some() || row.request.is_none() {
        return (job_file, None);
    }
    job_file.request.clone_from(&row.request);
    (job_file, Some("from job.json, with its request from the old database".into()))
}

/// Brings a job up to the newest attempt in its folder. An order is written after the row and
/// before job.json, so that both may lack that attempt.
fn brought_up(mut job_file: JobFile, how: Option<String>, folder: &JobFolder) -> Result<Rebuilt, NotRebuilt> {
    let job = &mut job_file.job;
    if job.state.is_final() {
        return Ok(Rebuilt { job_file, how });
    }
    let attempt = last_attempt(folder)?;
    if attempt <= job.attempt {
        return Ok(Rebuilt { job_file, how });
    }
    let how = how.unwrap_or_else(|| "from job.json".into()) + &format!(", which does not know of attempt {attempt}");
    job.generation += GENERATIONS_PER_ATTEMPT * u64::from(attempt - job.attempt);
    job.state = State::Starting;
    job.attempt = attempt;
    job.course.stop = None;
    job.course.not_before = None;
    // It had waited for all of them when the order was written.
    job.course.waits_for.clear();
    // The order holds what all resumes have said.
    if let Ok(order) = folder.read_order(attempt) {
        job.course.accepted_data_at = order.accepted_data_at;
        if let Some(edits) = order.edits {
            job.spec = Arc::new(edited(&job.spec, &edits)?);
            job.course.edits = Some(edits);
        }
    }
    Ok(Rebuilt { job_file, how: Some(how) })
}

/// A spec with the edits of an order.
fn edited(spec: &Spec, edits: &v1::JobEdits) -> Result<Spec, NotRebuilt> {
    spec.edited(edits)
        .map_err(|wrong| NotRebuilt::Unusable(format!("its edits are none that this version makes: {wrong}")))
}

fn last_attempt(folder: &JobFolder) -> Result<u32, NotRebuilt> {
    folder.last_attempt().map_err(NotRebuilt::unread("its attempts cannot be told"))
}

/// Whether a shim or a runner works for the job.
pub(super) fn is_alive(folder: &JobFolder) -> io::Result<bool> {
    Ok(is_held(&folder.shim())? || is_held(&folder.lock())?)
}

/// The job of a folder without a job.json.
fn from_spec(id: &JobId, folder: &JobFolder, roots: &DataRoots) -> Result<Job, NotRebuilt> {
    let spec = folder.read_spec().map_err(|error| {
        let why = format!("spec.json cannot be read either: {error}");
        // A file that the system refuses to open may exist.
        let is_refused = error.raw_os_error().is_some() && error.kind() != io::ErrorKind::NotFound;
        if is_refused { NotRebuilt::Unread(why) } else { NotRebuilt::Unusable(why) }
    })?;
    let spec = Spec::stored(&spec).map_err(NotRebuilt::Unusable)?;
    let created = id.taken().ok_or_else(|| NotRebuilt::Unusable("its name tells no time".into()))?;
    let attempt = last_attempt(folder)?;
    // The edits that the last attempt read, or those that another one would read.
    let ordered = (1..=attempt).rev().find_map(|attempt| folder.read_order(attempt).ok());
    let edits = ordered.as_ref().and_then(|order| order.edits.clone());
    let accepted_data_at = ordered.as_ref().and_then(|order| order.accepted_data_at);
    let spec = match &edits {
        Some(edits) => edited(&spec, edits)?,
        None => spec,
    };
    let inputs = match ordered {
        Some(order) => order.inputs,
        None => find_inputs(&spec, roots).map_err(NotRebuilt::Unusable)?,
    };
    // Nothing but job.json tells the owner.
    let mut job = Job::queued(id.clone(), String::new().into(), spec, inputs, created);
    job.course.edits = edits;
    job.course.accepted_data_at = accepted_data_at;
    if attempt == 0 {
        return Ok(job);
    }
    job.course.waits_for.clear();
    let (fold, span) = read_journal(folder);
    job.attempt = attempt;
    job.generation = 1 + GENERATIONS_PER_ATTEMPT * u64::from(attempt);
    job.started = span.map(|(first, _)| first);
    let is_started = fold.started(attempt).is_some();
    if is_alive(folder).map_err(NotRebuilt::unread("whether it runs cannot be told"))? {
        // The daemon finds its runner when it starts.
        job.state = if is_started { State::Running } else { State::Starting };
        return Ok(job);
    }
    let note = ExitNote::read(folder).ok().flatten().filter(|note| note.attempt == attempt);
    let exit = note.map_or(Exit::Unknown, |note| note.exit());
    let verdict = end::judge(exit, fold.ended(attempt), None, is_started);
    job.state = match verdict.outcome {
        Outcome::Finished => State::Succeeded,
        Outcome::Cancelled | Outcome::Failed => State::Failed,
        // Nobody knows whether it was meant to end: its user does.
        Outcome::Paused | Outcome::Requeued => State::Paused,
    };
    let end = v1::JobEnd {
        reason: verdict.reason.into(),
        message: format!("{}; told by the job's folder, whose job.json was lost", verdict.message),
        exit_code: note.and_then(|note| note.code),
        signal: note.and_then(|note| note.signal),
        log_tail: last_lines(folder, attempt, TAIL_LINES),
    };
    job.final_progress = fold.progress();
    if job.state == State::Paused {
        job.course.last_end = Some(end);
        return Ok(job);
    }
    job.end = Some(end);
    job.ended = span.map(|(_, last)| last).or_else(|| fs::metadata(folder.exit()).ok()?.modified().ok());
    Ok(job)
}

/// The sum of the readable part of the journal, the begin of its last attempt, and the time of its
/// last record.
fn read_journal(folder: &JobFolder) -> (ProgressFold, Option<(SystemTime, SystemTime)>) {
    let (mut fold, mut span) = (ProgressFold::default(), None::<(SystemTime, SystemTime)>);
    let mut tail = JournalTail::new(folder.clone());
    while let Ok(records) = tail.read(10_000) {
        if records.is_empty() {
            break;
        }
        for record in &records {
            fold.add(record);
            // A time that nothing can be dated with tells nothing.
            let time = record.time.filter(json::is_time).and_then(|time| SystemTime::try_from(time).ok());
            let Some(time) = time else { continue };
            let is_begin = matches!(record.what, Some(v1::job_record::What::Started(_)));
            let first = span.filter(|_| !is_begin).map_or(time, |(first, _)| first);
            span = Some((first, time));
        }
    }
    (fold, span)
}

/// The files that a spec names, found as they were when the job was taken.
fn find_inputs(spec: &Spec, roots: &DataRoots) -> Result<Inputs, String> {
    let Work::Model(work) = &spec.work else {
        return Err("no order is left, which alone tells where its program was found; submit it again".into());
    };
    let data = &work.data;
    let files = |named: &Named| -> Result<Files, String> {
        let mut lookup = Lookup::new(roots);
        let found = named.locate(&mut lookup);
        found.ok_or_else(|| {
            let error = lookup.problems.first().map_or_else(String::new, |(_, error)| error.to_string());
            format!("no order is left, and its data is not found: {error} (--data-root names more)")
        })
    };
    let validation = data.validation.as_ref().map(&files).transpose()?;
    // The memory of the machine is not looked at here: without a limit the data are read as a
    // whole.
    let limit = spec.resources.memory_limit_bytes;
    let memory_bytes = limit.and_then(|limit| HostMemory::within(limit, "the job").of_data());
    Ok(DataInputs { train: files(&data.train)?, validation, outline: None, memory_bytes }.into())
}
