//! A job as observers see it.

use std::time::Duration;

use crate::job::Job;
use crate::journal::JobFolder;
use crate::proto::{json, v1};

/// A job as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The job.
    pub job: Job,
    /// Why it waits, in words; empty unless it is queued.
    pub waiting: String,
    /// How far it is.
    pub progress: Option<v1::JobProgress>,
    /// The number of the last journal record that `progress` knows.
    pub sequence: u64,
}

impl View {
    /// A job that nothing happens to any more.
    pub fn of_stored(job: Job) -> Self {
        Self { progress: job.final_progress.clone(), waiting: String::new(), sequence: 0, job }
    }

    /// When it will be removed, if it will, and if that can be written down.
    fn expires(&self) -> Option<prost_types::Timestamp> {
        let ttl = self.job.spec.ttl_after_end.and_then(|ttl| Duration::try_from(ttl).ok())?;
        self.job.ended?.checked_add(ttl).map(Into::into).filter(json::is_time)
    }

    /// The message that clients get.
    pub fn to_proto(&self, folder: &JobFolder) -> v1::Job {
        let Job { id, spec, state, generation, created, started, ended, end, attempt, course, .. } = &self.job;
        v1::Job {
            name: id.name(),
            spec: Some(spec.clone()),
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
            resume_from: course.resume_from.clone(),
            expire_time: self.expires(),
            // Known elsewhere.
            mirror: None,
        }
    }
}
