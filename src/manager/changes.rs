//! The changes of a job: each is committed first, and acted on, written to `job.json`, published
//! and logged only then. A change that the database refuses has not happened: memory holds the same
//! as the database.

use std::ops::Bound;
use std::sync::Arc;

use tokio::time::{Instant, timeout};

use super::live::{Ending, Live, WORTH_TELLING, rung};
use super::task::{Task, blocking};
use super::{JobError, JobFile};
use crate::fault;
use crate::job::end::{self, Verdict};
use crate::job::state::{Event, Outcome, State, next};
use crate::job::{Course, Job, JobId};
use crate::proto::v1;
use crate::scheduler::Wait;
use crate::store::StoreError;

/// Files that are written again in one go: others wait for this task.
const AT_ONCE: usize = 20;

impl Task {
    /// Tells the end of an attempt, and of its job where that ends with it.
    pub(super) async fn finish(
        &mut self,
        live: &mut Live,
        event: Event,
        ending: Ending,
        mut course: Course,
    ) -> Result<(), JobError> {
        let Ending { verdict: Verdict { outcome, reason, message }, exit, log_tail, time, ran } = ending;
        // The code of a program is that of its job; its host has one of its own.
        let program = live.fold.ended(live.job.attempt).filter(|_| live.job.spec.program().is_some());
        let (exit_code, signal) = program.map_or_else(|| exit.code_and_signal(), |said| (said.exit_code, said.signal));
        let label = end::label(reason);
        let words = message.clone();
        let progress = live.fold.progress().or_else(|| live.job.final_progress.clone());
        let end = v1::JobEnd { reason: reason.into(), message, exit_code, signal, log_tail };
        let is_final = matches!(outcome, Outcome::Finished | Outcome::Failed | Outcome::Cancelled);
        if is_final {
            course.waits_for.clear();
        } else {
            course.last_end = Some(end.clone());
        }
        self.advance(live, event, |job| {
            job.final_progress = progress;
            job.course = course;
            if is_final {
                job.end = Some(end);
                job.ended = Some(time);
            }
        })
        .await?;
        if !is_final {
            tracing::warn!(job.id = %live.job.id, reason = label, exit_code, signal, "attempt {} ended: {words}", live.job.attempt);
            return Ok(());
        }
        tracing::info!(job.id = %live.job.id, reason = label, exit_code, signal, "job ended: {words}");
        self.keep_copy(&live.job);
        self.metrics.jobs_finished.with_label_values(&[label.as_str()]).inc();
        if let Some(ran) = ran {
            self.metrics.job_duration.observe(ran.as_secs_f64());
        }
        self.expiry.ended(&live.job, Instant::now());
        Ok(())
    }

    /// Changes a job as an event does, and as `change` says.
    pub(super) async fn advance(
        &mut self,
        live: &mut Live,
        event: Event,
        change: impl FnOnce(&mut Job),
    ) -> Result<(), JobError> {
        let refused = |refusal| JobError::Refused { id: live.job.id.clone(), refusal };
        let state = next(live.job.state, event).map_err(refused)?;
        let change = |job: &mut Job| {
            job.state = state;
            change(job);
        };
        self.amend(live, change).await
    }

    /// Changes a job as `change` says.
    pub(super) async fn amend(&mut self, live: &mut Live, change: impl FnOnce(&mut Job)) -> Result<(), JobError> {
        let mut job = (*live.job).clone();
        job.generation += 1;
        change(&mut job);
        let job = Arc::new(job);
        if let Err(error) = self.write_down(live, job.clone()).await {
            // The database is the truth, also where it took a change and failed to say so.
            if let (StoreError::Conflict { .. }, Ok(Some(stored))) = (&error, self.store.get(job.id.clone()).await) {
                live.job = Arc::new(stored);
            }
            return Err(error.into());
        }
        live.job = job;
        fault::point("job-committed");
        if live.job.state != State::Queued {
            live.waiting = None;
        }
        tracing::info!(job.id = %live.job.id, job.state = %live.job.state, job.generation = live.job.generation, "job changed");
        let job = live.job.clone();
        self.write_job_file(&job).await;
        live.publish();
        Ok(())
    }

    /// Tells the database, and who watches the job for how long that has taken, where it takes
    /// long.
    async fn write_down(&self, live: &mut Live, job: Arc<Job>) -> Result<(), StoreError> {
        let mut update = std::pin::pin!(self.store.update(job));
        let (begun, before) = (Instant::now(), live.waiting.clone());
        loop {
            if let Ok(done) = timeout(WORTH_TELLING, update.as_mut()).await {
                if live.waiting != before {
                    live.waiting = before;
                    live.publish();
                }
                return done;
            }
            let Some(seconds) = rung(begun.elapsed(), WORTH_TELLING) else { continue };
            let words = format!(
                "a change of it has been on its way into the database for more than {seconds} s: the disk is slow, or another program holds it"
            );
            live.waits_for(Wait::For(words.into()));
        }
    }

    /// Writes job.json, from which a lost database can be rebuilt. The database is the truth while
    /// it is there; what cannot be written is written later.
    pub(super) async fn write_job_file(&mut self, job: &Arc<Job>) {
        match self.try_to_write_job_file(job.clone()).await {
            Ok(()) => drop(self.unwritten.remove(&job.id)),
            Err(error) => {
                if self.unwritten.insert(job.id.clone()) {
                    tracing::error!(job.id = %job.id, %error, "job.json cannot be written and will be tried again");
                }
            }
        }
    }

    /// Keeps the copy of a job. It is complete only with the job.json that tells of the end.
    pub(super) fn keep_copy(&self, job: &Job) {
        let is_over = job.state.is_final() && !self.unwritten.contains(&job.id);
        self.mirrors.keep(job, self.folder(&job.id), is_over);
    }

    async fn try_to_write_job_file(&self, job: Arc<Job>) -> std::io::Result<()> {
        let folder = self.folder(&job.id);
        let request = self.store.request_of(job.id.clone()).await.map_err(std::io::Error::other)?;
        blocking(move || JobFile { job: (*job).clone(), request }.write(&folder)).await
    }

    /// Writes some of what could not be written before, as far as that works now. The next call
    /// goes on behind them.
    pub(super) async fn write_job_files_again(&mut self) {
        let after = self.tried_to_write.take().map_or(Bound::Unbounded, Bound::Excluded);
        let next: Vec<JobId> = self.unwritten.range((after, Bound::Unbounded)).take(AT_ONCE).cloned().collect();
        if next.len() == AT_ONCE {
            self.tried_to_write = next.last().cloned();
        }
        for id in next {
            fault::point("job-file-late");
            let job = match self.live.get(&id) {
                Some(live) => Ok(Some(live.job.clone())),
                None => self.store.get(id.clone()).await.map(|job| job.map(Arc::new)),
            };
            match job {
                // Somebody has removed it.
                Ok(None) => drop(self.unwritten.remove(&id)),
                Ok(Some(job)) => {
                    let folder = self.folder(&id);
                    let is_there = blocking(move || folder.path().try_exists()).await;
                    if matches!(is_there, Ok(false)) {
                        self.unwritten.remove(&id);
                    } else if self.try_to_write_job_file(job.clone()).await.is_ok() {
                        self.unwritten.remove(&id);
                        self.keep_copy(&job);
                    }
                }
                Err(_) => {}
            }
        }
    }
}
