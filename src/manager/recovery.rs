//! What the last daemon left half-done in the folder of jobs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::job_json::generation_told;
use super::task::blocking;
use super::{JobError, folder};
use crate::job::{Job, JobId};
use crate::store::Store;

/// The name of a folder whose job is being deleted.
const DELETED: &str = ".deleted-";

/// Where the folder of a deleted job lies until it is removed.
pub(super) fn set_aside(jobs_dir: &Path, id: &JobId) -> PathBuf {
    jobs_dir.join(format!("{DELETED}{id}"))
}

/// Jobs that had ended and whose job.json is looked at, the newest: the last daemon may have died between the two. Where more of them could
/// not be written for long, `torchd doctor` tells.
const NEWEST_ENDED: usize = 100;

/// The jobs whose job.json tells of an earlier state than the database: the last daemon died, or its disk was full, in between.
pub(super) async fn unmirrored(
    jobs_dir: &Path,
    store: &Store,
    unfinished: &[Job],
) -> Result<BTreeSet<JobId>, JobError> {
    let ended = store.newest_ended(NEWEST_ENDED).await.unwrap_or_else(|error| {
        tracing::error!(%error, "whether job.json of the jobs that ended last is up to date cannot be told");
        Vec::new()
    });
    let jobs: Vec<_> = unfinished.iter().chain(&ended).map(|job| (job.id.clone(), job.generation)).collect();
    let jobs_dir = jobs_dir.to_owned();
    let look = move || {
        let is_behind = |(id, generation): &(JobId, u64)| {
            let folder = folder(&jobs_dir, id);
            if let Err(error) = folder.sweep_after_daemon() {
                tracing::warn!(job.id = %id, %error, "what the last daemon has left half-written cannot be removed");
            }
            generation_told(&folder) != Some(*generation)
        };
        Ok(jobs.into_iter().filter(is_behind).map(|(id, _)| id).collect())
    };
    blocking(look).await.map_err(JobError::folder("the jobs' folders cannot be read"))
}

/// Finishes what was interrupted: deletions that had begun, and folders of jobs that were never promised to anybody.
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
                store.delete(id.clone()).await?;
                true
            }
            // The row is written after the folder and before the mirror, and a client is answered after both.
            (None, Ok(id)) => folder(jobs_dir, &id).is_unanswered(&id, store.born()) && store.get(id).await?.is_none(),
            (None, Err(_)) => false,
        };
        if is_orphan && let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::error!(path = %path.display(), %error, "the folder of a deleted job cannot be removed");
        }
    }
    Ok(())
}
