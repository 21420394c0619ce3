//! Starts and preempts jobs: hands the queue to the scheduler and carries its plan out.

use tokio::time::Instant;

use super::JobError;
use super::afar::{Part, is_afar};
use super::live::Live;
use super::task::Task;
use crate::gpu::Holder;
use crate::job::end::StopCause;
use crate::job::order::{Lease, LeasedDevice, LeasedGpu};
use crate::job::{Job, State};
use crate::proto::v1;
use crate::scheduler::{self, GpuWish, Held, Line, Machine, Request, Wait};
use crate::shortage::is_shortage;

impl Task {
    /// Tells the watcher of GPUs which jobs hold which.
    pub(super) fn tell_holders(&self) {
        let holder = |live: &Live| {
            let gpus: Vec<_> = live.lease.as_ref()?.gpus.iter().map(|gpu| gpu.visible.clone()).collect();
            (!gpus.is_empty()).then(|| Holder {
                job: live.job.id.name(),
                gpus,
                process_groups: live.process_groups.clone(),
                ended: None,
            })
        };
        self.watcher.hold(self.live.busy().filter_map(holder).collect());
    }

    /// Why a GPU of a job has failed since the job has it; None where none has.
    pub(super) fn gpu_fault(&self, live: &Live) -> Option<String> {
        live.lease.as_ref()?.gpus.iter().find_map(|leased| self.fault_of(leased, live))
    }

    fn fault_of(&self, leased: &LeasedGpu, live: &Live) -> Option<String> {
        let slot = self.slots.iter().find(|slot| slot.uuid == leased.visible)?;
        let is_it =
            |event: &v1::GpuEvent| event.effect() == v1::GpuHealthState::Failed && event.sequence > live.gpu_events;
        // The first one names the cause; what follows are its consequences.
        let events = self.watcher.events().list(&format!("gpus/{}", slot.gpu_uuid), None, 100);
        let event = events.iter().rev().find(|event| is_it(event));
        event.map(|event| format!("{}: {}", slot.label, event.message)).or_else(|| slot.lost.clone())
    }

    /// Stops the runners that have run as long as their jobs may.
    pub(super) fn end_jobs_that_ran_too_long(&mut self) {
        let now = Instant::now();
        for id in self.live.busy_ids() {
            let Some(live) = self.live.get_mut(&id) else { continue };
            if live.stop.is_none()
                && live.deadline.is_some_and(|deadline| deadline <= now)
                && let Some(runner) = &live.runner
            {
                tracing::warn!(job.id = %id, "the job has run as long as its max_duration allows; its runner is stopped");
                live.stop = Some(StopCause::MaxDuration);
                runner.stop();
            }
        }
    }

    /// Stops the runners whose GPU has failed under them.
    pub(super) fn end_jobs_of_lost_gpus(&mut self) {
        for id in self.live.busy_ids() {
            let Some(live) = self.live.get_mut(&id) else { continue };
            let mut leased = live.lease.iter().flat_map(|lease| &lease.gpus);
            let is_lost =
                leased.any(|leased| self.slots.iter().any(|slot| slot.uuid == leased.visible && slot.lost.is_some()));
            if is_lost
                && live.stop.is_none()
                && let Some(runner) = &live.runner
            {
                tracing::error!(job.id = %id, "the GPU of the job has failed; its runner is stopped");
                live.stop = Some(StopCause::GpuLost);
                runner.stop();
            }
        }
    }

    /// Starts what fits, and tells the others why they wait.
    pub(super) async fn schedule(&mut self) {
        let now = Instant::now();
        self.planned = now;
        self.line = Line::default();
        if !self.closing.is_empty() {
            return;
        }
        self.record_ends().await;
        let is_early = |live: &&Live| live.not_before().is_some_and(|time| time > now);
        let is_waiting = |live: &&Live| {
            live.job.state == State::Queued && !live.is_bound() && !self.left_alone.contains_key(&live.job.id)
        };
        let waiting = || self.live.iter().filter(is_waiting);
        let due = || waiting().filter(|live| !is_early(live));
        let afar = due().filter(|live| is_afar(live)).map(|live| live.job.id.clone()).collect();
        let queued = due().filter(|live| !is_afar(live));
        let early: Vec<_> = waiting()
            .filter(is_early)
            .map(|live| {
                let put_off = live.put_off.as_ref().filter(|put_off| put_off.until > now);
                let words = put_off.map_or_else(|| before_restart(live, now), |put_off| put_off.words.clone());
                (live.job.id.clone(), Wait::For(words.into()))
            })
            .collect();
        // The one start that is tried for all is known to work when its runner has signed.
        let is_tried = || {
            let mut begun = self.live.busy().filter(|live| live.job.state == State::Starting);
            begun.any(|live| live.runner.is_some() && live.process_groups.is_empty() && !is_afar(live))
        };
        let most = match self.shortfall.words() {
            Some(_) if is_tried() => 0,
            _ => self.shortfall.allows(Instant::now()),
        };
        let shortfall = self.shortfall.words();
        let plan = match shortfall.as_ref().filter(|_| most == 0) {
            Some(reason) => {
                let wait = Wait::For(reason.as_str().into());
                scheduler::Plan {
                    wait: queued.map(|live| (live.job.id.clone(), wait.clone())).collect(),
                    ..Default::default()
                }
            }
            None => {
                let machine = Machine {
                    cpu_slots: self.settings.cpu_slots,
                    gpus: self.slots.clone(),
                    share_with_foreign: self.settings.share_with_foreign,
                    // Whether the room that others make can be used is not known in a shortfall.
                    preempts: self.settings.preempts && shortfall.is_none(),
                    max_running_per_owner: self.settings.quotas.running,
                };
                // Jobs that cannot run hold back nobody.
                let (mut queue, mut blocked) = (Vec::new(), Vec::new());
                for live in queued {
                    let request = self.request(&live.job);
                    match self.blocked(live, &request) {
                        None => queue.push(request),
                        Some(reason) => blocked.push((request.id, Wait::For(reason.into()))),
                    }
                }
                let held: Vec<Held> = self.live.busy().filter_map(held).collect();
                let mut plan = scheduler::plan(&queue, &held, &self.turns, &machine);
                plan.wait.extend(blocked);
                if let Some(reason) = shortfall {
                    plan.line = Line::default();
                    if plan.start.is_empty() {
                        self.shortfall.untried(now);
                    }
                    let wait = Wait::For(reason.into());
                    let others = plan.start.drain(most.min(plan.start.len())..);
                    plan.wait.extend(others.map(|(id, _)| (id, wait.clone())));
                }
                plan
            }
        };
        let mut is_as_planned = plan.start.is_empty() || plan.line.outlasts_starts();
        for (id, lease) in plan.start {
            let Some((place, mut live)) = self.live.take(&id) else { continue };
            let started = self.start(&mut live, Part::Here(lease)).await;
            is_as_planned &= live.runner.is_some();
            if live.runner.is_some() {
                self.turns.took(&live.job.owner);
            }
            if let (Err(error), State::Queued) = (&started, live.job.state) {
                let words = format!("it could not be started and will be tried again: {error}");
                if let JobError::Folder { cause, .. } = error {
                    match is_shortage(cause) {
                        true => self.shortfall.meet(words.clone(), now),
                        false => live.put_off(words.clone(), now),
                    }
                }
                live.waits_for(Wait::For(words.into()));
            }
            let is_hopeless = started.as_ref().is_err_and(JobError::is_of_database);
            self.keep(place, live);
            self.note(&id, started);
            if is_hopeless {
                break;
            }
        }
        self.start_afar(afar).await;
        self.tell_holders();
        for id in plan.preempt {
            let Some(live) = self.live.get_mut(&id) else { continue };
            if let Some(runner) = live.runner.as_ref().filter(|_| live.stop.is_none()) {
                tracing::info!(job.id = %live.job.id, "the job makes room for one of a higher priority");
                live.stop = Some(StopCause::Preempt);
                runner.stop();
            }
        }
        for (id, wait) in plan.wait.into_iter().chain(early) {
            if let Some(live) = self.live.get_mut(&id) {
                live.waits_for(wait);
            }
        }
        if is_as_planned {
            self.line = plan.line;
        }
        self.tell_bound();
    }

    /// Tells a new job why it waits, where that follows from the last plan because all others are
    /// ahead of it: in a long queue a plan takes long. False where a plan is needed.
    pub(super) fn join_line(&mut self, live: &mut Live) -> bool {
        let request = self.request(&live.job);
        // A line knows nothing of the limit of owners.
        if live.is_bound()
            || is_afar(live)
            || self.blocked(live, &request).is_some()
            || self.settings.quotas.running.is_some()
        {
            return false;
        }
        let wait = self.line.join(&request);
        let has_joined = wait.is_some();
        wait.into_iter().for_each(|wait| live.waits_for(wait));
        has_joined
    }

    /// The assumed lease of a runner whose order cannot be read: the resources that its job asked
    /// for, and a GPU that is not known.
    pub(super) fn assumed_lease(&self, job: &Job) -> Lease {
        let Request { cpu_threads, gpu, .. } = self.request(job);
        let device = if gpu.is_some() { LeasedDevice::Cuda } else { LeasedDevice::Cpu };
        Lease { device, cpu_threads, gpus: Vec::new() }
    }

    /// Why no GPU can be given away, where it is not known which one a job has.
    fn unknown_gpu(&self) -> Option<String> {
        let is_unknown = |lease: &Lease| lease.device == LeasedDevice::Cuda && lease.gpus.is_empty();
        let mut here = self.live.busy().filter(|live| !is_afar(live));
        let holder = here.find(|live| live.lease.as_ref().is_some_and(is_unknown))?;
        let name = holder.job.id.name();
        Some(format!("needs a GPU, and which one {name} has is not known: its order cannot be read"))
    }

    /// Why a job cannot run whatever is free: a model without a runner that works, or a GPU that
    /// cannot be given away. Programs bring libraries of their own.
    fn blocked(&self, live: &Live, request: &Request) -> Option<String> {
        let is_program = live.job.spec.program().is_some();
        let on_gpu = || request.gpu.as_ref().map(|_| ());
        let of_libtorch = || match &self.runner {
            Err(reason) => Some(reason.clone()),
            Ok(found) => on_gpu().and_then(|()| self.gpu_block.clone().or_else(|| found.no_cuda())),
        };
        let of_model = if is_program { None } else { of_libtorch() };
        of_model.or_else(|| on_gpu().and_then(|()| self.unknown_gpu()))
    }

    /// The needs of a job.
    pub(super) fn request(&self, job: &Job) -> Request {
        let resources = job.spec.resources;
        Request {
            id: job.id.clone(),
            owner: job.owner.clone(),
            priority: job.spec.priority,
            // The machine may have become smaller since the job was taken.
            cpu_threads: resources.slots().unwrap_or(1).min(self.settings.cpu_slots),
            gpu: resources.gpus().map(|count| GpuWish { count, memory_bytes: resources.gpu_memory_bytes }),
        }
    }
}

/// The resources that a job holds.
pub(super) fn held(live: &Live) -> Option<Held> {
    let lease = live.lease.clone()?;
    // It takes nothing of this machine.
    let lease = if is_afar(live) { Lease { cpu_threads: 0, ..lease } } else { lease };
    Some(Held {
        id: live.job.id.clone(),
        owner: live.job.owner.clone(),
        priority: live.job.spec.priority,
        lease,
        is_leaving: live.stop.is_some(),
    })
}

/// Why a job that failed waits before it is started again.
fn before_restart(live: &Live, now: Instant) -> String {
    let job = &live.job;
    let wait = live.not_before().map(|time| time.saturating_duration_since(now)).unwrap_or_default();
    // Whole seconds: the reason changes no more often than that.
    let wait = humantime::format_duration(std::time::Duration::from_secs(wait.as_secs_f64().ceil() as u64));
    let most = job.spec.retry.max_restarts;
    let why = job.course.last_end.as_ref().map(|end| end.message.clone()).unwrap_or_default();
    format!("restart {} of {most} follows in {wait}, after this: {why}", job.course.restarts)
}
