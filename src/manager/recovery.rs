//! Finishes the work that the last daemon left half-done in the folder of jobs, and makes database
//! and jobs' folders agree.
//!
//! The database is the truth unless it is older than the folders, because its write-ahead log was
//! lost or an old copy was put in its place. Then it takes the newer state from the folders: a
//! cancelled job does not run again, and a job whose runner trains is not forgotten.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::job_json::{JobFile, generation_told};
use super::rebuild::{NotRebuilt, Old, Rebuilt, is_alive, rebuild};
use super::task::blocking;
use super::{JobError, folder};
use crate::beneath::remove_tree;
use crate::dataset::DataRoots;
use crate::job::{Job, JobId};
use crate::journal::JobFolder;
use crate::store::{Store, StoreError, Unfinished};

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
    /// The jobs that are left alone.
    pub(super) left_alone: Vec<LeftAlone>,
}

/// A job that is left alone: its folder may be newer than the database and cannot be used, or this
/// version cannot read its row.
#[derive(Debug)]
pub(super) struct LeftAlone {
    pub(super) id: JobId,
    /// The reason, a clause.
    pub(super) why: String,
    /// A part of the folder cannot be read: nothing is known, and it is looked at again.
    pub(super) is_unread: bool,
    /// The attempt of a runner that may live, where the folder cannot be made a job again.
    pub(super) stray: Option<u32>,
}

/// The result of a comparison of database and folder.
pub(super) enum Found {
    /// They agree.
    Same,
    /// job.json is older than the database.
    Behind(JobId),
    /// The database is older than the folder.
    Newer(Box<Rebuilt>),
    /// The folder may be newer and cannot be used.
    Unusable(LeftAlone),
}

/// Compares the jobs that may still change with their folders, and finds folders without a row.
/// Newer states of the folders are stored.
pub(super) async fn reconcile(jobs_dir: &Path, roots: &DataRoots, store: &Store) -> Result<Reconciled, JobError> {
    let ended = store.newest_ended(NEWEST_ENDED).await.unwrap_or_else(|error| {
        tracing::error!(%error, "whether job.json of the jobs that ended last is up to date cannot be told");
        Vec::new()
    });
    let Unfinished { jobs, odd } = store.unfinished().await?;
    let rows: Vec<Job> = jobs.into_iter().chain(ended).collect();
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
        for (id, odd) in odd {
            found.push(unusable(&id, &folder(&place, &id), odd.to_string()));
        }
        for (id, folder) in JobFolder::all(&place)?.into_iter().filter(|(id, _)| !known.contains(id)) {
            found.push(judge(&id, &folder, Old { row: None, born }, &roots));
        }
        Ok(found)
    };
    let found = blocking(look).await.map_err(JobError::folder("the jobs' folders cannot be read"))?;

    let (mut unwritten, mut left_alone) = (BTreeSet::new(), Vec::new());
    for found in found {
        match settle(found, store).await? {
            Settled::Agreed { behind } => unwritten.extend(behind),
            Settled::LeftAlone(left) => left_alone.push(left),
        }
    }
    let mut unfinished = store.unfinished().await?.jobs;
    unfinished.retain(|job| left_alone.iter().all(|left| left.id != job.id));
    Ok(Reconciled { unfinished, unwritten, left_alone })
}

/// The outcome for a job whose database row and folder differed.
pub(super) enum Settled {
    /// Database and folder agree. `behind` is the job if its job.json has still to be written.
    Agreed { behind: Option<JobId> },
    /// The job is left alone.
    LeftAlone(LeftAlone),
}

/// Stores the newer state of a folder.
pub(super) async fn settle(found: Found, store: &Store) -> Result<Settled, JobError> {
    Ok(match found {
        Found::Same => Settled::Agreed { behind: None },
        Found::Behind(id) => Settled::Agreed { behind: Some(id) },
        Found::Newer(rebuilt) => {
            let Rebuilt { job_file: JobFile { job, request }, how } = *rebuilt;
            let from = how.as_deref().unwrap_or("from job.json");
            tracing::error!(job.id = %job.id, job.state = %job.state, job.generation = job.generation,
                "the database is older than the job's folder, its write-ahead log may be lost; the job is taken {from}");
            let behind = how.is_some().then(|| job.id.clone());
            store.restore(job, request).await?;
            Settled::Agreed { behind }
        }
        Found::Unusable(left) => Settled::LeftAlone(left),
    })
}

/// Looks once more at the folder of a job that was left alone.
pub(super) async fn look_again(
    id: &JobId,
    folder: JobFolder,
    roots: &DataRoots,
    store: &Store,
) -> Result<Settled, JobError> {
    let row = match store.get(id.clone()).await {
        Err(StoreError::Odd(odd)) => Err(odd),
        row => Ok(row?),
    };
    let (id, roots, born) = (id.clone(), roots.clone(), store.born());
    let look = move || {
        Ok(match row {
            Ok(Some(row)) => compare(row, &folder, &roots),
            Ok(None) => judge(&id, &folder, Old { row: None, born }, &roots),
            Err(odd) => unusable(&id, &folder, odd.to_string()),
        })
    };
    let found = blocking(look).await.map_err(JobError::folder("the job's folder cannot be looked at"))?;
    settle(found, store).await
}

/// Compares a row with the folder of its job.
fn compare(row: Job, folder: &JobFolder, roots: &DataRoots) -> Found {
    let id = row.id.clone();
    let unread = |why: String| {
        Found::Unusable(LeftAlone { id: row.id.clone(), why: not_told(&why), is_unread: true, stray: None })
    };
    let has_gone_on = match folder.last_attempt() {
        Ok(last) => !row.state.is_final() && last > row.attempt,
        Err(_) if row.state.is_final() => false,
        Err(error) => return unread(format!("its attempts cannot be told: {error}")),
    };
    let told = match generation_told(folder) {
        Ok(told) => told,
        // It may say of the new attempt that nobody wants it any more.
        Err(error) if has_gone_on => return unread(format!("job.json cannot be read: {error}")),
        Err(error) => {
            // Unreadable is not absent: the file stays until the job changes.
            tracing::error!(job.id = %row.id, %error, "whether job.json is up to date cannot be told");
            Some(row.generation)
        }
    };
    if !has_gone_on && told.is_none_or(|told| told <= row.generation) {
        return if told == Some(row.generation) { Found::Same } else { Found::Behind(row.id) };
    }
    let row = JobFile { job: row, request: None };
    judge(&id, folder, Old { row: Some(&row), born: None }, roots)
}

/// The job of a folder that is newer than the database. One that holds none agrees with it.
fn judge(id: &JobId, folder: &JobFolder, old: Old<'_>, roots: &DataRoots) -> Found {
    match rebuild(id, folder, Some(old), roots) {
        Ok(rebuilt) => rebuilt.map_or(Found::Same, |rebuilt| Found::Newer(Box::new(rebuilt))),
        Err(NotRebuilt::Unread(why)) => {
            Found::Unusable(LeftAlone { id: id.clone(), why: not_told(&why), is_unread: true, stray: None })
        }
        Err(NotRebuilt::Unusable(why)) => unusable(id, folder, not_told(&why)),
    }
}

/// The reason to leave a job alone whose folder tells nothing.
fn not_told(why: &str) -> String {
    format!("its folder may be newer than the database and cannot be used: {why}")
}

/// A job that this version cannot carry on, with the attempt of its runner if that may live.
fn unusable(id: &JobId, folder: &JobFolder, why: String) -> Found {
    let left_alone = |why, is_unread, stray| Found::Unusable(LeftAlone { id: id.clone(), why, is_unread, stray });
    match folder.last_attempt() {
        // A runner whose locks cannot be asked may be alive.
        Ok(attempt) => {
            let stray = Some(attempt).filter(|attempt| *attempt > 0 && is_alive(folder).unwrap_or(true));
            left_alone(why, false, stray)
        }
        Err(error) => left_alone(format!("{why}; its attempts cannot be told: {error}"), true, None),
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
            if let Err(error) = remove_tree(&path) {
                tracing::error!(path = %path.display(), %error, "what was made ready for a job cannot be removed");
            }
            continue;
        }
        let is_orphan = match (&deleted, name.parse::<JobId>()) {
            (Some(id), _) => {
                // A job that has its folder was not being deleted: this one is left from before.
                match jobs_dir.join(id.as_str()).try_exists() {
                    Ok(true) => true,
                    Ok(false) => {
                        store.delete(id.clone()).await?;
                        true
                    }
                    Err(error) => {
                        tracing::error!(job.id = %id, %error, "whether the job was being deleted cannot be told");
                        false
                    }
                }
            }
            // The row is written after the folder and before the mirror, and a client is answered
            // after both.
            (None, Ok(id)) => {
                let is_unanswered = folder(jobs_dir, &id).is_unanswered(&id, store.born());
                let is_unanswered = is_unanswered.unwrap_or_else(|error| {
                    tracing::error!(job.id = %id, %error, "whether the folder is left over cannot be told; it stays");
                    false
                });
                is_unanswered && store.get(id).await?.is_none()
            }
            (None, Err(_)) => false,
        };
        if is_orphan && let Err(error) = remove_tree(&path) {
            tracing::error!(path = %path.display(), %error, "the folder of a deleted job cannot be removed");
        }
    }
    Ok(())
}
