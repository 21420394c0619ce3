//! What can go wrong with a request about jobs.

use std::io;

use crate::job::state::Refusal;
use crate::job::{JobId, Violations};
use crate::store::StoreError;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The request has mistakes.
    #[error("the spec has mistakes: {0}")]
    Invalid(Violations),
    /// The queue is full.
    #[error("the queue is full: {limit} jobs wait, and jobs.max_queued in the settings is {limit}")]
    QueueFull {
        /// Jobs that may wait.
        limit: usize,
    },
    /// The jobs' folders hold more than the settings allow.
    #[error(
        "the jobs' folders hold {held} bytes, and jobs.max_state_bytes in the settings is {limit}; delete jobs that nobody needs, or \
         give jobs a ttl_after_end"
    )]
    StateFull {
        /// What they hold.
        held: u64,
        /// What they may hold.
        limit: u64,
    },
    /// The id of the request belongs to another one.
    #[error("request_id is {request_id}, with which {} was asked for by another spec; take a new one", job.name())]
    RequestTaken {
        /// The id.
        request_id: String,
        /// The job of the other request.
        job: JobId,
    },
    /// There is no such job.
    #[error("there is no job {}", .0.name())]
    Unknown(JobId),
    /// The job is in a state that does not allow it.
    #[error("{}: {refusal}", id.name())]
    Refused {
        /// The job.
        id: JobId,
        /// Why.
        refusal: Refusal,
    },
    /// The runner does not work on this machine.
    #[error("no job can run here: {0}")]
    RunnerBroken(String),
    /// The machine lacks something for the moment, so that a request could not be judged.
    #[error("the machine is short of something now, and the request could not be judged; try again later: {what}")]
    Shortage {
        /// What could not be done, with the system's words.
        what: String,
    },
    /// The daemon is shutting down.
    #[error("torchd is shutting down and takes no more jobs")]
    ShuttingDown,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A job's folder could not be read or written.
    #[error("{what}: {cause}")]
    Folder {
        /// What was being done.
        what: String,
        /// The system's words.
        cause: io::Error,
    },
    /// The manager has ended.
    #[error("torchd has shut down")]
    Gone,
}

impl JobError {
    /// A folder could not be read or written.
    pub(super) fn folder(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |cause| Self::Folder { what, cause }
    }

    /// Whether the next change is likely to fail as this one has.
    pub(super) fn is_of_database(&self) -> bool {
        matches!(self, Self::Store(StoreError::Sqlite(_)))
    }
}
