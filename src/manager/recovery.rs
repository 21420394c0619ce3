//! What the last daemon left behind: jobs that had runners are ended here and judged by what their folders tell.

use std::io;
use std::path::Path;

use super::live::Ending;
use super::{JobError, folder};
use crate::job::end::{self, Exit, StopCause, Verdict};
use crate::job::state::Outcome;
use crate::job::{Job, JobId, State};
use crate::journal::{JobFolder, JournalTail, ProgressFold};
use crate::proto::v1::JobEndReason;
use crate::store::Store;
use crate::supervisor::{end_leftover, last_lines};

/// What became of a job whose daemon died.
pub(super) struct Found {
    pub(super) ending: Ending,
    pub(super) fold: ProgressFold,
}

/// Ends the runner of a job and judges the job. Blocks. An error only where a runner may still be there; a folder that is damaged
/// or gone ends its own job and no other.
pub(super) fn find_out(job: &Job, folder: &JobFolder) -> io::Result<Found> {
    let mut fold = ProgressFold::default();
    let exit = match end_leftover(folder, job.attempt) {
        Ok(exit) => exit,
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Err(error),
        Err(error) => {
            tracing::error!(job.id = %job.id, %error, "the job's folder cannot be used");
            let verdict = Verdict {
                outcome: Outcome::Failed,
                reason: JobEndReason::Interrupted,
                message: format!("the daemon died while the job ran, and the job's folder cannot be used: {error}"),
            };
            return Ok(Found { ending: Ending { verdict, exit: Exit::Unknown, log_tail: Vec::new() }, fold });
        }
    };
    let mut tail = JournalTail::new(folder.clone());
    loop {
        match tail.read(10_000) {
            Ok(records) if records.is_empty() => break,
            Ok(records) => records.iter().for_each(|record| fold.add(record)),
            Err(error) => {
                tracing::error!(job.id = %job.id, %error, "the journal cannot be read to its end");
                break;
            }
        }
    }
    // Nothing but a user's cancellation leads to STOPPING.
    let stop = (job.state == State::Stopping).then_some(StopCause::Cancel);
    let verdict = end::judge(exit, fold.ended(), stop, fold.started().is_some());
    Ok(Found { ending: Ending { verdict, exit, log_tail: last_lines(&folder.log(), 20) }, fold })
}

/// The name of a folder whose job is being deleted.
pub(super) const DELETED: &str = ".deleted-";

/// Finishes what was interrupted: deletions that had begun, and folders of jobs that were never promised to anybody.
pub(super) async fn tidy(jobs_dir: &Path, store: &Store) -> Result<(), JobError> {
    let cannot = || JobError::folder(format!("{} cannot be read", jobs_dir.display()));
    let entries = std::fs::read_dir(jobs_dir).map_err(cannot())?;
    for entry in entries {
        let path = entry.map_err(cannot())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let deleted = name.strip_prefix(DELETED).and_then(|id| id.parse::<JobId>().ok());
        let is_orphan = match (&deleted, name.parse::<JobId>()) {
            (Some(id), _) => {
                store.delete(id.clone()).await?;
                true
            }
            // The row is written after the folder and before the mirror, and a client is answered after both.
            (None, Ok(id)) => !folder(jobs_dir, &id).job().exists() && store.get(id).await?.is_none(),
            (None, Err(_)) => false,
        };
        if is_orphan && let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::error!(path = %path.display(), %error, "the folder of a deleted job cannot be removed");
        }
    }
    Ok(())
}
