//! Decides which waiting jobs start now: a pure plan from the queue, what runs, and what the
//! machine has.
//!
//! The highest priority first, and among equals strictly first come, first served: a job that does
//! not fit holds back those behind it, so that a large job is never overtaken for ever by small
//! ones. It holds them back over what they share with it, and over nothing else: behind a job that
//! waits for a GPU, jobs that need none start as far as they leave the CPU slots that GPU jobs
//! ahead of them can come to need. A job that waits for something other than jobs (a GPU that has
//! failed, or that others compute on) holds back nobody. Each waiting job is told why it waits.
//! Where the settings want it, running jobs of a lower priority make room for the first that waits.

mod wait;

use crate::gpu::GpuSlot;
use crate::job::JobId;
use crate::job::order::{Lease, LeasedDevice, LeasedGpu};
pub use wait::Wait;

/// What the machine has for jobs.
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
}

/// What a running job has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The job.
    pub id: JobId,
    /// The higher the longer it stays.
    pub priority: i32,
    /// Its part of the machine.
    pub lease: Lease,
    /// It was asked to end, and what it has will be free.
    pub is_leaving: bool,
}

/// What a waiting job needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The job.
    pub id: JobId,
    /// The higher the earlier.
    pub priority: i32,
    /// Cores.
    pub cpu_threads: u32,
    /// A GPU, if one is needed.
    pub gpu: Option<GpuWish>,
}

/// What a job needs of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuWish {
    /// Memory within which it stays on a GPU that it shares, in bytes; None for a GPU of its own.
    pub memory_bytes: Option<u64>,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Jobs to start, with what they get.
    pub start: Vec<(JobId, Lease)>,
    /// Jobs that wait, and why.
    pub wait: Vec<(JobId, Wait)>,
    /// Running jobs that have to make room.
    pub preempt: Vec<JobId>,
}

/// Why there is no GPU for a job.
enum NoGpu {
    /// Jobs have them all.
    Taken(String),
    /// Nothing that jobs could change.
    Unusable(String),
}

/// Plans: `queue` is in order of arrival, `held` what running jobs have.
pub fn plan(queue: &[Request], running: &[Held], machine: &Machine) -> Plan {
    let mut plan = Plan::default();
    let mut free_slots = free_slots(running.iter().map(|held| &held.lease), machine);
    let mut held: Vec<LeasedGpu> = running.iter().filter_map(|held| held.lease.gpu.clone()).collect();
    let mut ahead = Ahead::default();
    let mut queue: Vec<&Request> = queue.iter().collect();
    queue.sort_by_key(|request| std::cmp::Reverse(request.priority));
    for request in queue {
        if ahead.holds_back(request) {
            plan.wait_behind(request, &mut ahead);
            continue;
        }
        let gpu = match request.gpu.map(|wish| choose(wish, &held, machine)).transpose() {
            Ok(gpu) => gpu,
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
            ahead.for_slots = true;
            plan.wait_for_room(request, reason, &mut ahead, running, machine);
            continue;
        }
        let started = plan.start.iter().map(|(_, lease)| lease);
        let kept = ahead.kept_slots(running.iter().map(|held| &held.lease).chain(started), machine.gpus.len());
        if request.cpu_threads > free_slots.saturating_sub(kept) {
            ahead.for_slots = true;
            plan.wait_behind(request, &mut ahead);
            continue;
        }
        free_slots -= request.cpu_threads;
        let device = if gpu.is_some() { LeasedDevice::Cuda } else { LeasedDevice::Cpu };
        held.extend(gpu.clone());
        plan.start.push((request.id.clone(), Lease { device, cpu_threads: request.cpu_threads, gpu }));
    }
    plan
}

/// The jobs that wait for others, as far as the queue was looked through.
#[derive(Default)]
struct Ahead<'a> {
    first: Option<&'a JobId>,
    jobs: usize,
    /// One of them waits for CPU slots, which all jobs need.
    for_slots: bool,
    /// Those that wait for a GPU.
    for_gpus: Vec<&'a Request>,
}

impl<'a> Ahead<'a> {
    fn add(&mut self, request: &'a Request) {
        self.first.get_or_insert(&request.id);
        self.jobs += 1;
        self.for_gpus.extend(request.gpu.is_some().then_some(request));
    }

    /// Whether what a job needs belongs to a job ahead of it.
    fn holds_back(&self, request: &Request) -> bool {
        self.for_slots || (request.gpu.is_some() && !self.for_gpus.is_empty())
    }

    /// The CPU slots that jobs on GPUs can come to need together, beyond those that they have: as
    /// many jobs as there are GPUs, unless some share one, and the largest of them.
    fn kept_slots<'b>(&self, leases: impl Iterator<Item = &'b Lease>, gpus: usize) -> u32 {
        if self.for_gpus.is_empty() {
            return 0;
        }
        let on_gpus: Vec<&Lease> = leases.filter(|lease| lease.device == LeasedDevice::Cuda).collect();
        let has: u32 = on_gpus.iter().map(|lease| lease.cpu_threads).sum();
        let shares = on_gpus.iter().any(|lease| lease.gpu.as_ref().is_some_and(|gpu| gpu.memory_bytes.is_some()))
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
        let first = ahead.first.unwrap_or(&request.id).clone();
        self.wait.push((request.id.clone(), Wait::Behind { first, jobs: ahead.jobs }));
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
        let is_first = ahead.first.is_none();
        ahead.add(request);
        if machine.preempts && is_first {
            self.preempt = in_the_way(request, &self.start, running, machine);
        }
        let names: Vec<_> = self.preempt.iter().filter(|_| is_first).map(JobId::name).collect();
        let makes_room = if names.is_empty() { String::new() } else { format!("; {} makes room", names.join(" and ")) };
        self.wait.push((request.id.clone(), Wait::For((reason + &makes_room).into())));
    }
}

/// The fewest running jobs of lower priorities without which a job fits, the lowest and newest first; none where it fits once those have
/// ended that were asked to, and none where it would not fit all the same.
fn in_the_way(request: &Request, started: &[(JobId, Lease)], running: &[Held], machine: &Machine) -> Vec<JobId> {
    let fits = |without: &[&Held]| {
        let stays = running.iter().filter(|held| !held.is_leaving && without.iter().all(|gone| gone.id != held.id));
        let leases: Vec<&Lease> = stays.map(|held| &held.lease).chain(started.iter().map(|(_, lease)| lease)).collect();
        let gpus: Vec<LeasedGpu> = leases.iter().filter_map(|lease| lease.gpu.clone()).collect();
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

/// A GPU for a job: the first that is free, or, for one that shares, the fullest that has room for it.
fn choose(wish: GpuWish, held: &[LeasedGpu], machine: &Machine) -> Result<LeasedGpu, NoGpu> {
    let mut obstacles = Vec::new();
    let mut could_be = 0;
    let mut best: Option<(u64, &GpuSlot)> = None;
    for slot in &machine.gpus {
        if let Some(obstacle) = obstacle(wish, slot, machine.share_with_foreign) {
            obstacles.push(obstacle);
            continue;
        }
        could_be += 1;
        let on_it: Vec<&LeasedGpu> = held.iter().filter(|leased| leased.visible == slot.uuid).collect();
        match wish.memory_bytes {
            None if on_it.is_empty() => return Ok(lease(wish, slot)),
            None => {}
            Some(wanted) => {
                let promised: Option<u64> = on_it.iter().map(|leased| leased.memory_bytes).sum();
                // One of them has it for itself, or its size is not known.
                let (Some(promised), Some(all)) = (promised, slot.memory_bytes) else { continue };
                let room = all.saturating_sub(promised).saturating_sub(slot.foreign_memory_bytes);
                if room >= wanted && best.is_none_or(|(least, _)| room < least) {
                    best = Some((room, slot));
                }
            }
        }
    }
    if let Some((_, slot)) = best {
        return Ok(lease(wish, slot));
    }
    let needs = match wish.memory_bytes {
        None => "needs a GPU".to_owned(),
        Some(bytes) => format!("needs {} of a GPU's memory", gigabytes(bytes)),
    };
    match could_be {
        0 if machine.gpus.is_empty() => Err(NoGpu::Unusable(format!("{needs}, and there is none now"))),
        0 => Err(NoGpu::Unusable(format!("{needs}, and {}", obstacles.join("; ")))),
        _ => {
            let others = if obstacles.is_empty() {
                String::new()
            } else {
                format!(", apart from that {}", obstacles.join("; "))
            };
            let taken = match (wish.memory_bytes, could_be) {
                (None, 1) => "the only one is taken".to_owned(),
                (None, count) => format!("all {count} are taken"),
                (Some(_), _) => "no one has so much left".to_owned(),
            };
            Err(NoGpu::Taken(format!("{needs}, and {taken}{others}")))
        }
    }
}

/// Why a job could not have this GPU even if no other job had it.
fn obstacle(wish: GpuWish, slot: &GpuSlot, share_with_foreign: bool) -> Option<String> {
    if let Some(reason) = &slot.unusable {
        return Some(reason.clone());
    }
    let held = gigabytes(slot.foreign_memory_bytes);
    match wish.memory_bytes {
        None if slot.foreign_processes > 0 && !share_with_foreign => Some(match slot.foreign_processes {
            1 => format!("a process of no job computes on {} and holds {held}", slot.label),
            count => format!("{count} processes of no job compute on {} and hold {held}", slot.label),
        }),
        None => None,
        Some(wanted) => match slot.memory_bytes {
            None => Some(format!("how much memory {} has is not known", slot.label)),
            Some(all) if all < wanted => Some(format!("{} has {}", slot.label, gigabytes(all))),
            Some(all) if all.saturating_sub(slot.foreign_memory_bytes) < wanted => {
                Some(format!("others than jobs hold {held} of the {} of {}", gigabytes(all), slot.label))
            }
            Some(_) => None,
        },
    }
}

fn lease(wish: GpuWish, slot: &GpuSlot) -> LeasedGpu {
    LeasedGpu { visible: slot.uuid.clone(), index: slot.index, memory_bytes: wish.memory_bytes }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;

    const GB: u64 = 1_000_000_000;

    fn request(number: u32, cpu_threads: u32, gpu: bool) -> Request {
        let gpu = gpu.then_some(GpuWish { memory_bytes: None });
        Request { id: JobId::new(SystemTime::UNIX_EPOCH, number), priority: 0, cpu_threads, gpu }
    }

    fn held(number: u32, priority: i32, lease: Lease) -> Held {
        Held { id: JobId::new(SystemTime::UNIX_EPOCH, number), priority, lease, is_leaving: false }
    }

    fn sharing(number: u32, gigabytes: u64) -> Request {
        let gpu = Some(GpuWish { memory_bytes: Some(gigabytes * GB) });
        Request { id: JobId::new(SystemTime::UNIX_EPOCH, number), priority: 0, cpu_threads: 1, gpu }
    }

    fn slot(index: u32) -> GpuSlot {
        GpuSlot {
            uuid: format!("GPU-{index}"),
            gpu_uuid: format!("GPU-{index}"),
            label: format!("GPU {index} (NVIDIA A10)"),
            index,
            memory_bytes: Some(24 * GB),
            foreign_processes: 0,
            foreign_memory_bytes: 0,
            unusable: None,
            lost: None,
        }
    }

    fn machine(cpu_slots: u32, gpus: u32) -> Machine {
        Machine { cpu_slots, gpus: (0..gpus).map(slot).collect(), share_with_foreign: false, preempts: false }
    }

    fn why(plan: &Plan, place: usize) -> String {
        plan.wait[place].1.to_string()
    }

    fn leased(plan: &Plan) -> Vec<&str> {
        plan.start.iter().map(|(_, lease)| lease.gpu.as_ref().map_or("cpu", |gpu| gpu.visible.as_str())).collect()
    }

    #[test]
    fn as_many_jobs_run_as_there_are_slots_and_the_rest_wait_in_order() {
        let queue = [request(1, 1, false), request(2, 1, false), request(3, 2, false), request(4, 1, false)];
        let plan = plan(&queue, &[], &machine(3, 0));
        assert_eq!(plan.start.iter().map(|(id, _)| id).collect::<Vec<_>>(), [&queue[0].id, &queue[1].id]);
        assert_eq!(why(&plan, 0), "needs 2 of the machine's 3 CPU slots, 1 are free");
        assert!(
            why(&plan, 1).starts_with("1 job is ahead") && why(&plan, 1).contains(queue[2].id.as_str()),
            "{plan:?}"
        );
    }

    #[test]
    fn every_gpu_is_given_once() {
        let queue = [request(1, 1, true), request(2, 1, true), request(3, 1, true)];
        let gpu = Some(LeasedGpu { visible: "GPU-1".into(), index: 1, memory_bytes: None });
        let running = [held(9, 0, Lease { device: LeasedDevice::Cuda, cpu_threads: 1, gpu })];
        let plan = plan(&queue, &running, &machine(9, 3));
        assert_eq!(leased(&plan), ["GPU-0", "GPU-2"]);
        assert_eq!(why(&plan, 0), "needs a GPU, and all 3 are taken");
    }

    #[test]
    fn a_higher_priority_goes_first_and_does_not_wait_behind_a_blocked_job() {
        let high = |number, cpu_threads| Request { priority: 5, ..request(number, cpu_threads, false) };
        let queue = [request(1, 3, false), request(2, 1, false), high(3, 1), high(4, 1)];
        let plan = plan(&queue, &[], &machine(2, 0));
        let started: Vec<_> = plan.start.iter().map(|(id, _)| id.clone()).collect();
        assert_eq!(started, [queue[2].id.clone(), queue[3].id.clone()]);
        assert_eq!(plan.wait[0].0, queue[0].id);
        assert!(plan.preempt.is_empty());
    }

    #[test]
    fn the_lowest_and_newest_make_room_and_no_more_than_needed() {
        let on = |cpu_threads| Lease { device: LeasedDevice::Cpu, cpu_threads, gpu: None };
        let mut running = vec![held(1, 0, on(2)), held(2, 0, on(1)), held(3, 1, on(1)), held(4, 5, on(1))];
        let machine = Machine { preempts: true, ..machine(5, 0) };
        let wanted = |cpu_threads| [Request { priority: 5, ..request(9, cpu_threads, false) }];
        let names = |plan: Plan| plan.preempt.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>();
        let name = |number| JobId::new(SystemTime::UNIX_EPOCH, number).as_str().to_owned();
        let told = plan(&wanted(1), &running, &machine);
        assert!(why(&told, 0).ends_with(&format!("jobs/{} makes room", name(2))), "{}", why(&told, 0));
        assert_eq!(names(told), [name(2)]);
        assert_eq!(names(plan(&wanted(2), &running, &machine)), [name(1)], "one is enough");
        assert_eq!(names(plan(&wanted(4), &running, &machine)), [name(2), name(1), name(3)]);
        assert!(names(plan(&wanted(5), &running, &machine)).is_empty(), "equals stay, and it would not fit");
        running[1].is_leaving = true;
        assert!(names(plan(&wanted(1), &running, &machine)).is_empty(), "somebody leaves already");
        assert!(names(plan(&wanted(1), &running, &Machine { preempts: false, ..machine.clone() })).is_empty());
    }

    #[test]
    fn jobs_that_name_their_memory_share_the_fullest_gpu_that_has_room() {
        let queue = [sharing(1, 10), sharing(2, 10), sharing(3, 10), request(4, 1, true)];
        let plan = plan(&queue, &[], &machine(9, 2));
        assert_eq!(leased(&plan), ["GPU-0", "GPU-0", "GPU-1"]);
        assert_eq!(why(&plan, 0), "needs a GPU, and all 2 are taken");
        let alone = super::plan(&[request(1, 1, true), sharing(2, 1)], &[], &machine(9, 1));
        assert_eq!(leased(&alone), ["GPU-0"]);
        assert_eq!(why(&alone, 0), "needs 1.0 GB of a GPU's memory, and no one has so much left");
    }

    #[test]
    fn what_others_hold_is_the_reason_to_wait_and_holds_back_nobody() {
        let mut machine = machine(9, 2);
        machine.gpus[0].foreign_processes = 1;
        machine.gpus[0].foreign_memory_bytes = 20 * GB;
        machine.gpus[1].unusable = Some("GPU 1 (NVIDIA A10) has failed: Xid 79".into());
        let queue = [request(1, 1, true), sharing(2, 5), sharing(3, 3), request(4, 1, false)];
        let plan = plan(&queue, &[], &machine);
        assert_eq!(leased(&plan), ["GPU-0", "cpu"]);
        assert_eq!(
            why(&plan, 0),
            "needs a GPU, and a process of no job computes on GPU 0 (NVIDIA A10) and holds 20.0 GB; GPU 1 (NVIDIA A10) has \
             failed: Xid 79"
        );
        assert!(why(&plan, 1).contains("others than jobs hold 20.0 GB of the 24.0 GB of GPU 0"), "{}", why(&plan, 1));
        machine.share_with_foreign = true;
        assert_eq!(leased(&super::plan(&queue[..1], &[], &machine)), ["GPU-0"]);
        machine.gpus.clear();
        let none = super::plan(&queue[..1], &[], &machine);
        assert_eq!(why(&none, 0), "needs a GPU, and there is none now");
    }

    #[test]
    fn jobs_without_a_gpu_pass_one_that_waits_for_one_unless_they_could_delay_it() {
        let gpu = Some(LeasedGpu { visible: "GPU-0".into(), index: 0, memory_bytes: None });
        let running = [held(9, 0, Lease { device: LeasedDevice::Cuda, cpu_threads: 1, gpu })];
        let ids = |plan: &Plan| plan.start.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
        let cpu = |number| request(number, 1, false);
        // Of the 3 free slots the second job needs 2 beyond the one that comes back with the GPU.
        let queue = [request(1, 1, true), request(2, 3, true), cpu(3), cpu(4), cpu(5)];
        let plan = super::plan(&queue, &running, &machine(4, 1));
        assert_eq!(ids(&plan), [queue[2].id.clone()]);
        assert_eq!(why(&plan, 0), "needs a GPU, and the only one is taken");
        assert!(why(&plan, 2).starts_with("2 jobs are ahead of it"), "{}", why(&plan, 2));
        // However many wait for the GPU, one of them has it at a time.
        let mut queue: Vec<Request> = (10..30).map(|number| request(number, 1, true)).collect();
        queue.extend([cpu(3), cpu(4), cpu(5), cpu(6)]);
        assert_eq!(ids(&super::plan(&queue, &running, &machine(4, 1))).len(), 3);
        // On a GPU that is shared there may be many.
        let queue = [request(1, 1, true), sharing(2, 1), sharing(3, 1), cpu(4)];
        assert_eq!(ids(&super::plan(&queue, &running, &machine(4, 1))), Vec::new());
        // A job that waits for slots holds back everybody.
        let queue = [request(1, 1, true), request(2, 4, false), cpu(3)];
        let plan = super::plan(&queue, &running, &machine(4, 1));
        assert!(ids(&plan).is_empty() && why(&plan, 1).starts_with("needs 4 of the machine's 4 CPU slots"), "{plan:?}");
    }

    /// What a plan starts where jobs have GPUs for themselves and none has failed, in the fewest words.
    fn model(queue: &[Request], running: &[Held], slots: u32, gpus: usize) -> Vec<JobId> {
        let mut slots = slots - running.iter().map(|held| held.lease.cpu_threads).sum::<u32>();
        let mut on_gpus: Vec<u32> =
            running.iter().filter(|held| held.lease.gpu.is_some()).map(|held| held.lease.cpu_threads).collect();
        let mut wait_for_gpus = Vec::new();
        let mut started = Vec::new();
        for priority in (0..3).rev() {
            for request in queue.iter().filter(|request| request.priority == priority) {
                let wants_gpu = request.gpu.is_some();
                if wants_gpu && (!wait_for_gpus.is_empty() || on_gpus.len() == gpus) {
                    wait_for_gpus.push(request.cpu_threads);
                    continue;
                }
                let mut largest = [on_gpus.clone(), wait_for_gpus.clone()].concat();
                largest.sort();
                let most: u32 = largest.iter().rev().take(gpus).sum();
                let kept = if wait_for_gpus.is_empty() { 0 } else { most - on_gpus.iter().sum::<u32>() };
                if request.cpu_threads + kept > slots {
                    return started;
                }
                slots -= request.cpu_threads;
                on_gpus.extend(wants_gpu.then_some(request.cpu_threads));
                started.push(request.id.clone());
            }
        }
        started
    }

    proptest! {
        #[test]
        fn jobs_start_as_in_the_model_make_room_only_for_higher_ones_and_all_come_to_their_end(
            jobs in prop::collection::vec((0..3i32, 1..4u32, any::<bool>(), 0..20u32, 1..6u32), 1..20),
            slots in 3..6u32,
            gpus in 1..3u32,
            preempts in any::<bool>(),
        ) {
            let machine = Machine { preempts, ..machine(slots, gpus) };
            let number = |id: &JobId| jobs.iter().enumerate().position(|(number, _)| *id == request(number as u32, 1, false).id).unwrap();
            let mut left: Vec<u32> = jobs.iter().map(|&(.., length)| length).collect();
            let mut running: Vec<Held> = Vec::new();
            for now in 0.. {
                prop_assert!(now < 20 + 6 * 20 * 20, "jobs wait for ever: {left:?}");
                // Who was asked to leave has left, and who is done has ended.
                running.retain(|held| !held.is_leaving && left[number(&held.id)] > 0);
                if left.iter().all(|left| *left == 0) {
                    break;
                }
                let waits = |place: usize| left[place] > 0 && jobs[place].3 <= now && running.iter().all(|held| number(&held.id) != place);
                let queue: Vec<Request> = (0..jobs.len())
                    .filter(|place| waits(*place))
                    .map(|place| Request { priority: jobs[place].0, ..request(place as u32, jobs[place].1, jobs[place].2) })
                    .collect();
                let plan = plan(&queue, &running, &machine);
                let started: Vec<JobId> = plan.start.iter().map(|(id, _)| id.clone()).collect();
                prop_assert_eq!(&started, &model(&queue, &running, slots, gpus as usize));
                prop_assert_eq!(started.len() + plan.wait.len(), queue.len());
                let first = plan.wait.first().map(|(id, _)| jobs[number(id)].0);
                for id in &plan.preempt {
                    prop_assert!(preempts && first.is_some_and(|first| jobs[number(id)].0 < first), "{id} makes room for an equal");
                }
                for held in &mut running {
                    held.is_leaving = plan.preempt.contains(&held.id);
                }
                for (id, lease) in plan.start {
                    running.push(Held { priority: jobs[number(&id)].0, id, lease, is_leaving: false });
                }
                prop_assert!(running.iter().map(|held| held.lease.cpu_threads).sum::<u32>() <= slots);
                let mut given: Vec<_> = running.iter().filter_map(|held| held.lease.gpu.as_ref()).map(|gpu| &gpu.visible).collect();
                given.sort();
                prop_assert!(given.windows(2).all(|two| two[0] != two[1]), "a GPU was given twice: {given:?}");
                for held in &running {
                    left[number(&held.id)] -= 1;
                }
            }
        }

        #[test]
        fn nothing_is_given_twice_and_nobody_is_overtaken(
            wants in prop::collection::vec((1..5u32, prop::option::of(prop::option::of(1..30u64))), 0..12),
            slots in 1..8u32,
            gpus in 1..4u32,
        ) {
            let queue: Vec<_> = wants
                .iter()
                .enumerate()
                .map(|(number, &(cpu_threads, gpu))| {
                    let gpu = gpu.map(|memory| GpuWish { memory_bytes: memory.map(|memory| memory * GB) });
                    Request { id: JobId::new(SystemTime::UNIX_EPOCH, number as u32), priority: 0, cpu_threads, gpu }
                })
                .collect();
            let plan = plan(&queue, &[], &machine(slots, gpus));
            prop_assert_eq!(plan.start.len() + plan.wait.len(), queue.len());
            prop_assert!(plan.start.iter().map(|(_, lease)| lease.cpu_threads).sum::<u32>() <= slots);
            for gpu in 0..gpus {
                let uuid = format!("GPU-{gpu}");
                let leases = plan.start.iter().filter_map(|(_, lease)| lease.gpu.as_ref());
                let on_it: Vec<_> = leases.filter(|leased| leased.visible == uuid).collect();
                let alone = on_it.iter().filter(|leased| leased.memory_bytes.is_none()).count();
                prop_assert!(alone == 0 || on_it.len() == 1);
                prop_assert!(on_it.iter().filter_map(|leased| leased.memory_bytes).sum::<u64>() <= 24 * GB);
            }
            // Behind the first job that waits for others nobody starts who needs what it waits for;
            // a wish that no GPU can grant holds back nobody.
            let is_hopeless = |request: &Request| {
                request.gpu.is_some_and(|wish| wish.memory_bytes.is_some_and(|bytes| bytes > 24 * GB))
            };
            let waits = |request: &&Request| plan.wait.iter().any(|(id, _)| *id == request.id);
            let first = queue.iter().position(|request| waits(&request) && !is_hopeless(request)).unwrap_or(queue.len());
            let is_for_slots = queue.get(first).is_some_and(|first| {
                plan.wait.iter().any(|(id, wait)| *id == first.id && wait.to_string().contains("CPU slots"))
            });
            let may_start = |request: &&Request| !is_for_slots && request.gpu.is_none();
            prop_assert!(queue[first..].iter().all(|request| waits(&request) || may_start(&request)));
        }

        #[test]
        fn who_passes_a_job_that_waits_for_a_gpu_does_not_delay_it(
            jobs in prop::collection::vec((1..4u32, any::<bool>()), 0..12),
            on_gpus in prop::collection::vec(1..4u32, 1..4),
            slots in 1..20u32,
        ) {
            prop_assume!(on_gpus.iter().sum::<u32>() <= slots);
            let machine = machine(slots, on_gpus.len() as u32);
            let running: Vec<Held> = (0..).zip(&on_gpus).map(|(index, &cpu_threads)| {
                let gpu = Some(LeasedGpu { visible: format!("GPU-{index}"), index, memory_bytes: None });
                held(100 + index, 0, Lease { device: LeasedDevice::Cuda, cpu_threads, gpu })
            }).collect();
            let queue: Vec<Request> =
                (0..).zip(&jobs).map(|(number, &(cpu_threads, gpu))| request(number, cpu_threads, gpu)).collect();
            let now = plan(&queue, &running, &machine);
            let first = queue.iter().position(|request| request.gpu.is_some()).unwrap_or(queue.len());
            let is_ahead = |id: &JobId| queue[..first].iter().any(|request| request.id == *id);
            let as_held = |(id, lease): &(JobId, Lease)| Held { id: id.clone(), priority: 0, lease: lease.clone(), is_leaving: false };
            let all: Vec<Held> = now.start.iter().map(as_held).collect();
            let ahead: Vec<Held> = now.start.iter().filter(|(id, _)| is_ahead(id)).map(as_held).collect();
            // All that had a GPU have left: those that waited get on just as if nobody had passed
            // them.
            let waiting: Vec<Request> = queue.iter().filter(|request| request.gpu.is_some()).cloned().collect();
            let ids = |plan: Plan| plan.start.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
            prop_assert_eq!(ids(plan(&waiting, &all, &machine)), ids(plan(&waiting, &ahead, &machine)));
        }
    }
}
