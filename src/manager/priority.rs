//! Another priority for a job that has not ended. It is recorded as an edit of the spec, as those
//! of resumes are.

use std::sync::Arc;

use super::live::Live;
use super::task::Task;
use super::{Command, JobError, Manager, View};
use crate::job::spec::merged;
use crate::job::state::Refusal;
use crate::job::{JobId, Spec};
use crate::proto::v1;

impl Manager {
    /// Gives a job another priority, which has been judged.
    pub async fn set_priority(&self, id: JobId, priority: i32) -> Result<Arc<View>, JobError> {
        self.ask(|reply| Command::SetPriority { id, priority, reply }).await?
    }
}

impl Task {
    /// Gives a job another priority. One that runs may have to make room by it, or stay.
    pub(super) async fn set_priority(&mut self, id: &JobId, priority: i32) -> Result<Arc<View>, JobError> {
        self.refuse_left_alone(id)?;
        let Some((place, mut live)) = self.live.take(id) else {
            let refusal = Refusal::EndedBeforePriority(self.stored(id).await?.state);
            return Err(JobError::Refused { id: id.clone(), refusal });
        };
        let result = self.set_priority_live(&mut live, priority).await;
        let view = Arc::new(live.view());
        self.keep(place, live);
        result.map(|()| view)
    }

    async fn set_priority_live(&mut self, live: &mut Live, priority: i32) -> Result<(), JobError> {
        if live.job.spec.priority == priority {
            return Ok(());
        }
        let edit = v1::FieldEdit { path: "priority".into(), value: priority.to_string() };
        let edits = v1::JobEdits { set: vec![edit], ..v1::JobEdits::default() };
        self.amend(live, |job| {
            job.spec = Arc::new(Spec { priority, ..(*job.spec).clone() });
            job.course.edits = Some(merged(&job.spec, job.course.edits.as_ref(), &edits));
        })
        .await
    }
}
