//! Finishes the work that the last daemon left half-done in the folder of jobs, and makes database
//! and jobs' folders agree.
//!
//! The database is the truth unless it is older than the folders, because its write-ahead log was
//! lost or an old copy was put in its place. Then it takes the newer state from the folders: a
//! cancelled job does not run again, and a job whose runner trains is not forgotten.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::job_json::{JobFile, generation_told};
use super::rebuild::{Old, Rebuilt, is_alive, rebuild};
use super::task::blocking;
use super::{JobError, folder};
use crate::dataset::DataRoots;
use crate::job::{Job, JobId};
use crate::journal::JobFolder;
use crate::store::Store;

/// The name of a folder whose job is being deleted.
const DELETED: &str = ".deleted-";

/// Where the folder of a deleted job lies until it is removed.
pub(super) fn set_aside(jobs_dir: &Path, id: &JobId) -> PathBuf {
    jobs_dir.join(format!("{DELETED}{id}"))
}

/// Jobs that had ended and whose job.json is looked at, the newest: the last daemon may have died
/// between the two. Where more of them could not be written for long, `torchd doctor` tells.
const NEWEST_ENDED: usize = 100;

/// The state once database and folders agree.
pub(super) struct Reconciled {
    /// The jobs that have not ended, in order of arrival.
    pub(super) unfinished: Vec<Job>,
    /// The jobs whose job.json is older than the database: the last daemon died before it wrote
    /// that file, or its disk was full.
    pub(super) unwritten: BTreeSet<JobId>,
    /// Runners whose folders cannot be made a job again, with their attempts.
    pub(super) strays: Vec<(JobId, u32)>,
}

/// The result of a comparison of database and folder.
enum Found {
    /// They agree.
    Same,
    /// job.json is older than the database.
    Behind(JobId),
    /// The database is older than the folder.
    Newer(Box<Rebuilt>),
    /// The folder is newer and cannot be used; `running` is the attempt of a live runner.
    Unusable { id: JobId, why: String, running: Option<u32> },
}

/// Compares the jobs that may still change with their folders, and finds folders without a row.
/// Newer states of the folders are stored.
pub(super) async fn reconcile(jobs_dir: &Path, roots: &DataRoots, store: &Store) -> Result<Reconciled, JobError> {
    let ended = store.newest_ended(NEWEST_ENDED).await.unwrap_or_else(|error| {
        tracing::error!(%error, "whether job.json of the jobs that ended last is up to date cannot be told");
        Vec::new()
    });
    let rows: Vec<Job> = store.unfinished().await?.into_iter().chain(ended).collect();
    let (known, born) = (store.ids().await?, store.born());
    let (place, roots) = (jobs_dir.to_owned(), roots.clone());
    let look = move || {
        let mut found = Vec::new();
        for row in rows {
            let folder = folder(&place, &row.id);
            if let Err(error) = folder.sweep_after_daemon() {
                tracing::warn!(job.id = %row.id, %error, "what the last daemon has left half-written cannot be removed");
            }
            found.push(compare(row, &folder, &roots));
        }
        for (id, folder) in JobFolder::all(&place)?.into_iter().filter(|(id, _)| !known.contains(id)) {
            found.extend(judge(&id, &folder, Some(Old { row: None, born }), &roots));
        }
        Ok(found)
    };
    let found = blocking(look).await.map_err(JobError::folder("the jobs' folders cannot be read"))?;

    let (mut unwritten, mut strays, mut unusable) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
    for found in found {
        match found {
            Found::Same => {}
            Found::Behind(id) => drop(unwritten.insert(id)),
            Found::Newer(rebuilt) => {
                let Rebuilt { job_file: JobFile { job, request }, how } = *rebuilt;
                let from = how.as_deref().unwrap_or("from job.json");
                tracing::error!(job.id = %job.id, job.state = %job.state, job.generation = job.generation,
                    "the database is older than the job's folder, its write-ahead log may be lost; the job is taken {from}");
                if how.is_some() {
                    unwritten.insert(job.id.clone());
                }
                store.restore(job, request).await?;
            }
            Found::Unusable { id, why, running } => {
                tracing::error!(job.id = %id, running, "the job's folder is newer than the database and cannot be used, so that the job is left alone: {why}");
                strays.extend(running.map(|attempt| (id.clone(), attempt)));
                unusable.insert(id);
            }
        }
    }
    let mut unfinished = store.unfinished().await?;
    unfinished.retain(|job| !unusable.contains(&job.id));
    Ok(Reconciled { unfinished, unwritten, strays })
}

/// Compares a row with the folder of its job.
fn compare(row: Job, folder: &JobFolder, roots: &DataRoots) -> Found {
    let told = match generation_told(folder) {
        Ok(told) => told,
        Err(error) => {
            // Unreadable is not absent: the file stays until the job changes.
            tracing::error!(job.id = %row.id, %error, "whether job.json is up to date cannot be told");
            Some(row.generation)
        }
    };
    let has_gone_on = !row.state.is_final() && folder.last_attempt() > row.attempt;
    if !has_gone_on && told.is_none_or(|told| told <= row.generation) {
        return if told == Some(row.generation) { Found::Same } else { Found::Behind(row.id) };
    }
    let id = row.id.clone();
    let row = JobFile { job: row, request: None };
    judge(&id, folder, Some(Old { row: Some(&row), born: None }), roots).unwrap_or(Found::Same)
}

/// The job of a folder that is newer than the database; None if the folder holds none.
fn judge(id: &JobId, folder: &JobFolder, old: Option<Old<'_>>, roots: &DataRoots) -> Option<Found> {
    match rebuild(id, folder, old, roots) {
        Ok(rebuilt) => rebuilt.map(|rebuilt| Found::Newer(Box::new(rebuilt))),
        Err(why) => {
            // A runner whose locks cannot be asked may be alive.
            let attempt = Some(folder.last_attempt()).filter(|attempt| *attempt > 0);
            let running = attempt.filter(|_| is_alive(folder).unwrap_or(true));
            Some(Found::Unusable { id: id.clone(), why, running })
        }
    }
}

/// Finishes what was interrupted: deletions that had begun, and folders of jobs that were never
/// promised to anybody.
pub(super) async fn tidy(jobs_dir: &Path, store: &Store) -> Result<(), JobError> {
    let cannot = || JobError::folder(format!("{} cannot be read", jobs_dir.display()));
    let entries = std::fs::read_dir(jobs_dir).map_err(cannot())?;
    for entry in entries {
        let path = entry.map_err(cannot())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let deleted = name.strip_prefix(DELETED).and_then(|id| id.parse::<JobId>().ok());
        if name.starts_with(super::staging::STAGED) {
            // Of a request that was never answered.
            if let Err(error) = std::fs::remove_dir_all(&path) {
                tracing::error!(path = %path.display(), %error, "what was made ready for a job cannot be removed");
            }
            continue;
        }
        let is_orphan = match (&deleted, name.parse::<JobId>()) {
            (Some(id), _) => {
                // A job that has its folder was not being deleted: this one is left from before.
                if !jobs_dir.join(id.as_str()).exists() {
                    store.delete(id.clone()).await?;
                }
                true
            }
            // The row is written after the folder and before the mirror, and a client is answered
            // after both.
            (None, Ok(id)) => folder(jobs_dir, &id).is_unanswered(&id, store.born()) && store.get(id).await?.is_none(),
            (None, Err(_)) => false,
        };
        if is_orphan && let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::error!(path = %path.display(), %error, "the folder of a deleted job cannot be removed");
        }
    }
    Ok(())
}
