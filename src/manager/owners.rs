//! Owners of jobs: in whose name a job is made, and how much one owner may have.

use std::sync::Arc;

use super::task::Task;
use super::{JobError, Manager, View};
use crate::store::Asked;
use crate::uploads::Owner;

/// In whose name a job is made.
#[derive(Debug, Clone)]
pub struct Author {
    /// The owner of the job.
    pub owner: Arc<str>,
    /// The owner of the uploads that it may read.
    pub uploads: Owner,
}

/// How much one owner may have; None for no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct OwnerQuotas {
    /// Jobs that wait.
    pub queued: Option<usize>,
    /// Jobs that run.
    pub running: Option<u32>,
    /// Bytes in the folders of jobs when another one is taken.
    pub bytes: Option<u64>,
}

impl Manager {
    /// Refuses another job of an owner whose jobs hold more than they may.
    pub(super) async fn room_of(&self, owner: &Arc<str>) -> Result<(), JobError> {
        let Some(limit) = self.settings.quotas.bytes else { return Ok(()) };
        let held = self.held_of(owner).await?;
        if held <= limit { Ok(()) } else { Err(JobError::OwnerStateFull { owner: owner.clone(), held, limit }) }
    }

    /// The bytes in the folders of an owner's jobs, as last measured.
    pub(super) async fn held_of(&self, owner: &Arc<str>) -> Result<u64, JobError> {
        let jobs = self.store.ids_of(owner.to_string()).await?;
        Ok(self.held_bytes.borrow().of(&jobs))
    }
}

impl Task {
    /// Refuses another job in the queue where its owner has as many as one may.
    pub(super) fn judge_queued_of(&self, owner: &Arc<str>) -> Result<(), JobError> {
        match self.settings.quotas.queued.filter(|limit| self.live.queued_of(owner) >= *limit) {
            Some(limit) => Err(JobError::OwnerQueueFull { owner: owner.clone(), limit }),
            None => Ok(()),
        }
    }
}

/// The job of an earlier request, where that came from the same owner: nobody learns of the jobs of
/// others by guessing their requests.
pub(super) fn made_by(owner: &str, asked: &Asked, view: Arc<View>) -> Result<Arc<View>, JobError> {
    if *view.job.owner == *owner || view.job.owner.is_empty() {
        return Ok(view);
    }
    Err(JobError::RequestTaken { request_id: asked.request_id.clone(), job: view.job.id.clone() })
}
