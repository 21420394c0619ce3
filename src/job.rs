//! The rules of jobs: identity, spec, states, end, and the order that a runner gets. Pure: nothing
//! here reads a clock, a file or a socket.

pub mod course;
pub mod dependency;
pub mod dry_run;
pub mod end;
pub mod id;
pub mod length;
pub mod order;
pub mod outline;
pub mod probe;
pub mod retention;
pub mod retry;
pub mod spec;
pub mod state;
pub mod violation;

use std::sync::Arc;
use std::time::SystemTime;

use crate::proto::v1;
pub use course::Course;
pub use dependency::Dependency;
pub use id::JobId;
pub use order::{DataInputs, Inputs};
pub use spec::Spec;
pub use state::State;
pub use violation::{Violation, Violations};

/// A job as the daemon keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its identity, and the name of its folder.
    pub id: JobId,
    /// In whose name it was made; empty for one of an earlier version.
    pub owner: Arc<str>,
    /// The request, defaults filled in, with the edits of resumes.
    pub spec: Arc<Spec>,
    /// The files that the request names, found under the data roots.
    pub inputs: Inputs,
    /// Where it stands.
    pub state: State,
    /// Rises with every change.
    pub generation: u64,
    /// Starts of a runner so far.
    pub attempt: u32,
    /// When it was taken.
    pub created: SystemTime,
    /// When its newest runner was started.
    pub started: Option<SystemTime>,
    /// When it ended.
    pub ended: Option<SystemTime>,
    /// How it ended.
    pub end: Option<v1::JobEnd>,
    /// How far it was when its last runner ended. While one runs, the journal tells.
    pub final_progress: Option<v1::JobProgress>,
    /// State that one attempt hands to the next.
    pub course: Course,
}

impl Job {
    /// A job that has just been taken and waits, also for every job that its spec names.
    pub fn queued(id: JobId, owner: Arc<str>, spec: Spec, inputs: Inputs, created: SystemTime) -> Self {
        let course = Course { waits_for: spec.after.clone(), ..Course::default() };
        Self {
            id,
            owner,
            spec: Arc::new(spec),
            inputs,
            state: State::Queued,
            generation: 1,
            attempt: 0,
            created,
            started: None,
            ended: None,
            end: None,
            final_progress: None,
            course,
        }
    }
}
