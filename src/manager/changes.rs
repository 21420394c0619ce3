//! The changes of a job: each is committed first, and acted on, mirrored, published and logged only then. What the database
//! refuses has not happened: memory holds what the database holds.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::JobError;
use super::live::{Ending, Live};
use super::task::{Task, blocking};
use crate::job::Job;
use crate::job::end::{self, Exit, Verdict};
use crate::job::order::{Lease, Order};
use crate::job::state::{Event, Outcome, State, next};
use crate::journal::write_whole;
use crate::proto::{json, v1};
use crate::store::StoreError;

impl Task {
    /// Gives a waiting job its part of the machine and starts its runner. After an error it still waits.
    pub(super) async fn start(&mut self, live: &mut Live, lease: Lease) -> Result<(), JobError> {
        let now = SystemTime::now();
        let attempt = live.job.attempt + 1;
        self.advance(live, Event::Assigned, |job| {
            job.attempt = attempt;
            job.started = Some(now);
        })
        .await?;
        live.lease = Some(lease.clone());
        let folder = self.folder(&live.job.id);
        let visible = lease.gpu.as_ref().map(|gpu| gpu.visible.clone());
        let nvml_library = self.settings.nvml_library.clone();
        let order = Order { attempt, lease, inputs: live.job.inputs.clone(), nvml_library };
        let place = folder.clone();
        if let Err(error) = blocking(move || place.write_order(&order)).await {
            let verdict = Verdict {
                outcome: Outcome::Failed,
                reason: v1::JobEndReason::Storage,
                message: format!("the order could not be written: {error}"),
            };
            return self.end(live, Ending { verdict, exit: Exit::Unknown, log_tail: Vec::new() }).await;
        }
        self.metrics.queue_wait.observe(seconds(live.job.created, now));
        let limit = live.job.spec.max_duration.and_then(|limit| Duration::try_from(limit).ok());
        live.deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        live.runner = Some(self.supervisor.start(live.job.id.clone(), folder, attempt, visible));
        Ok(())
    }

    /// The end of a job that had a runner, which is gone. After an error the end is kept and told later.
    pub(super) async fn end(&mut self, live: &mut Live, ending: Ending) -> Result<(), JobError> {
        live.runner = None;
        live.deadline = None;
        live.lease = None;
        live.process_group = None;
        let event = Event::Ended(ending.verdict.outcome);
        let finished = self.finish(live, event, ending.clone()).await;
        live.untold_end = finished.is_err().then_some(ending);
        finished
    }

    /// Ends a job.
    pub(super) async fn finish(&mut self, live: &mut Live, event: Event, ending: Ending) -> Result<(), JobError> {
        let Ending { verdict: Verdict { reason, message, .. }, exit, log_tail } = ending;
        let now = SystemTime::now();
        let (exit_code, signal) = match exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(signal) => (None, Some(signal)),
            Exit::Unknown => (None, None),
        };
        let label = end::label(reason);
        let words = message.clone();
        let progress = live.fold.progress();
        self.advance(live, event, |job| {
            job.end = Some(v1::JobEnd { reason: reason.into(), message, exit_code, signal, log_tail });
            job.ended = Some(now);
            job.final_progress = progress;
        })
        .await?;
        tracing::info!(job.id = %live.job.id, reason = label, exit_code, signal, "job ended: {words}");
        self.metrics.jobs_finished.with_label_values(&[label.as_str()]).inc();
        if let Some(started) = live.job.started {
            self.metrics.job_duration.observe(seconds(started, now));
        }
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
        let mut job = live.job.clone();
        job.state = next(job.state, event).map_err(refused)?;
        job.generation += 1;
        change(&mut job);
        if let Err(error) = self.store.update(job.clone()).await {
            // The database is the truth, also where it took a change and failed to say so.
            if let (StoreError::Conflict { .. }, Ok(Some(stored))) = (&error, self.store.get(job.id).await) {
                live.job = stored;
            }
            return Err(error.into());
        }
        live.job = job;
        if live.job.state != State::Queued {
            live.waiting.clear();
        }
        tracing::info!(job.id = %live.job.id, job.state = %live.job.state, job.generation = live.job.generation, "job changed");
        self.mirror(live).await;
        live.publish();
        Ok(())
    }

    /// Writes job.json, from which a lost database can be rebuilt. The database is the truth while it is there.
    pub(super) async fn mirror(&self, live: &Live) {
        let folder = self.folder(&live.job.id);
        let mirrored = json::to_value(&live.view().to_proto(&folder), false).map_err(std::io::Error::other);
        let (attempt, inputs) = (live.job.attempt, serde_json::to_value(&live.job.inputs).unwrap_or_default());
        let written = blocking(move || {
            let whole = serde_json::json!({ "job": mirrored?, "attempt": attempt, "inputs": inputs });
            write_whole(&folder.job(), &serde_json::to_vec_pretty(&whole)?)
        });
        if let Err(error) = written.await {
            tracing::error!(job.id = %live.job.id, %error, "job.json cannot be written");
        }
    }
}

fn seconds(from: SystemTime, to: SystemTime) -> f64 {
    to.duration_since(from).unwrap_or_default().as_secs_f64()
}
