//! From one attempt to the next: where a runner begins, and what its end means for its job.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::JobError;
use super::afar::Part;
use super::live::{Ending, Live};
use super::task::{Task, blocking};
use crate::beneath::bytes_below;
use crate::fault;
use crate::job::Job;
use crate::job::end::{self, StopCause, Verdict};
use crate::job::order::{Order, Rank};
use crate::job::retry;
use crate::job::state::{Event, Outcome, State};
use crate::journal::{JobFolder, JobLock, ProgressFold, Signature, Survey, cut_torn_end, is_held};
use crate::launches::{Beginning, RankPart};
use crate::proto::v1;
use crate::scheduler::Wait;
use crate::shortage::is_shortage;
use crate::supervisor::{RunnerKind, Start};

/// A runner that loads may be silent this many times as long as one that trains.
const LOADING_FACTOR: u32 = 10;
/// A runner tells something once in this time: as much passes between two of its words.
const TELLS_EVERY: Duration = Duration::from_secs(1);
/// From the last word of a runner to its end it takes no longer than this, or than the grace time
/// where that is longer.
const LEAVING: Duration = Duration::from_secs(15);

/// An order with the limit of event files that those of earlier attempts leave, which are not where
/// its ranks run.
fn less_events(order: Order, folder: &JobFolder) -> Order {
    let held = bytes_below(&folder.tensorboard()).unwrap_or_default();
    Order { max_event_bytes: order.max_event_bytes.saturating_sub(held), ..order }
}

impl Task {
    /// Gives a waiting job its part of the machine and starts its runner. After an error it still
    /// waits.
    pub(super) async fn start(&mut self, live: &mut Live, part: Part) -> Result<(), JobError> {
        let now = SystemTime::now();
        let attempt = live.job.attempt + 1;
        let place = self.folder(&live.job.id);
        if live.job.course.begins_anew {
            set_checkpoints_aside(&live.job, &place).await?;
        }
        let Saved { resume_from, newest_step: resume_step } = saved(&live.job, &place).await?;
        self.advance(live, Event::Assigned, |job| {
            job.attempt = attempt;
            job.started = Some(now);
            job.course.not_before = None;
            job.course.begins_anew = false;
            job.course.resume_from = resume_from;
        })
        .await?;
        live.put_off = None;
        fault::point("job-assigned");
        let (lease, afar) = match part {
            Part::Here(lease) => (lease, None),
            Part::Afar(place) => (Self::lease_afar(&live.job, place.world_size), Some(place)),
        };
        live.lease = Some(lease.clone());
        live.gpu_events = self.watcher.events().newest();
        let ranks = afar.as_ref().map_or(live.job.spec.resources.rank_count(), |place| place.world_size);
        let visible = lease.gpus.iter().map(|gpu| gpu.visible.clone()).collect();
        let of_rank = |rank: u32| if ranks > 1 { lease.of_rank(rank) } else { lease.clone() };
        let leases: Vec<_> = (0..ranks).map(of_rank).collect();
        let order = Order {
            attempt,
            rank: (ranks > 1).then_some(Rank { rank: 0, count: ranks }),
            meeting: None,
            lease: of_rank(0),
            inputs: live.job.inputs.clone(),
            nvml_library: self.settings.nvml_library.clone(),
            max_event_bytes: self.settings.max_event_bytes,
            // Its runner does not begin anew where what it had saved is gone.
            resume_step: resume_step.or(live.job.course.resume_from.as_ref().map(|point| point.step)),
            accepted_data_at: live.job.course.accepted_data_at,
            log_begins: 0,
            limits: self.settings.programs.limits.clone(),
            edits: live.job.course.edits.clone(),
        };
        let (to, launches) = (place.clone(), self.settings.launches.clone());
        let scale = live.job.spec.scale.clone();
        let (job, folder, resources) = (live.job.id.clone(), place.clone(), live.job.spec.resources);
        let beginning = move |place| Beginning {
            job,
            folder,
            attempt,
            place,
            join_timeout: scale.as_ref().map_or(Duration::ZERO, |scale| scale.join_timeout),
            storage: scale.and_then(|scale| scale.storage).map(PathBuf::from),
            part: RankPart {
                cpu_threads: resources.cpu_threads.unwrap_or(1),
                memory_limit_bytes: resources.memory_limit_bytes,
                gpu: resources.gpus().is_some(),
            },
        };
        let write = move || {
            // Nobody writes there now.
            let order = if afar.is_some() { less_events(order, &to) } else { order };
            let log_begins = std::fs::metadata(to.log()).map_or(0, |log| log.len());
            to.prepare_ranks(ranks)?;
            for (rank, lease) in (0..).zip(leases).skip(1) {
                let folder = to.rank(rank);
                let log_begins = std::fs::metadata(folder.log()).map_or(0, |log| log.len());
                let rank = Some(Rank { rank, count: ranks });
                folder.write_order(&Order { log_begins, rank, lease, ..order.clone() })?;
            }
            to.write_order(&Order { log_begins, ..order })?;
            afar.map(|place| launches.begin(beginning(place))).transpose()
        };
        let launch = match blocking(write).await {
            Ok(launch) => launch,
            Err(error) => {
                let words = format!("the order could not be written: {error}");
                let verdict = if is_shortage(&error) {
                    self.shortfall.meet(words.clone(), Instant::now());
                    end::not_started(words)
                } else {
                    Verdict { outcome: Outcome::Failed, reason: v1::JobEndReason::Storage, message: words }
                };
                return self.end(live, Ending::without_process(verdict)).await;
            }
        };
        fault::point("order-written");
        if attempt == 1 {
            self.metrics.queue_wait.observe(seconds(live.job.created, now));
        }
        live.begins(Instant::now());
        let kind = if live.job.spec.program().is_some() { RunnerKind::Host } else { RunnerKind::Runner };
        let memory_bytes = live.job.spec.resources.memory_limit_bytes;
        let nccl_interface = (ranks > 1).then(|| "lo".to_owned());
        let start = Start { kind, visible, memory_bytes, ranks, nccl_interface };
        live.runner = Some(match &launch {
            Some(launch) => self.supervisor.follow_launch(self.settings.launches.clone(), launch.clone()),
            None => self.supervisor.start(live.job.id.clone(), place, attempt, start),
        });
        live.launch = launch;
        fault::point("shim-started");
        Ok(())
    }

    /// Takes a job over whose runner an earlier daemon has started. Whether there is one the locks
    /// tell, and not whether its order can be read.
    pub(super) async fn adopt(&mut self, live: &mut Live) -> Result<(), JobError> {
        let place = self.folder(&live.job.id);
        let attempt = live.job.attempt;
        let ranks = live.job.spec.resources.rank_count();
        let is_afar = live.job.spec.scale.is_some();
        let settle = {
            let (place, launches, id) = (place.clone(), self.settings.launches.clone(), live.job.id.clone());
            move || {
                let launch = if is_afar { launches.adopt(&id, &place, attempt)? } else { None };
                if launch.is_some() {
                    return Ok(launch);
                }
                // An earlier daemon may have died before it made them.
                place.make_rank_folders(ranks)?;
                if !is_held(&place.shim())?
                    && let Some(lock) = JobLock::take(&place)?
                {
                    // A machine that went down may have left anything at the end of the journal,
                    // which watchers would stumble over.
                    cut_torn_end(&place, &lock)?;
                }
                Ok(None)
            }
        };
        let launch = blocking(settle).await;
        if let Err(error) = &launch {
            if matches!(place.path().try_exists(), Ok(false)) {
                tracing::error!(job.id = %live.job.id, %error, "the job's folder cannot be used");
                let message =
                    format!("the daemon died while the job ran, and the job's folder cannot be used: {error}");
                let reason = v1::JobEndReason::Interrupted;
                let verdict = Verdict { outcome: Outcome::Failed, reason, message };
                return self.end(live, Ending::without_process(verdict)).await;
            }
            tracing::error!(%error, journal = %place.journal().display(), "the journal cannot be looked through");
        }
        live.launch = launch.unwrap_or_default();
        live.stop = live.job.course.stop;
        self.find_beginning(live).await;
        tracing::info!(job.id = %live.job.id, attempt, "looking after the runner of an earlier daemon");
        let runner = match &live.launch {
            Some(launch) => self.supervisor.follow_launch(self.settings.launches.clone(), launch.clone()),
            None => self.supervisor.adopt(live.job.id.clone(), place, attempt, ranks),
        };
        if live.stop.is_some() {
            live.let_go();
            runner.stop();
        }
        live.runner = Some(runner);
        self.find_lease(live).await;
        Ok(())
    }

    /// Finds out when an adopted runner began, and by that when it has run as long as it may. While
    /// that cannot be determined the journal tells, as soon as it has been read.
    async fn find_beginning(&self, live: &mut Live) {
        if let Some(launch) = &live.launch {
            return live.adopted(Ok(Some(launch.age())), Instant::now());
        }
        let (place, attempt) = (self.folder(&live.job.id), live.job.attempt);
        let age = move || match Signature::read(&place)?.filter(|runner| runner.attempt == attempt) {
            // A runner that has not signed yet has just begun.
            None => Ok(Some(Duration::ZERO)),
            Some(runner) if runner.is_running()? => runner.age(),
            // After its end the journal tells how long it ran.
            Some(_) => Ok(None),
        };
        let age = blocking(age).await;
        if let Err(error) = &age
            && !live.is_age_unread
        {
            tracing::error!(job.id = %live.job.id, attempt, %error, "how long the runner has run cannot be told and is asked again");
        }
        live.adopted(age, Instant::now());
    }

    /// Finds out what an adopted runner has of the machine: its order tells. While that cannot be
    /// read, it counts as holding what its job asked for, and a GPU that nobody else gets.
    async fn find_lease(&self, live: &mut Live) {
        let (place, attempt) = (self.folder(&live.job.id), live.job.attempt);
        // The order of a rank has its own GPU.
        let read = move || {
            let order = place.read_order(attempt)?;
            let mut lease = order.lease;
            for rank in 1..order.rank.filter(|_| !lease.gpus.is_empty()).map_or(1, |rank| rank.count) {
                lease.gpus.extend(place.rank(rank).read_order(attempt)?.lease.gpus);
            }
            Ok::<_, std::io::Error>(lease)
        };
        let (lease, unread) = match blocking(read).await {
            Ok(lease) => (lease, None),
            Err(error) => (self.assumed_lease(&live.job), Some(error.to_string())),
        };
        live.lease = Some(lease);
        if live.order_unread != unread {
            if let Some(error) = unread.as_ref().filter(|_| live.order_unread.is_none()) {
                tracing::error!(job.id = %live.job.id, attempt, error, "what the runner holds is not known: its order cannot be read");
            }
            live.order_unread = unread;
            live.publish();
        }
    }

    /// Asks again for what could not be read of adopted runners.
    pub(super) async fn read_runners_again(&mut self) {
        let is_unread = |live: &&Live| live.order_unread.is_some() || live.is_age_unread;
        let unread = self.live.busy().filter(is_unread).filter(|live| live.runner.is_some());
        let unread: Vec<_> = unread.map(|live| live.job.id.clone()).collect();
        let mut is_news = false;
        for id in unread {
            let Some((place, mut live)) = self.live.take(&id) else { continue };
            if live.is_age_unread {
                self.find_beginning(&mut live).await;
            }
            if live.order_unread.is_some() {
                self.find_lease(&mut live).await;
                is_news |= live.order_unread.is_none();
            }
            self.keep(place, live);
        }
        if is_news {
            self.tell_holders();
            self.schedule().await;
        }
    }

    /// The end of an attempt, whose runner is gone: the end of its job, or not. After an error the
    /// end is kept and told later.
    pub(super) async fn end(&mut self, live: &mut Live, ending: Ending) -> Result<(), JobError> {
        live.runner = None;
        live.launch = None;
        live.deadline = None;
        live.lease = None;
        live.order_unread = None;
        live.is_age_unread = false;
        live.process_groups.clear();
        live.silent = Duration::ZERO;
        // Watchers of a job that does not run read its journal.
        live.recent = Arc::default();
        let finished = self.conclude(live, ending.clone()).await;
        // One that the database has turned out to know of already needs not be told.
        live.untold_end = (finished.is_err() && live.job.state.is_active()).then_some(ending);
        match &finished {
            Ok(()) => live.stop = None,
            Err(_) if live.untold_end.is_none() => {
                live.stop = None;
                live.waiting = None;
                live.publish();
            }
            Err(error) => {
                let end = live.untold_end.as_ref().map(|ending| ending.verdict.message.as_str()).unwrap_or_default();
                let words = format!(
                    "its runner has ended ({end}), which cannot be written down and will be tried again: {error}"
                );
                live.waits_for(Wait::For(words.into()));
            }
        }
        finished
    }

    async fn conclude(&mut self, live: &mut Live, mut ending: Ending) -> Result<(), JobError> {
        let time = ending.time;
        let place = self.folder(&live.job.id);
        let saved = saved(&live.job, &place).await;
        // Where that cannot be told now, it is looked for again when the job is started.
        let is_known = saved.is_ok();
        let resume_from = match saved {
            // A checkpoint that the runner has reported existed, although the folder is empty now.
            Ok(Saved { resume_from, newest_step: None }) => {
                live.fold.saved(live.job.attempt).map(|step| resume_point(&live.job, step)).or(resume_from)
            }
            Ok(saved) => saved.resume_from,
            Err(_) => live.job.course.resume_from.clone(),
        };
        let mut course = live.job.course.clone();
        course.ran += ending.ran.unwrap_or_default();
        course.stop = None;
        let has_saved =
            resume_from.as_ref().map(|point| point.step) > course.resume_from.as_ref().map(|point| point.step);
        let verdict = &mut ending.verdict;
        let mut is_restart = false;
        match verdict.outcome {
            // Cancelled while its end could not be written down.
            Outcome::Requeued | Outcome::Paused if live.stop == Some(StopCause::Cancel) => {
                let message = format!("cancelled; its runner had ended before: {}", verdict.message);
                *verdict = Verdict { outcome: Outcome::Cancelled, reason: v1::JobEndReason::Cancelled, message };
            }
            Outcome::Failed => {
                let retry = &live.job.spec.retry;
                // A user who wants it off the machine wants no restart.
                let wait = match live.stop {
                    Some(StopCause::Cancel) => None,
                    _ => retry.after(verdict.reason, &course),
                };
                course.was_out_of_memory = verdict.reason == v1::JobEndReason::OutOfMemory;
                match (wait, live.job.state) {
                    (Some(_), State::Stopping) => verdict.outcome = Outcome::Paused,
                    (Some(wait), _) => {
                        course.restarts += 1;
                        is_restart = true;
                        course.fruitless = 0;
                        course.not_before = time.checked_add(wait);
                        live.restart = Instant::now().checked_add(wait);
                        verdict.outcome = Outcome::Requeued;
                    }
                    // Its disk may have room again some day.
                    (None, _)
                        if verdict.reason == v1::JobEndReason::Storage
                            && live.stop != Some(StopCause::Cancel)
                            && live.job.spec.pauses_on_storage_failure =>
                    {
                        verdict.outcome = Outcome::Paused;
                    }
                    (None, _) => {}
                }
            }
            // Nothing has run.
            Outcome::Requeued
                if verdict.reason == v1::JobEndReason::StartFailed && live.job.state != State::Stopping => {}
            Outcome::Requeued if live.stop.is_none() => {
                course.fruitless = match has_saved {
                    true => 0,
                    false => course.fruitless + u32::from(is_known),
                };
                if !retry::goes_on(&course) {
                    verdict.outcome = Outcome::Failed;
                    verdict.message = format!(
                        "interrupted {} times in a row without saving anything new; the last time: {}",
                        course.fruitless, verdict.message
                    );
                }
            }
            // A runner that was lost while a user wanted it to stop.
            Outcome::Requeued if live.job.state == State::Stopping => verdict.outcome = Outcome::Paused,
            Outcome::Requeued | Outcome::Finished | Outcome::Cancelled | Outcome::Paused => {}
        }
        // One that has ended goes on from nowhere: where its last attempt began stays.
        if matches!(ending.verdict.outcome, Outcome::Requeued | Outcome::Paused) {
            course.resume_from = resume_from;
        }
        self.finish(live, Event::Ended(ending.verdict.outcome), ending, course).await?;
        if is_restart {
            self.metrics.runner_restarts.inc();
        }
        Ok(())
    }

    /// Counts and logs the checkpoints that a runner has found damaged since the last look. Runners
    /// tell of them before they train.
    pub(super) fn note_damaged_checkpoints(&self, live: &Live, fold: &ProgressFold) {
        let attempt = live.job.attempt;
        if live.job.state != State::Starting {
            return;
        }
        for damaged in fold.damaged(attempt).iter().skip(live.fold.damaged(attempt).len()) {
            let v1::CheckpointDamaged { path, problem, .. } = damaged;
            self.metrics.checkpoints_damaged.inc();
            tracing::error!(job.id = %live.job.id, checkpoint = path, "a checkpoint is damaged: {problem}");
        }
    }

    /// When the next job may begin its restart.
    pub(super) fn next_restart(&self) -> Option<Instant> {
        // One whose time came since the last plan, while something else was done, is due now.
        self.live.early().filter_map(Live::not_before).filter(|time| *time > self.planned).min()
    }

    /// Stops the runners that have told nothing for longer than their specs allow.
    pub(super) fn end_stalled_jobs(&mut self) {
        let leaving = self.settings.runner.stop_grace.max(LEAVING);
        for id in self.live.busy_ids() {
            let Some(live) = self.live.get_mut(&id) else { continue };
            live.ask_silence();
            let silent = live.silent;
            if live.fold.ended(live.job.attempt).is_some() {
                // It has said its last word, and everything is on the disk: what does not leave now
                // holds a GPU for nothing.
                if let Some(runner) = live.runner.as_ref().filter(|_| silent > leaving)
                    && runner.kill()
                {
                    tracing::warn!(job.id = %id, "the runner has ended its work and does not leave; it is killed");
                }
                continue;
            }
            let timeout = live.job.spec.retry.stall_timeout;
            let Some(timeout) = timeout else { continue };
            // Loading may take its time.
            let is_training = live.fold.started(live.job.attempt).is_some();
            let timeout = if is_training { timeout } else { timeout.saturating_mul(LOADING_FACTOR) };
            if silent > timeout.saturating_add(TELLS_EVERY)
                && live.stop.is_none()
                && let Some(runner) = &live.runner
            {
                tracing::error!(job.id = %id, silent = silent.as_secs_f64(), "the runner tells nothing any more and is stopped");
                live.stop = Some(StopCause::Stalled);
                runner.stop();
            }
        }
    }
}

/// The checkpoints of a job.
pub(super) struct Saved {
    /// Where the job goes on: its newest checkpoint that looks whole. Where none does, or that
    /// cannot be told, the one that it is known to have had; None for a job that has saved nothing.
    pub(super) resume_from: Option<v1::ResumePoint>,
    /// The newest in the folder, damaged or not.
    pub(super) newest_step: Option<u64>,
}

/// The checkpoint of a job at that step.
pub(super) fn resume_point(job: &Job, step: u64) -> v1::ResumePoint {
    v1::ResumePoint { step, checkpoint: format!("{}/{}", job.id.name(), JobFolder::checkpoint_name(step)) }
}

/// Takes the names of all checkpoints of a job away, so that its next attempt begins anew.
pub(super) async fn set_checkpoints_aside(job: &Job, place: &JobFolder) -> Result<(), JobError> {
    let (name, place) = (job.id.name(), place.clone());
    let aside = blocking(move || Survey::of(&place)?.set_aside_after(&place, None)).await;
    aside.map_err(JobError::folder(format!("the checkpoints of {name} cannot be removed")))
}

/// Looks at the checkpoints of a job.
pub(super) async fn saved(job: &Job, place: &JobFolder) -> Result<Saved, JobError> {
    let (name, from) = (job.id.name(), place.clone());
    let survey = blocking(move || Survey::of(&from)).await;
    let survey = survey.map_err(JobError::folder(format!("the checkpoints of {name} cannot be read")))?;
    let newest = survey.newest_whole().ok().flatten().map(|newest| resume_point(job, newest.step()));
    Ok(Saved { resume_from: newest.or_else(|| job.course.resume_from.clone()), newest_step: survey.newest_step() })
}

pub(super) fn seconds(from: SystemTime, to: SystemTime) -> f64 {
    to.duration_since(from).unwrap_or_default().as_secs_f64()
}
