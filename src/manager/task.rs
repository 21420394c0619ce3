//! The task that owns the jobs.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot, watch};

use super::recovery::{self, DELETED};
use super::{Admitted, Command, JobError, LiveViews, ManagerSettings, ProbeState, View, folder};
use crate::job::end::{self, Exit, StopCause, Verdict};
use crate::job::order::{Lease, Order};
use crate::job::state::{Event, Refusal, next};
use crate::job::{Job, JobId, State};
use crate::journal::{JobFolder, ProgressFold, write_whole};
use crate::metrics::Metrics;
use crate::proto::{json, v1};
use crate::scheduler::{self, Machine, Request};
use crate::store::Store;
use crate::supervisor::{RunnerEvent, RunnerHandle, RunnerNews, Supervisor};

/// A job that has not ended.
struct Live {
    job: Job,
    waiting: String,
    fold: ProgressFold,
    sequence: u64,
    lease: Option<Lease>,
    runner: Option<RunnerHandle>,
    stop: Option<StopCause>,
    view: watch::Sender<View>,
}

impl Live {
    fn new(job: Job) -> Self {
        let view = watch::channel(View::of_stored(job.clone())).0;
        let fold = ProgressFold::default();
        Self { job, waiting: String::new(), fold, sequence: 0, lease: None, runner: None, stop: None, view }
    }

    fn view(&self) -> View {
        let progress = self.job.final_progress.clone().or_else(|| self.fold.progress());
        View { job: self.job.clone(), waiting: self.waiting.clone(), progress, sequence: self.sequence }
    }

    fn publish(&self) {
        self.view.send_replace(self.view());
    }
}

/// Owns the jobs.
pub(super) struct Task {
    settings: Arc<ManagerSettings>,
    store: Store,
    supervisor: Supervisor,
    metrics: Metrics,
    /// Jobs that have not ended, in order of arrival.
    live: Vec<Live>,
    views: watch::Sender<LiveViews>,
    /// None until the runner has been probed; nothing is started before.
    gpus: Option<u32>,
    closing: Vec<oneshot::Sender<()>>,
}

impl Task {
    /// Takes up where the last daemon stopped: ends what it left running, keeps what waits.
    pub(super) async fn recover(
        settings: Arc<ManagerSettings>,
        store: Store,
        supervisor: Supervisor,
        metrics: Metrics,
        views: watch::Sender<LiveViews>,
    ) -> Result<Self, JobError> {
        recovery::tidy(&settings.jobs_dir, &store).await?;
        let unfinished = store.unfinished().await?;
        let mut task =
            Self { settings, store, supervisor, metrics, live: Vec::new(), views, gpus: None, closing: Vec::new() };
        for job in unfinished {
            let mut live = Live::new(job);
            if live.job.state == State::Queued {
                task.live.push(live);
                continue;
            }
            let (job, place) = (live.job.clone(), task.folder(&live.job.id));
            let found = tokio::task::spawn_blocking(move || recovery::find_out(&job, &place)).await;
            let recovery::Found { verdict, exit, fold, log_tail } = found
                .map_err(std::io::Error::other)
                .flatten()
                .map_err(JobError::folder(format!("the leftovers of {} cannot be cleared", live.job.id.name())))?;
            live.fold = fold;
            task.end(&mut live, verdict, exit, log_tail).await?;
        }
        task.publish_all();
        Ok(task)
    }

    /// Serves until it is told to shut down and every runner is gone.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut events: mpsc::Receiver<RunnerEvent>,
        mut probe: watch::Receiver<ProbeState>,
    ) {
        self.schedule().await;
        loop {
            if !self.closing.is_empty() && !self.live.iter().any(|live| live.job.state.is_active()) {
                break;
            }
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => break,
                },
                Some(event) = events.recv() => self.hear(event).await,
                Ok(()) = probe.changed(), if self.gpus.is_none() => {
                    let told = probe.borrow_and_update().clone();
                    self.gpus = told.map(|report| report.map_or(0, |report| report.cuda_devices));
                    self.schedule().await;
                }
            }
        }
        for reply in self.closing {
            // Whoever asked has stopped waiting.
            let _ = reply.send(());
        }
    }

    async fn obey(&mut self, command: Command) {
        // A client that has gone away does not undo what it asked for.
        match command {
            Command::Create { admitted, reply } => {
                let _ = reply.send(self.create(*admitted).await);
            }
            Command::Cancel { id, reply } => {
                let _ = reply.send(self.cancel(&id).await);
                self.schedule().await;
            }
            Command::Delete { id, reply } => {
                let _ = reply.send(self.delete(&id).await);
            }
            Command::Shutdown { reply } => {
                self.closing.push(reply);
                for live in &mut self.live {
                    if let Some(runner) = &live.runner {
                        live.stop.get_or_insert(StopCause::Shutdown);
                        runner.stop();
                    }
                }
            }
        }
    }

    async fn create(&mut self, admitted: Admitted) -> Result<View, JobError> {
        if !self.closing.is_empty() {
            return Err(JobError::ShuttingDown);
        }
        let limit = self.settings.max_queued;
        if self.live.iter().filter(|live| live.job.state == State::Queued).count() >= limit {
            return Err(JobError::QueueFull { limit });
        }
        let Admitted { spec, inputs, .. } = admitted;
        let now = SystemTime::now();
        let id = loop {
            let id = JobId::new(now, RandomState::new().build_hasher().finish() as u32);
            if !self.folder(&id).path().exists() {
                break id;
            }
        };
        let job = Job {
            id,
            spec,
            inputs,
            state: State::Queued,
            generation: 1,
            attempt: 0,
            created: now,
            started: None,
            ended: None,
            end: None,
            final_progress: None,
        };
        let (folder, spec) = (self.folder(&job.id), job.spec.clone());
        blocking(move || folder.create(&spec))
            .await
            .map_err(JobError::folder(format!("the folder of {} cannot be made", job.id.name())))?;
        self.store.insert(job.clone()).await?;
        tracing::info!(job.id = %job.id, job.state = %job.state, "job created");
        let live = Live::new(job);
        self.mirror(&live).await;
        let view = live.view.subscribe();
        self.live.push(live);
        self.schedule().await;
        self.publish_all();
        let now = view.borrow().clone();
        Ok(now)
    }

    async fn cancel(&mut self, id: &JobId) -> Result<View, JobError> {
        let Some(place) = self.live.iter().position(|live| live.job.id == *id) else {
            let job = self.store.get(id.clone()).await?.ok_or_else(|| JobError::Unknown(id.clone()))?;
            let refused = |refusal| JobError::Refused { id: id.clone(), refusal };
            next(job.state, Event::StopRequested).map_err(refused)?;
            return Ok(View::of_stored(job));
        };
        let mut live = self.live.remove(place);
        let result = self.cancel_live(&mut live).await;
        let view = live.view();
        if live.job.state.is_final() {
            self.publish_all();
        } else {
            self.live.insert(place, live);
        }
        result.map(|()| view)
    }

    async fn cancel_live(&mut self, live: &mut Live) -> Result<(), JobError> {
        let refused = |refusal| JobError::Refused { id: live.job.id.clone(), refusal };
        match next(live.job.state, Event::StopRequested).map_err(refused)? {
            State::Cancelled => {
                let verdict = Verdict {
                    outcome: crate::job::state::Outcome::Cancelled,
                    reason: v1::JobEndReason::Cancelled,
                    message: "cancelled while it waited".into(),
                };
                self.finish(live, State::Cancelled, verdict, Exit::Unknown, Vec::new()).await
            }
            state => {
                live.stop.get_or_insert(StopCause::Cancel);
                if state != live.job.state {
                    self.advance(live, state).await?;
                }
                if let Some(runner) = &live.runner {
                    runner.stop();
                }
                Ok(())
            }
        }
    }

    async fn delete(&mut self, id: &JobId) -> Result<(), JobError> {
        if let Some(live) = self.live.iter().find(|live| live.job.id == *id) {
            return Err(JobError::Refused { id: id.clone(), refusal: Refusal::NotEnded(live.job.state) });
        }
        self.store.get(id.clone()).await?.ok_or_else(|| JobError::Unknown(id.clone()))?;
        let (folder, jobs_dir, name) = (self.folder(id), self.settings.jobs_dir.clone(), format!("{DELETED}{id}"));
        let aside = jobs_dir.join(name);
        let cannot = format!("the folder of {} cannot be removed", id.name());
        let renamed = aside.clone();
        let moved = blocking(move || match std::fs::rename(folder.path(), &renamed) {
            // Somebody removed it by hand; the row goes too.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other,
        });
        moved.await.map_err(JobError::folder(cannot.clone()))?;
        self.store.delete(id.clone()).await?;
        tracing::info!(job.id = %id, "job deleted");
        let removed = blocking(move || match std::fs::remove_dir_all(&aside) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other,
        });
        removed.await.map_err(JobError::folder(cannot))
    }

    async fn hear(&mut self, RunnerEvent { id, what }: RunnerEvent) {
        let Some(place) = self.live.iter().position(|live| live.job.id == id) else { return };
        let mut live = self.live.remove(place);
        match what {
            RunnerNews::Progress { fold, sequence } => {
                live.fold = *fold;
                live.sequence = sequence;
                if live.job.state == State::Starting && live.fold.started().is_some() {
                    let advanced = self.advance(&mut live, State::Running).await;
                    log_failure(&id, advanced);
                }
                live.publish();
                self.live.insert(place, live);
            }
            RunnerNews::Ended { exit, fault, log_tail } => {
                let is_started = live.fold.started().is_some();
                let mut verdict = end::judge(exit, live.fold.ended(), live.stop, is_started);
                if let Some(fault) = fault {
                    let reason = if is_started { v1::JobEndReason::Storage } else { v1::JobEndReason::StartFailed };
                    verdict = Verdict { outcome: crate::job::state::Outcome::Failed, reason, message: fault };
                }
                let ended = self.end(&mut live, verdict, exit, log_tail).await;
                log_failure(&id, ended);
                self.publish_all();
                self.schedule().await;
            }
        }
    }

    /// Starts what fits, and tells the others why they wait.
    async fn schedule(&mut self) {
        if !self.closing.is_empty() {
            return;
        }
        let plan = match self.gpus {
            None => {
                let reason = "the runner is being asked which libraries it finds";
                let queued = self.live.iter().filter(|live| live.job.state == State::Queued);
                scheduler::Plan {
                    start: Vec::new(),
                    wait: queued.map(|live| (live.job.id.clone(), reason.into())).collect(),
                }
            }
            Some(gpus) => {
                let machine = Machine { cpu_slots: self.settings.cpu_slots, gpus };
                let queued = self.live.iter().filter(|live| live.job.state == State::Queued);
                let queue: Vec<Request> = queued.map(|live| self.request(&live.job)).collect();
                let held: Vec<Lease> = self.live.iter().filter_map(|live| live.lease.clone()).collect();
                scheduler::plan(&queue, &held, &machine)
            }
        };
        for (id, lease) in plan.start {
            let Some(place) = self.live.iter().position(|live| live.job.id == id) else { continue };
            let mut live = self.live.remove(place);
            let started = self.start(&mut live, lease).await;
            if live.job.state.is_final() {
                self.publish_all();
            } else {
                self.live.insert(place, live);
            }
            log_failure(&id, started);
        }
        for (id, reason) in plan.wait {
            if let Some(live) = self.live.iter_mut().find(|live| live.job.id == id && live.waiting != reason) {
                live.waiting = reason;
                live.publish();
            }
        }
    }

    fn request(&self, job: &Job) -> Request {
        let resources = job.spec.resources.unwrap_or_default();
        Request {
            id: job.id.clone(),
            // The machine may have become smaller since the job was taken.
            cpu_threads: resources.cpu_threads.unwrap_or(1).min(self.settings.cpu_slots),
            gpu: resources.gpu_count == Some(1),
        }
    }

    async fn start(&mut self, live: &mut Live, lease: Lease) -> Result<(), JobError> {
        let folder = self.folder(&live.job.id);
        let attempt = live.job.attempt + 1;
        let order = Order { attempt, lease: lease.clone(), inputs: live.job.inputs.clone() };
        let place = folder.clone();
        let written = blocking(move || place.write_order(&order)).await;
        let state = next(live.job.state, Event::Assigned)
            .map_err(|refusal| JobError::Refused { id: live.job.id.clone(), refusal })?;
        let now = SystemTime::now();
        live.job.attempt = attempt;
        live.job.started = Some(now);
        live.waiting.clear();
        self.advance(live, state).await?;
        if let Err(error) = written {
            let verdict = Verdict {
                outcome: crate::job::state::Outcome::Failed,
                reason: v1::JobEndReason::Storage,
                message: format!("the order could not be written: {error}"),
            };
            return self.end(live, verdict, Exit::Unknown, Vec::new()).await;
        }
        self.metrics.queue_wait.observe(seconds(live.job.created, now));
        live.runner = Some(self.supervisor.start(live.job.id.clone(), folder, attempt));
        live.lease = Some(lease);
        Ok(())
    }

    /// The end of a job that had a runner.
    async fn end(&mut self, live: &mut Live, verdict: Verdict, exit: Exit, log: Vec<String>) -> Result<(), JobError> {
        let state = next(live.job.state, Event::Ended(verdict.outcome))
            .map_err(|refusal| JobError::Refused { id: live.job.id.clone(), refusal })?;
        self.finish(live, state, verdict, exit, log).await
    }

    async fn finish(
        &mut self,
        live: &mut Live,
        state: State,
        verdict: Verdict,
        exit: Exit,
        log_tail: Vec<String>,
    ) -> Result<(), JobError> {
        let now = SystemTime::now();
        let (exit_code, signal) = match exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(signal) => (None, Some(signal)),
            Exit::Unknown => (None, None),
        };
        let Verdict { reason, message, .. } = verdict;
        let label = end::label(reason);
        tracing::info!(job.id = %live.job.id, reason = label, exit_code, signal, "job ended: {message}");
        live.job.end = Some(v1::JobEnd { reason: reason.into(), message, exit_code, signal, log_tail });
        live.job.ended = Some(now);
        live.job.final_progress = live.fold.progress();
        live.waiting.clear();
        live.lease = None;
        live.runner = None;
        self.metrics.jobs_finished.with_label_values(&[label.as_str()]).inc();
        if let Some(started) = live.job.started {
            self.metrics.job_duration.observe(seconds(started, now));
        }
        // Where the database fails, the folder still tells the end to the next daemon.
        self.advance(live, state).await
    }

    /// Commits a state, then tells it.
    async fn advance(&mut self, live: &mut Live, state: State) -> Result<(), JobError> {
        live.job.state = state;
        live.job.generation += 1;
        let committed = self.store.update(live.job.clone()).await;
        tracing::info!(job.id = %live.job.id, job.state = %state, job.generation = live.job.generation, "job changed");
        self.mirror(live).await;
        live.publish();
        Ok(committed?)
    }

    /// Writes job.json, from which a lost database can be rebuilt. The database is the truth while it is there.
    async fn mirror(&self, live: &Live) {
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

    fn folder(&self, id: &JobId) -> JobFolder {
        folder(&self.settings.jobs_dir, id)
    }

    /// Tells which jobs are live.
    fn publish_all(&self) {
        let views: HashMap<_, _> = self.live.iter().map(|live| (live.job.id.clone(), live.view.subscribe())).collect();
        self.views.send_replace(Arc::new(views));
    }
}

/// Runs what blocks on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other).flatten()
}

fn seconds(from: SystemTime, to: SystemTime) -> f64 {
    to.duration_since(from).unwrap_or_default().as_secs_f64()
}

fn log_failure(id: &JobId, result: Result<(), JobError>) {
    if let Err(error) = result {
        tracing::error!(job.id = %id, %error, "a change of the job could not be completed");
    }
}
