//! The task that owns the jobs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::afar::is_afar;
use super::attempts::resume_point;
use super::expiry::Expiry;
use super::live::{Ending, Live};
use super::mirrors::Mirrors;
use super::recovery::{self, LeftAlone, Reconciled};
use super::roster::{Arrival, Roster};
use super::runs::Runs;
use super::shortfall::Shortfall;
use super::{Command, JobError, LiveViews, ManagerSettings, ProbeState, folder};
use crate::compat::explain_loader;
use crate::gpu::{GpuSlot, Watcher};
use crate::job::end::{self, Exit, StopCause, Verdict};
use crate::job::probe::ProbeReport;
use crate::job::state::{Event, Outcome};
use crate::job::{Job, JobId, State};
use crate::journal::JobFolder;
use crate::metrics::Metrics;
use crate::mirror;
use crate::node::landlock_abi;
use crate::proto::v1;
use crate::scheduler::{Line, Turns};
use crate::store::Store;
use crate::supervisor::{Fault, FaultKind, RunnerEvent, RunnerNews, Supervisor};

/// Time until a write that the database refused is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Owns the jobs.
pub(super) struct Task {
    pub(super) settings: Arc<ManagerSettings>,
    pub(super) store: Store,
    pub(super) supervisor: Supervisor,
    pub(super) metrics: Metrics,
    pub(super) mirrors: Mirrors,
    pub(super) runs: Runs,
    /// Jobs that have not ended, in order of arrival.
    pub(super) live: Roster,
    pub(super) views: watch::Sender<LiveViews>,
    pub(super) watcher: Watcher,
    /// The libraries that a runner finds, or why no model can be started: it has not been probed
    /// yet, or does not work.
    pub(super) runner: Result<ProbeReport, String>,
    /// The reason that keeps the machine from starting runners, although the probe has found that
    /// they work.
    pub(super) shortfall: Shortfall,
    /// GPUs that jobs can lease.
    pub(super) slots: Vec<GpuSlot>,
    /// Why jobs that need a GPU wait, although there may be some.
    pub(super) gpu_block: Option<String>,
    /// When a change that has to be tried again could not be made.
    behind_since: Option<Instant>,
    /// Jobs whose job.json does not tell what the database does.
    pub(super) unwritten: BTreeSet<JobId>,
    /// The last of them that was tried again.
    pub(super) tried_to_write: Option<JobId>,
    /// Jobs with which nothing may be done.
    pub(super) left_alone: BTreeMap<JobId, LeftAlone>,
    pub(super) closing: Vec<oneshot::Sender<()>>,
    /// Runners go on when we end.
    leaves_runners: bool,
    /// The time of the last plan: who may begin later than that has not been planned for.
    pub(super) planned: Instant,
    /// The jobs that wait for others by that plan; none where it did not come true.
    pub(super) line: Line,
    /// Which owners had their turns, since this daemon began.
    pub(super) turns: Turns,
    pub(super) expiry: Expiry,
    /// Ends may have to be recorded in jobs that wait for them.
    pub(super) has_unrecorded: bool,
}

/// The parts that the task works with.
pub(super) struct Parts {
    pub(super) supervisor: Supervisor,
    pub(super) metrics: Metrics,
    pub(super) watcher: Watcher,
    pub(super) mirrors: Mirrors,
}

/// The changes of the machine that the task hears of.
pub(super) struct Hints {
    pub(super) probe: watch::Receiver<ProbeState>,
    pub(super) gpu_block: watch::Receiver<Option<String>>,
    pub(super) slots: watch::Receiver<super::gpus::Slots>,
}

impl Task {
    /// Takes up where the last daemon stopped: looks after what runs, keeps what waits.
    pub(super) async fn recover(
        settings: Arc<ManagerSettings>,
        store: Store,
        parts: Parts,
        views: watch::Sender<LiveViews>,
    ) -> Result<Self, JobError> {
        let Parts { supervisor, metrics, watcher, mirrors } = parts;
        recovery::tidy(&settings.jobs_dir, &store).await?;
        let runs = Runs::beside(&settings.jobs_dir);
        let repaired = runs.clone();
        if let Err(error) = blocking(move || repaired.repair()).await {
            tracing::warn!(%error, "the links for TensorBoard cannot be made right");
        }
        let Reconciled { unfinished, unwritten, left_alone } =
            recovery::reconcile(&settings.jobs_dir, &settings.data_roots, &store).await?;
        let mut task = Self {
            settings,
            store,
            supervisor,
            metrics,
            mirrors,
            runs,
            live: Roster::default(),
            views,
            watcher,
            runner: Err("the runner is being asked which libraries it finds".into()),
            shortfall: Shortfall::default(),
            slots: Vec::new(),
            gpu_block: None,
            behind_since: None,
            unwritten,
            tried_to_write: None,
            left_alone: BTreeMap::new(),
            closing: Vec::new(),
            leaves_runners: false,
            planned: Instant::now(),
            line: Line::default(),
            turns: Turns::default(),
            expiry: Expiry::new(Instant::now()),
            has_unrecorded: false,
        };
        for job in task.store.ended_with_mirror().await? {
            if !mirror::is_done(&task.folder(&job.id)) {
                task.keep_copy(&job);
            }
        }
        for job in unfinished {
            task.keep_copy(&job);
            let mut live = Live::new(job);
            if live.job.state.is_active() {
                task.adopt(&mut live).await?;
            }
            if !live.job.state.is_final() {
                task.live.push(live);
            }
        }
        for left in left_alone {
            task.leave_alone(left).await?;
        }
        task.publish_all();
        Ok(task)
    }

    /// Serves until it is told to shut down and, where runners are to end too, every one of them is
    /// gone.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut events: mpsc::Receiver<RunnerEvent>,
        hints: Hints,
    ) {
        let Hints { mut probe, mut gpu_block, mut slots } = hints;
        let mut launchers = self.settings.launches.changes();
        let mut ticks = interval(TRY_AGAIN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.schedule().await;
        // An end that the database refused to the last is told by the folder to the next daemon.
        while self.closing.is_empty() || (!self.leaves_runners && self.live.busy().any(|live| live.runner.is_some())) {
            let deadline = self.live.busy().filter(|live| live.stop.is_none()).filter_map(|live| live.deadline).min();
            // A try that was due at the last plan was made then, or somebody is still at it.
            let again = self.shortfall.again().filter(|again| *again > self.planned);
            let restart = self.next_restart().into_iter().chain(again).min();
            tokio::select! {
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.end_jobs_that_ran_too_long();
                }
                () = ready(()), if self.has_unrecorded && self.closing.is_empty() => self.schedule().await,
                () = sleep_until(restart.unwrap_or_else(Instant::now)), if restart.is_some() => self.schedule().await,
                command = commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => break,
                },
                Some(event) = events.recv() => self.hear(event).await,
                Ok(()) = probe.changed() => {
                    let told = probe.borrow_and_update().clone();
                    if let Some(told) = told {
                        self.runner = told;
                        self.schedule().await;
                    }
                }
                Ok(()) = slots.changed() => {
                    self.slots = slots.borrow_and_update().clone().unwrap_or_default();
                    self.end_jobs_of_lost_gpus();
                    self.schedule().await;
                }
                Ok(()) = launchers.changed() => {
                    launchers.borrow_and_update();
                    self.schedule().await;
                }
                Ok(()) = gpu_block.changed() => {
                    self.gpu_block.clone_from(&gpu_block.borrow_and_update());
                    self.schedule().await;
                }
                _ = ticks.tick() => {
                    self.end_stalled_jobs();
                    self.read_runners_again().await;
                    self.look_at_unread_folders_again().await;
                    self.remove_expired_jobs().await;
                    self.write_job_files_again().await;
                    // Waiting clients have a turn before this: each try may take long.
                    if self.behind_since.is_some_and(|since| since.elapsed() >= TRY_AGAIN) {
                        self.catch_up().await;
                    }
                }
            }
        }
        for reply in self.closing {
            // The caller may have stopped waiting.
            let _ = reply.send(());
        }
    }

    async fn obey(&mut self, command: Command) {
        // A client that has gone away does not undo what it asked for.
        match command {
            Command::Create { admitted, owner, asked, staged, reply } => {
                let _ = reply.send(self.create(*admitted, owner, asked, staged).await);
            }
            Command::Cancel { id, now, reply } => {
                let _ = reply.send(self.cancel(&id, now).await);
                self.schedule().await;
            }
            Command::Pause { id, reply } => {
                let _ = reply.send(self.pause(&id).await);
                self.schedule().await;
            }
            Command::Resume { id, resume, reply } => {
                let _ = reply.send(self.resume(&id, resume).await);
                self.schedule().await;
            }
            Command::SetPriority { id, priority, reply } => {
                let result = self.set_priority(&id, priority).await;
                self.schedule().await;
                // The answer tells where it stands by its new priority.
                let now = self.live.get(&id).map(|live| Arc::new(live.view()));
                let _ = reply.send(result.map(|before| now.unwrap_or(before)));
            }
            Command::Delete { id, reply } => {
                let _ = reply.send(self.delete(&id).await);
            }
            Command::Beat { reply } => {
                let _ = reply.send(());
            }
            Command::KillRunners => {
                for runner in self.live.busy().filter_map(|live| live.runner.as_ref()) {
                    runner.kill();
                }
            }
            Command::Shutdown { leave_runners, reply } => {
                self.closing.push(reply);
                self.leaves_runners = leave_runners;
                for id in self.live.busy_ids().into_iter().filter(|_| !leave_runners) {
                    let Some(live) = self.live.get_mut(&id) else { continue };
                    if let Some(runner) = &live.runner {
                        live.stop.get_or_insert(StopCause::Shutdown);
                        runner.stop();
                    }
                }
            }
        }
    }

    pub(super) async fn stored(&self, id: &JobId) -> Result<Job, JobError> {
        self.store.get(id.clone()).await?.ok_or_else(|| JobError::Unknown(id.clone()))
    }

    async fn hear(&mut self, RunnerEvent { id, what }: RunnerEvent) {
        if self.left_alone.contains_key(&id) {
            return;
        }
        let Some((place, mut live)) = self.live.take(&id) else { return };
        let (before, mut is_freed) = (live.job.state, false);
        let done = match what {
            RunnerNews::Progress { fold, sequence, batch } => {
                self.note_damaged_checkpoints(&live, &fold);
                live.fold = *fold;
                live.sequence = sequence;
                live.silent = Duration::ZERO;
                let recent = Arc::make_mut(&mut live.recent);
                match batch {
                    Some(batch) => recent.push(batch),
                    None => recent.clear(),
                }
                let started = live.fold.started(live.job.attempt).filter(|_| live.job.state == State::Starting);
                let advanced = match started.map(|started| started.first_step) {
                    Some(first_step) => {
                        // It may have passed over a damaged checkpoint.
                        let began = (first_step > 0).then(|| resume_point(&live.job, first_step));
                        self.advance(&mut live, Event::Started, |job| job.course.resume_from = began).await
                    }
                    None => Ok(()),
                };
                live.publish();
                advanced
            }
            RunnerNews::Spawned { process_group } => {
                live.process_groups.push(process_group);
                is_freed = self.shortfall.clear();
                Ok(())
            }
            RunnerNews::Doubt(why) => {
                live.doubts(why);
                Ok(())
            }
            RunnerNews::Ended { exit, fault, log_tail, said, rank } => {
                let attempt = live.job.attempt;
                let is_started = live.fold.started(attempt).is_some();
                let mut verdict = end::judge(exit, said.as_ref(), live.stop, is_started);
                verdict = end::no_memory(verdict, exit, &log_tail);
                if live.job.spec.program().is_some() && landlock_abi().is_ok() {
                    verdict = end::denied(verdict, &log_tail);
                }
                let mut of_machine = None;
                // A runner that could not be loaded leaves the loader's words, and these say what
                // to do.
                if verdict.reason == v1::JobEndReason::StartFailed
                    && let Some(finding) = explain_loader(&self.settings.catalogue, &log_tail.join("\n"))
                {
                    of_machine = Some(finding.in_words());
                }
                // The end that the runner reported, and the stop that a user asked for, hold
                // whatever else is wrong.
                let said = said.as_ref().map(v1::RunnerEnded::reason);
                let is_settled = matches!(verdict.outcome, Outcome::Finished | Outcome::Cancelled | Outcome::Paused)
                    || verdict.reason == v1::JobEndReason::MaxDuration
                    || said.is_some_and(|said| said != v1::JobEndReason::Interrupted);
                match fault.filter(|_| !is_settled) {
                    Some(Fault { kind: FaultKind::Machine, words }) if !is_started => of_machine = Some(words),
                    Some(Fault { kind: FaultKind::Machine, .. }) | None => {}
                    Some(Fault { kind: FaultKind::Lost, words }) => {
                        let reason = v1::JobEndReason::Interrupted;
                        verdict = Verdict { outcome: Outcome::Requeued, reason, message: words };
                    }
                    Some(Fault { kind, words }) => {
                        let is_storage = kind == FaultKind::Storage || is_started;
                        let reason = if is_storage { v1::JobEndReason::Storage } else { v1::JobEndReason::StartFailed };
                        verdict = Verdict { outcome: Outcome::Failed, reason, message: words };
                    }
                }
                match of_machine {
                    // Another machine keeps no job of this one from running.
                    Some(words) if is_afar(&live) => verdict.message = words,
                    None if is_afar(&live) => {}
                    Some(words) => {
                        self.shortfall.meet(words.clone(), Instant::now());
                        verdict = end::not_started(words);
                    }
                    // It was started, and has ended before it could sign.
                    None if live.process_groups.is_empty() && exit != Exit::Unknown => drop(self.shortfall.clear()),
                    None => {}
                }
                // A disk that is gone takes the folder of all jobs with it, and may come back.
                let folder = self.folder(&live.job.id);
                let (place, jobs_dir) = (folder.clone(), self.settings.jobs_dir.clone());
                let is_removed = blocking(move || Ok(!place.path().try_exists()? && jobs_dir.try_exists()?));
                if (!is_settled || verdict.reason == v1::JobEndReason::Storage) && matches!(is_removed.await, Ok(true))
                {
                    let message = format!("somebody has removed {} while the job ran", folder.path().display());
                    verdict = Verdict { outcome: Outcome::Failed, reason: v1::JobEndReason::Interrupted, message };
                }
                if rank > 0 {
                    verdict.message = format!("rank {rank}: {}", verdict.message);
                }
                if let Some(fault) = self.gpu_fault(&live) {
                    verdict = end::gpu_lost(verdict, &fault);
                }
                let ran = Some(live.ran());
                self.end(&mut live, Ending { verdict, exit, log_tail, time: SystemTime::now(), ran }).await
            }
        };
        let (has_slot, is_changed) = (live.lease.is_some(), live.job.state != before);
        self.keep(place, live);
        self.note(&id, done);
        self.tell_holders();
        if !has_slot || is_freed {
            self.schedule().await;
        } else if is_changed {
            self.tell_bound();
        }
    }

    /// Tells the database what it refused before.
    async fn catch_up(&mut self) {
        self.behind_since = None;
        for id in self.live.busy_ids() {
            let Some((place, mut live)) = self.live.take(&id) else { continue };
            let ended = match live.untold_end.take() {
                Some(ending) => self.end(&mut live, ending).await,
                None => Ok(()),
            };
            let is_hopeless = ended.as_ref().is_err_and(JobError::is_of_database);
            self.keep(place, live);
            self.note(&id, ended);
            if is_hopeless {
                return;
            }
        }
        self.schedule().await;
    }

    /// Puts a job back to its place unless it has ended.
    pub(super) fn keep(&mut self, place: Arrival, live: Box<Live>) {
        if live.job.state.is_final() {
            self.views.send_modify(|views| drop(Arc::make_mut(views).remove(&live.job.id)));
        } else {
            self.live.put(place, live);
        }
    }

    /// Logs a change that could not be made, and remembers to come back to it.
    pub(super) fn note(&mut self, id: &JobId, result: Result<(), JobError>) {
        if let Err(error) = result {
            self.behind_since.get_or_insert_with(Instant::now);
            tracing::error!(job.id = %id, %error, "a change of the job could not be made and will be tried again");
        }
    }

    pub(super) fn folder(&self, id: &JobId) -> JobFolder {
        folder(&self.settings.jobs_dir, id)
    }

    /// Tells which jobs are live.
    pub(super) fn publish_all(&self) {
        let views: HashMap<_, _> = self.live.iter().map(|live| (live.job.id.clone(), live.view.subscribe())).collect();
        self.views.send_replace(Arc::new(views));
    }
}

/// Runs what blocks on a thread that may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other).flatten()
}
