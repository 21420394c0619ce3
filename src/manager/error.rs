//! The errors of requests about jobs.

use std::io;
use std::sync::Arc;

use crate::job::state::Refusal;
use crate::job::{JobId, Violations};
use crate::journal::Damaged;
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
    /// An owner has as many jobs in the queue as one may.
    #[error("{limit} jobs of {owner} wait, and jobs.max_queued_per_owner in the settings is {limit}")]
    OwnerQueueFull {
        /// The owner.
        owner: Arc<str>,
        /// Jobs that may wait.
        limit: usize,
    },
    /// The folders of an owner's jobs hold more than one may have.
    #[error(
        "the folders of the jobs of {owner} hold {held} bytes, and jobs.max_state_bytes_per_owner in the settings is {limit}; delete jobs \
         that nobody needs"
    )]
    OwnerStateFull {
        /// The owner.
        owner: Arc<str>,
        /// Bytes that they hold.
        held: u64,
        /// Bytes that they may hold.
        limit: u64,
    },
    /// The jobs' folders hold more than the settings allow.
    #[error(
        "the jobs' folders hold {held} bytes, and jobs.max_state_bytes in the settings is {limit}; delete jobs that nobody needs, or \
         give jobs a ttl_after_end"
    )]
    StateFull {
        /// Bytes that they hold.
        held: u64,
        /// Bytes that they may hold.
        limit: u64,
    },
    /// The files that a rank on another machine brings are more than the owner of its job may have.
    #[error(
        "the files that a rank brings have {needed} bytes, the folders of the jobs of {owner} hold {held}, and jobs.max_state_bytes_per_owner in the \
         settings is {limit}; delete jobs that nobody needs"
    )]
    OwnerHasNoRoom {
        /// The owner.
        owner: Arc<str>,
        /// Bytes of the files.
        needed: u64,
        /// Bytes that the folders hold.
        held: u64,
        /// Bytes that they may hold.
        limit: u64,
    },
    /// The copies that a job begins with, or the files that a rank on another machine brings, are
    /// larger than the room that is left.
    #[error(
        "{files} {needed} bytes, and {left} are left, on the disk of the jobs' folders or of \
         jobs.max_state_bytes in the settings; delete jobs that nobody needs"
    )]
    NoRoom {
        /// Which files they are, up to the number of their bytes.
        files: &'static str,
        /// Bytes of the files.
        needed: u64,
        /// Bytes that are left.
        left: u64,
    },
    /// The files that a request names did not answer in time, or too many requests wait for files.
    #[error("{0}; ask again later")]
    FilesUnavailable(String),
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
    /// Every checkpoint that the job could go on from is damaged.
    #[error(
        "{}: no checkpoint can be used ({}); mend one or copy one back, or begin anew with from_scratch (torchctl resume --from-scratch)",
        id.name(), in_words(damaged)
    )]
    BadCheckpoints {
        /// The job.
        id: JobId,
        /// All of them, newest first.
        damaged: Vec<Damaged>,
    },
    /// The data of the job are not those that its checkpoint was made with.
    #[error("{}: {what}", id.name())]
    DataChanged {
        /// The job.
        id: JobId,
        /// How they differ, and what can be done.
        what: String,
    },
    /// The job has nothing but a checkpoint to begin with.
    #[error("{}: it cannot begin anew, as its warm_start.resume wants it to go on from a checkpoint; create another job", .0.name())]
    NothingToBeginWith(JobId),
    /// The job's folder may be newer than the database and cannot be used, or its row cannot be
    /// read.
    #[error("{}: nothing can be done with it, as {why}{}", id.name(), if *is_unread { "; try again later" } else { "" })]
    LeftAlone {
        /// The job.
        id: JobId,
        /// Why it cannot be used.
        why: String,
        /// It cannot be read now, and is looked at again.
        is_unread: bool,
    },
    /// The runner does not work on this machine.
    #[error("no model can run here: {0}")]
    RunnerBroken(String),
    /// The machine lacks something for the moment, so that a request could not be judged.
    #[error("the machine is short of something now, and the request could not be judged; try again later: {what}")]
    Shortage {
        /// The action that failed, with the system's words.
        what: String,
    },
    /// The daemon is shutting down.
    #[error("torchd is shutting down and takes no more jobs")]
    ShuttingDown,
    /// The database has too much to answer for now.
    #[error("{0}")]
    Busy(StoreError),
    /// The database failed.
    #[error(transparent)]
    Store(StoreError),
    /// A job's folder could not be read or written.
    #[error("{what}: {cause}")]
    Folder {
        /// The action that failed.
        what: String,
        /// The system's words.
        cause: io::Error,
    },
    /// The manager has ended.
    #[error("torchd has shut down")]
    Gone,
}

fn in_words(damaged: &[Damaged]) -> String {
    damaged.iter().map(Damaged::to_string).collect::<Vec<_>>().join("; ")
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy(_) => Self::Busy(error),
            _ => Self::Store(error),
        }
    }
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
