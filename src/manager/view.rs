//! A job as observers see it.

use std::sync::{Arc, OnceLock};

use prost::bytes::Bytes;

use crate::job::outline::Outline;
use crate::job::{Dependency, Job};
use crate::journal::{JobFolder, Recent};
use crate::proto::{json, v1};

/// A job as it is now.
#[derive(Debug)]
pub struct View {
    /// The job.
    pub job: Arc<Job>,
    /// Why it waits, in words: for its turn, for its end to be written down, or for something that
    /// keeps it from going on.
    pub waiting: String,
    /// How far it is.
    pub progress: Option<v1::JobProgress>,
    /// The number of the last journal record that `progress` knows.
    pub sequence: u64,
    /// The newest records, for those who watch.
    pub recent: Arc<Recent>,
    /// The message that watchers get, once the first of them has made it.
    pub(super) encoded: OnceLock<Bytes>,
}

impl View {
    /// A job that nothing happens to any more.
    pub fn of_stored(job: Arc<Job>) -> Self {
        Self {
            progress: job.final_progress.clone(),
            waiting: String::new(),
            sequence: 0,
            recent: Arc::default(),
            encoded: OnceLock::new(),
            job,
        }
    }

    /// Whether its results are copied.
    pub fn has_copy(&self) -> bool {
        self.job.spec.mirror.is_some()
    }

    /// The result of `encode`, made once for all callers.
    pub fn encoded(&self, encode: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.encoded.get_or_init(|| encode(self)).clone()
    }

    /// When it will be removed, if it will, and if that can be written down.
    fn expires(&self) -> Option<prost_types::Timestamp> {
        self.job.ended?.checked_add(self.job.spec.ttl_after_end?).map(Into::into).filter(json::is_time)
    }

    /// The message that clients get.
    pub fn to_proto(&self, folder: &JobFolder) -> v1::Job {
        let Job { id, owner, spec, state, generation, created, started, ended, end, attempt, course, .. } = &*self.job;
        v1::Job {
            name: id.name(),
            spec: Some(spec.to_proto()),
            state: v1::JobState::from(*state).into(),
            generation: *generation,
            create_time: Some((*created).into()),
            start_time: started.map(Into::into),
            end_time: ended.map(Into::into),
            waiting_reason: self.waiting.clone(),
            progress: self.progress.clone(),
            end: end.clone(),
            directory: folder.path().display().to_string(),
            attempt: *attempt,
            restarts: course.restarts,
            last_attempt_end: course.last_end.clone(),
            edits: course.edits.clone(),
            resume_from: course.resume_from.clone(),
            open_dependencies: course.waits_for.iter().map(Dependency::to_proto).collect(),
            expire_time: self.expires(),
            model_outline: self.job.inputs.data().and_then(|data| data.outline.as_ref()).map(Outline::to_proto),
            owner: owner.to_string(),
            // Known elsewhere.
            mirror: None,
        }
    }
}
