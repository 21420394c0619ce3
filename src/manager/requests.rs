//! Requests of users for their jobs.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::attempts::Saved;
use super::live::{Ending, Live};
use super::recovery;
use super::task::{Task, blocking};
use super::{JobError, Resume, View};
use crate::beneath::remove_tree;
use crate::fault;
use crate::job::end::{StopCause, Verdict};
use crate::job::spec::merged;
use crate::job::state::{Event, Outcome, Refusal, next};
use crate::job::{Course, Job, JobId, Spec, State};
use crate::proto::v1;
use crate::store::StoreError;

/// Expired jobs that are removed in one go: others wait for this task.
const MOST_AT_ONCE: usize = 100;

impl Task {
    /// Asks a job to end: in order, or at once.
    pub(super) async fn cancel(&mut self, id: &JobId, now: bool) -> Result<Arc<View>, JobError> {
        self.refuse_left_alone(id)?;
        let Some((place, mut live)) = self.live.take(id) else {
            let job = self.stored(id).await?;
            self.judged(&job, Event::StopRequested)?;
            return Ok(Arc::new(View::of_stored(Arc::new(job))));
        };
        let result = self.cancel_live(&mut live, now).await;
        let view = Arc::new(live.view());
        self.keep(place, live);
        result.map(|()| view)
    }

    async fn cancel_live(&mut self, live: &mut Live, now: bool) -> Result<(), JobError> {
        let state = self.judged(&live.job, Event::StopRequested)?;
        if state == State::Cancelled {
            let verdict = Verdict {
                outcome: Outcome::Cancelled,
                reason: v1::JobEndReason::Cancelled,
                message: format!("cancelled while it was {}", live.job.state),
            };
            let ending = Ending::without_process(verdict);
            let course = live.job.course.clone();
            return self.finish(live, Event::StopRequested, ending, course).await;
        }
        // A cancel replaces a pause that was asked for before.
        if state != live.job.state || live.job.course.stop != Some(StopCause::Cancel) {
            self.advance(live, Event::StopRequested, |job| job.course.stop = Some(StopCause::Cancel)).await?;
        }
        live.stop = Some(StopCause::Cancel);
        live.let_go();
        if let Some(runner) = &live.runner {
            if now {
                runner.kill();
            } else {
                runner.stop();
            }
        }
        Ok(())
    }

    /// Takes a job off the machine.
    pub(super) async fn pause(&mut self, id: &JobId) -> Result<Arc<View>, JobError> {
        self.refuse_left_alone(id)?;
        let Some((place, mut live)) = self.live.take(id) else {
            let job = self.stored(id).await?;
            self.judged(&job, Event::PauseRequested)?;
            return Ok(Arc::new(View::of_stored(Arc::new(job))));
        };
        let result = self.pause_live(&mut live).await;
        let view = Arc::new(live.view());
        self.keep(place, live);
        result.map(|()| view)
    }

    async fn pause_live(&mut self, live: &mut Live) -> Result<(), JobError> {
        let state = self.judged(&live.job, Event::PauseRequested)?;
        if live.job.course.stop == Some(StopCause::Cancel) {
            return Err(JobError::Refused { id: live.job.id.clone(), refusal: Refusal::BeingCancelled });
        }
        if state == live.job.state {
            return Ok(());
        }
        let is_active = live.job.state.is_active();
        self.advance(live, Event::PauseRequested, |job| {
            job.course.stop = is_active.then_some(StopCause::Pause);
            job.course.not_before = None;
        })
        .await?;
        if let Some(runner) = &live.runner {
            live.stop.get_or_insert(StopCause::Pause);
            runner.stop();
        }
        Ok(())
    }

    /// Puts a paused job back into the queue, with edits that have been judged, to begin anew where
    /// that is wanted.
    pub(super) async fn resume(&mut self, id: &JobId, resume: Resume) -> Result<Arc<View>, JobError> {
        self.refuse_left_alone(id)?;
        let Some((place, mut live)) = self.live.take(id) else {
            let state = self.stored(id).await?.state;
            return Err(JobError::Refused { id: id.clone(), refusal: Refusal::NotPaused(state) });
        };
        let result = self.resume_live(&mut live, resume).await;
        let view = Arc::new(live.view());
        self.live.put(place, live);
        result.map(|()| view)
    }

    async fn resume_live(&mut self, live: &mut Live, resume: Resume) -> Result<(), JobError> {
        let Resume { edits, from_scratch, accepts_new_data } = resume;
        self.judged(&live.job, Event::ResumeRequested)?;
        let limit = self.settings.max_queued;
        if self.live.queued() >= limit {
            return Err(JobError::QueueFull { limit });
        }
        self.judge_queued_of(&live.job.owner)?;
        let folder = self.folder(&live.job.id);
        let warm_start = live.job.spec.model().and_then(|work| work.warm_start.as_ref());
        if from_scratch && warm_start.is_some_and(|warm| warm.resume) {
            return Err(JobError::NothingToBeginWith(live.job.id.clone()));
        }
        let begins_anew = from_scratch || live.job.course.begins_anew;
        let (resume_from, accepted_data_at) = match begins_anew {
            true => (None, None),
            false => {
                let Saved { resume_from, newest_step } = super::attempts::saved(&live.job, &folder).await?;
                let newest_step = newest_step.or(resume_from.as_ref().map(|point| point.step));
                let accepted = newest_step.filter(|_| accepts_new_data).or(live.job.course.accepted_data_at);
                (resume_from, accepted)
            }
        };
        let spec = match &edits {
            Some(edits) => Arc::new(live.job.spec.edited(edits).map_err(JobError::Invalid)?),
            None => live.job.spec.clone(),
        };
        self.advance(live, Event::ResumeRequested, |job| {
            // Another size of batches needs other memory.
            let batch_size = |spec: &Spec| spec.model().map(|work| work.batch_size);
            let was_out_of_memory = job.course.was_out_of_memory && batch_size(&spec) == batch_size(&job.spec);
            if let Some(edits) = &edits {
                job.course.edits = Some(merged(&spec, job.course.edits.as_ref(), edits));
            }
            job.spec = spec;
            job.course = Course {
                fruitless: 0,
                resume_from,
                begins_anew,
                accepted_data_at,
                stop: None,
                was_out_of_memory,
                ..job.course.clone()
            };
        })
        .await?;
        fault::point("resume-committed");
        if let Some(step) = accepted_data_at.filter(|_| accepts_new_data) {
            tracing::info!(job.id = %live.job.id, step, "other data than those of the checkpoint are accepted");
        }
        // Checkpoints are removed only after the database has accepted. Those that cannot be
        // removed now are removed before the next attempt begins.
        if begins_anew && let Err(error) = super::attempts::set_checkpoints_aside(&live.job, &folder).await {
            tracing::warn!(job.id = %live.job.id, %error, "the checkpoints stay until the job is started");
        }
        Ok(())
    }

    /// Removes an ended job with its folder.
    pub(super) async fn delete(&mut self, id: &JobId) -> Result<(), JobError> {
        let job = self.stored(id).await?;
        let state = job.state;
        if !state.is_final() || self.live.contains(id) {
            return Err(JobError::Refused { id: id.clone(), refusal: Refusal::NotEnded(state) });
        }
        self.record_end_of(id).await?;
        let aside = recovery::set_aside(&self.settings.jobs_dir, id);
        let (folder, renamed) = (self.folder(id), aside.clone());
        let moved = blocking(move || {
            // An earlier deletion may have left a folder of that name.
            match remove_tree(&renamed) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            match std::fs::rename(folder.path(), &renamed) {
                // Somebody removed it by hand; the row goes too.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                other => other,
            }
        });
        moved.await.map_err(JobError::folder(format!("the folder of {} cannot be removed", id.name())))?;
        // The row goes last: a start that finds the folder set aside finishes the deletion.
        fault::point("job-set-aside");
        if let Err(error) = self.store.delete(id.clone()).await {
            self.delete_without_room(id, &aside, error).await?;
        }
        self.mirrors.forget(id);
        self.expiry.forget(id);
        let (runs, name) = (self.runs.clone(), job.spec.display_name.clone());
        let removed = id.clone();
        let _ = tokio::task::spawn_blocking(move || runs.remove(&removed, &name)).await;
        tracing::info!(job.id = %id, "job deleted");
        // The folder may be large, and others wait for this task. The next start removes the rest
        // of it.
        let id = id.clone();
        tokio::task::spawn_blocking(move || match remove_tree(&aside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::error!(job.id = %id, %error, "the folder of a deleted job cannot be removed");
            }
            _ => {}
        });
        Ok(())
    }

    /// Takes up a deletion that the database refused. Where its disk is full, the folder gives its
    /// room first: people delete jobs in order to have some. Otherwise the job keeps its folder.
    async fn delete_without_room(&self, id: &JobId, aside: &Path, error: StoreError) -> Result<(), JobError> {
        let (folder, aside) = (self.folder(id), aside.to_owned());
        if !error.is_full() {
            let back = blocking(move || std::fs::rename(aside, folder.path())).await;
            if let Err(error) = back {
                tracing::error!(job.id = %id, %error, "the next start deletes the job, whose folder cannot be put back");
            }
            return Err(error.into());
        }
        tracing::warn!(job.id = %id, "the database has no room to delete the job: its folder is emptied first");
        // The folder itself says to the next start that the row has to go.
        let emptied = blocking(move || {
            for entry in std::fs::read_dir(&aside)? {
                let entry = entry?;
                match entry.file_type()?.is_dir() {
                    true => remove_tree(&entry.path())?,
                    false => std::fs::remove_file(entry.path())?,
                }
            }
            Ok(())
        });
        emptied.await.map_err(JobError::folder(format!("the folder of {} cannot be emptied", id.name())))?;
        Ok(self.store.delete(id.clone()).await?)
    }

    /// Removes the jobs whose time after their end is over.
    pub(super) async fn remove_expired_jobs(&mut self) {
        if !self.expiry.is_due(Instant::now()) {
            return;
        }
        let expired = match self.store.expired(SystemTime::now()).await {
            Ok(told) => self.expiry.judge(told, Instant::now()),
            Err(error) => return tracing::error!(%error, "which jobs have expired cannot be told"),
        };
        // A job that is not copied yet is the only copy.
        let is_copied = |id: &JobId| self.mirrors.state(id).is_none_or(|state| state.complete);
        let ready = expired.into_iter().filter(is_copied).collect();
        for id in self.expiry.next(ready, MOST_AT_ONCE) {
            match self.delete(&id).await {
                Ok(()) => tracing::info!(job.id = %id, "the job's ttl_after_end is over"),
                Err(error) => {
                    if self.expiry.refused(&id) {
                        tracing::error!(job.id = %id, %error, "an expired job cannot be removed and will be tried again");
                    }
                    if error.is_of_database() {
                        return;
                    }
                }
            }
        }
    }

    /// The state after an event, or why there is none.
    fn judged(&self, job: &Job, event: Event) -> Result<State, JobError> {
        next(job.state, event).map_err(|refusal| JobError::Refused { id: job.id.clone(), refusal })
    }
}
