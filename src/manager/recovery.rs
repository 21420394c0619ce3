//! What the last daemon left half-done in the folder of jobs.

use std::path::Path;

use super::{JobError, folder};
use crate::job::JobId;
use crate::store::Store;

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
        if name.starts_with(super::warm_start::STAGED) {
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
