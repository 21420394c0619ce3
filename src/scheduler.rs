//! Decides which waiting jobs start now: a pure plan from the queue, what runs, and what the
//! machine has.
//!
//! The highest priority first, and among equals owners take turns, each with its jobs in the order
//! in which they came (`turns`): a job that does not fit holds back those behind it, so that a
//! large job is never overtaken for ever by small ones. It holds them back over what they share
//! with it, and over nothing else: behind a job that waits for a GPU, jobs that need none start as
//! far as they leave the CPU slots that GPU jobs ahead of them can come to need. A job that waits
//! for something other than jobs (a GPU that has failed, or that others compute on) holds back
//! nobody. Each waiting job is told why it waits. Where the settings want it, running jobs of a
//! lower priority make room for the first that waits.

mod gpus;
mod line;
mod turns;
mod wait;

use std::sync::Arc;

use crate::gpu::GpuSlot;
use crate::job::JobId;
use crate::job::order::{Lease, LeasedDevice, LeasedGpu};
use gpus::{NoGpu, choose};
pub use line::Line;
pub use turns::Turns;
pub use wait::Wait;

/// The machine's resources for jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// CPU cores that jobs may take together.
    pub cpu_slots: u32,
    /// GPUs, and instances of GPUs, that libtorch can use.
    pub gpus: Vec<GpuSlot>,
    /// GPUs on which processes of no job compute are given away all the same.
    pub share_with_foreign: bool,
    /// Running jobs make room for one of a higher priority.
    pub preempts: bool,
    /// Jobs of one owner that may run at once; None for no limit.
    pub max_running_per_owner: Option<u32>,
}

/// The resources of a running job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The job.
    pub id: JobId,
    /// Its owner.
    pub owner: Arc<str>,
    /// The higher the longer it stays.
    pub priority: i32,
    /// Its part of the machine.
    pub lease: Lease,
    /// It was asked to end, and what it has will be free.
    pub is_leaving: bool,
}

/// The needs of a waiting job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The job.
    pub id: JobId,
    /// Its owner.
    pub owner: Arc<str>,
    /// The higher the earlier.
    pub priority: i32,
    /// Cores.
    pub cpu_threads: u32,
    /// GPUs, if any are needed.
    pub gpu: Option<GpuWish>,
}

/// The needs of a job on GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuWish {
    /// How many, at least 1: all or none.
    pub count: u32,
    /// Memory within which it stays on each GPU, which it shares then, in bytes; None for GPUs of
    /// its own.
    pub memory_bytes: Option<u64>,
}

/// The next steps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Jobs to start, with what they get.
    pub start: Vec<(JobId, Lease)>,
    /// Jobs that wait, and why.
    pub wait: Vec<(JobId, Wait)>,
    /// Running jobs that have to make room.
    pub preempt: Vec<JobId>,
    /// Those that wait for others, for a job that comes next.
    pub line: Line,
}

/// Plans: `queue` is in order of arrival, `running` what running jobs have, `turns` which owners had
/// theirs.
pub fn plan(queue: &[Request], running: &[Held], turns: &Turns, machine: &Machine) -> Plan {
    let mut plan = Plan::default();
    let at_work = turns::running(running);
    let mut owners = at_work.clone();
    let mut free_slots = free_slots(running.iter().map(|held| &held.lease), machine);
    let mut held: Vec<LeasedGpu> = running.iter().flat_map(|held| held.lease.gpus.clone()).collect();
    let mut ahead = Ahead::default();
    let queue = turns::ordered(queue, &at_work, turns);
    for (_, request) in &queue {
        let owned = owners.entry(request.owner.clone()).or_default();
        if let Some(most) = machine.max_running_per_owner.filter(|most| *owned >= *most) {
            plan.wait.push((request.id.clone(), Wait::For(all_running(&request.owner, most).into())));
            continue;
        }
        if ahead.line.holds_back(request) {
            plan.wait_behind(request, &mut ahead);
            continue;
        }
        let gpus = match request.gpu.map_or(Ok(Vec::new()), |wish| choose(wish, &held, machine)) {
            Ok(gpus) => gpus,
            Err(NoGpu::Unusable(reason)) => {
                plan.wait.push((request.id.clone(), Wait::For(reason.into())));
                continue;
            }
            Err(NoGpu::Taken(reason)) => {
                plan.wait_for_room(request, reason, &mut ahead, running, machine);
                continue;
            }
        };
        if request.cpu_threads > free_slots {
            let reason = format!(
                "needs {} of the machine's {} CPU slots, {free_slots} are free",
                request.cpu_threads, machine.cpu_slots
            );
            ahead.line.for_slots();
            plan.wait_for_room(request, reason, &mut ahead, running, machine);
            continue;
        }
        let started = plan.start.iter().map(|(_, lease)| lease);
        let kept = ahead.kept_slots(running.iter().map(|held| &held.lease).chain(started), machine.gpus.len());
        if request.cpu_threads > free_slots.saturating_sub(kept) {
            ahead.line.for_slots();
            plan.wait_behind(request, &mut ahead);
            continue;
        }
        *owned += 1;
        free_slots -= request.cpu_threads;
        let device = if gpus.is_empty() { LeasedDevice::Cpu } else { LeasedDevice::Cuda };
        held.extend_from_slice(&gpus);
        plan.start.push((request.id.clone(), Lease { device, cpu_threads: request.cpu_threads, gpus }));
    }
    plan.line = ahead.line.behind_all(&queue, at_work, turns);
    plan
}

/// The jobs of a queue, which is in order of arrival, as they come one after the other: the highest
/// priority first, and among equals owners take turns.
pub fn in_turn(queue: Vec<Request>, running: &[Held], turns: &Turns) -> Vec<Request> {
    let at_work = turns::running(running);
    turns::ordered(&queue, &at_work, turns).into_iter().map(|(_, request)| request.clone()).collect()
}

/// Why a job waits whose owner has all the jobs that may run.
fn all_running(owner: &str, most: u32) -> String {
    let jobs = if most == 1 { "1 job runs".to_owned() } else { format!("{most} jobs run") };
    format!("{jobs} for {owner}, and jobs.max_running_per_owner allows no more")
}

/// The jobs that wait for others, as far as the queue was looked through.
#[derive(Default)]
struct Ahead<'a> {
    line: Line,
    /// Those that wait for a GPU.
    for_gpus: Vec<&'a Request>,
}

impl<'a> Ahead<'a> {
    fn add(&mut self, request: &'a Request) {
        self.line.add(request);
        self.for_gpus.extend(request.gpu.is_some().then_some(request));
    }

    /// The CPU slots that jobs on GPUs can come to need together, beyond those that they have: as
    /// many jobs as there are GPUs, unless some share one, and the largest of them.
    fn kept_slots<'b>(&self, leases: impl Iterator<Item = &'b Lease>, gpus: usize) -> u32 {
        if self.for_gpus.is_empty() {
            return 0;
        }
        let on_gpus: Vec<&Lease> = leases.filter(|lease| lease.device == LeasedDevice::Cuda).collect();
        let has: u32 = on_gpus.iter().map(|lease| lease.cpu_threads).sum();
        let shares = on_gpus.iter().any(|lease| lease.gpu().is_some_and(|gpu| gpu.memory_bytes.is_some()))
            || self.for_gpus.iter().any(|request| request.gpu.is_some_and(|wish| wish.memory_bytes.is_some()));
        let at_once = if shares { usize::MAX } else { gpus };
        let waiting = self.for_gpus.iter().map(|request| request.cpu_threads);
        let mut all: Vec<u32> = on_gpus.iter().map(|lease| lease.cpu_threads).chain(waiting).collect();
        all.sort_unstable_by_key(|threads| std::cmp::Reverse(*threads));
        all.iter().take(at_once).fold(0, |sum: u32, threads| sum.saturating_add(*threads)).saturating_sub(has)
    }
}

impl Plan {
    /// A job waits for those ahead of it.
    fn wait_behind<'a>(&mut self, request: &'a Request, ahead: &mut Ahead<'a>) {
        self.wait.push((request.id.clone(), ahead.line.behind(request)));
        ahead.add(request);
    }

    /// A job waits for running ones: who of them makes room, where it is the first that waits.
    fn wait_for_room<'a>(
        &mut self,
        request: &'a Request,
        reason: String,
        ahead: &mut Ahead<'a>,
        running: &[Held],
        machine: &Machine,
    ) {
        let is_first = ahead.line.is_empty();
        ahead.add(request);
        if machine.preempts && is_first {
            self.preempt = in_the_way(request, &self.start, running, machine);
        }
        let names: Vec<_> = self.preempt.iter().filter(|_| is_first).map(JobId::name).collect();
        let makes_room = if names.is_empty() { String::new() } else { format!("; {} makes room", names.join(" and ")) };
        self.wait.push((request.id.clone(), Wait::For((reason + &makes_room).into())));
    }
}

/// The fewest running jobs of lower priorities without which a job fits, the lowest and newest
/// first; none where it fits once those have ended that were asked to, and none where it would not
/// fit all the same.
fn in_the_way(request: &Request, started: &[(JobId, Lease)], running: &[Held], machine: &Machine) -> Vec<JobId> {
    let fits = |without: &[&Held]| {
        let stays = running.iter().filter(|held| !held.is_leaving && without.iter().all(|gone| gone.id != held.id));
        let leases: Vec<&Lease> = stays.map(|held| &held.lease).chain(started.iter().map(|(_, lease)| lease)).collect();
        let gpus: Vec<LeasedGpu> = leases.iter().flat_map(|lease| lease.gpus.clone()).collect();
        request.cpu_threads <= free_slots(leases.iter().copied(), machine)
            && request.gpu.is_none_or(|wish| choose(wish, &gpus, machine).is_ok())
    };
    let mut lower: Vec<&Held> =
        running.iter().filter(|held| !held.is_leaving && held.priority < request.priority).collect();
    lower.sort_by(|one, other| one.priority.cmp(&other.priority).then(other.id.as_str().cmp(one.id.as_str())));
    let Some(count) = (0..=lower.len()).find(|&count| fits(&lower[..count])) else { return Vec::new() };
    // Some of them may hold nothing that it needs: the highest of those stay.
    let mut leave = lower[..count].to_vec();
    for place in (0..leave.len()).rev() {
        let spared = leave.remove(place);
        if !fits(&leave) {
            leave.insert(place, spared);
        }
    }
    leave.into_iter().map(|held| held.id.clone()).collect()
}

fn free_slots<'a>(leases: impl Iterator<Item = &'a Lease>, machine: &Machine) -> u32 {
    machine.cpu_slots.saturating_sub(leases.map(|lease| lease.cpu_threads).sum())
}

#[cfg(test)]
mod tests;
