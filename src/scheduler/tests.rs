//! The plan held against examples, against a model, and against what must hold for every queue.

use std::time::SystemTime;

use proptest::prelude::*;

use super::*;

mod several_gpus;

const GB: u64 = 1_000_000_000;

/// A plan where nobody had a turn.
fn planned(queue: &[Request], running: &[Held], machine: &Machine) -> Plan {
    plan(queue, running, &Turns::default(), machine)
}

fn request(number: u32, cpu_threads: u32, gpu: bool) -> Request {
    let gpu = gpu.then_some(GpuWish { count: 1, memory_bytes: None });
    Request { id: JobId::new(SystemTime::UNIX_EPOCH, number), owner: "a".into(), priority: 0, cpu_threads, gpu }
}

fn held(number: u32, priority: i32, lease: Lease) -> Held {
    Held { id: JobId::new(SystemTime::UNIX_EPOCH, number), owner: "a".into(), priority, lease, is_leaving: false }
}

fn sharing(number: u32, gigabytes: u64) -> Request {
    let gpu = Some(GpuWish { count: 1, memory_bytes: Some(gigabytes * GB) });
    Request { gpu, ..request(number, 1, false) }
}

fn slot(index: u32) -> GpuSlot {
    GpuSlot {
        uuid: format!("GPU-{index}"),
        gpu_uuid: format!("GPU-{index}"),
        model: "NVIDIA A10".into(),
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
    Machine {
        cpu_slots,
        gpus: (0..gpus).map(slot).collect(),
        share_with_foreign: false,
        preempts: false,
        max_running_per_owner: None,
    }
}

fn why(plan: &Plan, place: usize) -> String {
    plan.wait[place].1.to_string()
}

fn leased(plan: &Plan) -> Vec<&str> {
    plan.start.iter().map(|(_, lease)| lease.gpu().map_or("cpu", |gpu| gpu.visible.as_str())).collect()
}

#[test]
fn as_many_jobs_run_as_there_are_slots_and_the_rest_wait_in_order() {
    let queue = [request(1, 1, false), request(2, 1, false), request(3, 2, false), request(4, 1, false)];
    let plan = planned(&queue, &[], &machine(3, 0));
    assert_eq!(plan.start.iter().map(|(id, _)| id).collect::<Vec<_>>(), [&queue[0].id, &queue[1].id]);
    assert_eq!(why(&plan, 0), "needs 2 of the machine's 3 CPU slots, 1 are free");
    assert!(why(&plan, 1).starts_with("1 job is ahead") && why(&plan, 1).contains(queue[2].id.as_str()), "{plan:?}");
}

#[test]
fn every_gpu_is_given_once() {
    let queue = [request(1, 1, true), request(2, 1, true), request(3, 1, true)];
    let gpu = Some(LeasedGpu { visible: "GPU-1".into(), index: 1, memory_bytes: None });
    let running = [held(9, 0, Lease { device: LeasedDevice::Cuda, cpu_threads: 1, gpus: gpu.into_iter().collect() })];
    let plan = planned(&queue, &running, &machine(9, 3));
    assert_eq!(leased(&plan), ["GPU-0", "GPU-2"]);
    assert_eq!(why(&plan, 0), "needs a GPU, and all 3 are taken");
}

#[test]
fn a_higher_priority_goes_first_and_does_not_wait_behind_a_blocked_job() {
    let high = |number, cpu_threads| Request { priority: 5, ..request(number, cpu_threads, false) };
    let queue = [request(1, 3, false), request(2, 1, false), high(3, 1), high(4, 1)];
    let plan = planned(&queue, &[], &machine(2, 0));
    let started: Vec<_> = plan.start.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(started, [queue[2].id.clone(), queue[3].id.clone()]);
    assert_eq!(plan.wait[0].0, queue[0].id);
    assert!(plan.preempt.is_empty());
}

#[test]
fn the_lowest_and_newest_make_room_and_no_more_than_needed() {
    let on = |cpu_threads| Lease::of_cpu(cpu_threads);
    let mut running = vec![held(1, 0, on(2)), held(2, 0, on(1)), held(3, 1, on(1)), held(4, 5, on(1))];
    let machine = Machine { preempts: true, ..machine(5, 0) };
    let wanted = |cpu_threads| [Request { priority: 5, ..request(9, cpu_threads, false) }];
    let names = |plan: Plan| plan.preempt.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>();
    let name = |number| JobId::new(SystemTime::UNIX_EPOCH, number).as_str().to_owned();
    let told = planned(&wanted(1), &running, &machine);
    assert!(why(&told, 0).ends_with(&format!("jobs/{} makes room", name(2))), "{}", why(&told, 0));
    assert_eq!(names(told), [name(2)]);
    assert_eq!(names(planned(&wanted(2), &running, &machine)), [name(1)], "one is enough");
    assert_eq!(names(planned(&wanted(4), &running, &machine)), [name(2), name(1), name(3)]);
    assert!(names(planned(&wanted(5), &running, &machine)).is_empty(), "equals stay, and it would not fit");
    running[1].is_leaving = true;
    assert!(names(planned(&wanted(1), &running, &machine)).is_empty(), "somebody leaves already");
    assert!(names(planned(&wanted(1), &running, &Machine { preempts: false, ..machine.clone() })).is_empty());
}

#[test]
fn jobs_that_name_their_memory_share_the_fullest_gpu_that_has_room() {
    let queue = [sharing(1, 10), sharing(2, 10), sharing(3, 10), request(4, 1, true)];
    let plan = planned(&queue, &[], &machine(9, 2));
    assert_eq!(leased(&plan), ["GPU-0", "GPU-0", "GPU-1"]);
    assert_eq!(why(&plan, 0), "needs a GPU, and all 2 are taken");
    let alone = planned(&[request(1, 1, true), sharing(2, 1)], &[], &machine(9, 1));
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
    let plan = planned(&queue, &[], &machine);
    assert_eq!(leased(&plan), ["GPU-0", "cpu"]);
    assert_eq!(
        why(&plan, 0),
        "needs a GPU, and a process of no job computes on GPU 0 (NVIDIA A10) and holds 20.0 GB; GPU 1 (NVIDIA A10) has \
         failed: Xid 79"
    );
    assert!(why(&plan, 1).contains("others than jobs hold 20.0 GB of the 24.0 GB of GPU 0"), "{}", why(&plan, 1));
    machine.share_with_foreign = true;
    assert_eq!(leased(&planned(&queue[..1], &[], &machine)), ["GPU-0"]);
    machine.gpus.clear();
    let none = planned(&queue[..1], &[], &machine);
    assert_eq!(why(&none, 0), "needs a GPU, and there is none now");
}

#[test]
fn jobs_without_a_gpu_pass_one_that_waits_for_one_unless_they_could_delay_it() {
    let gpu = Some(LeasedGpu { visible: "GPU-0".into(), index: 0, memory_bytes: None });
    let running = [held(9, 0, Lease { device: LeasedDevice::Cuda, cpu_threads: 1, gpus: gpu.into_iter().collect() })];
    let ids = |plan: &Plan| plan.start.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
    let cpu = |number| request(number, 1, false);
    // Of the 3 free slots the second job needs 2 beyond the one that comes back with the GPU.
    let queue = [request(1, 1, true), request(2, 3, true), cpu(3), cpu(4), cpu(5)];
    let plan = planned(&queue, &running, &machine(4, 1));
    assert_eq!(ids(&plan), [queue[2].id.clone()]);
    assert_eq!(why(&plan, 0), "needs a GPU, and the only one is taken");
    assert!(why(&plan, 2).starts_with("2 jobs are ahead of it"), "{}", why(&plan, 2));
    // However many wait for the GPU, one of them has it at a time.
    let mut queue: Vec<Request> = (10..30).map(|number| request(number, 1, true)).collect();
    queue.extend([cpu(3), cpu(4), cpu(5), cpu(6)]);
    assert_eq!(ids(&planned(&queue, &running, &machine(4, 1))).len(), 3);
    // On a GPU that is shared there may be many.
    let queue = [request(1, 1, true), sharing(2, 1), sharing(3, 1), cpu(4)];
    assert_eq!(ids(&planned(&queue, &running, &machine(4, 1))), Vec::new());
    // A job that waits for slots holds back everybody.
    let queue = [request(1, 1, true), request(2, 4, false), cpu(3)];
    let plan = planned(&queue, &running, &machine(4, 1));
    assert!(ids(&plan).is_empty() && why(&plan, 1).starts_with("needs 4 of the machine's 4 CPU slots"), "{plan:?}");
}

/// The jobs that a plan starts where jobs have GPUs for themselves and none has failed, by a model
/// as short as possible.
fn model(queue: &[Request], running: &[Held], slots: u32, gpus: usize) -> Vec<JobId> {
    let mut slots = slots - running.iter().map(|held| held.lease.cpu_threads).sum::<u32>();
    let mut on_gpus: Vec<u32> =
        running.iter().filter(|held| held.lease.gpu().is_some()).map(|held| held.lease.cpu_threads).collect();
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

/// Lets jobs of owners, each of one thread, run for a step each on so many slots; the owners in the
/// order in which their jobs are started.
fn turns_of(mut waiting: Vec<Request>, machine: &Machine) -> Vec<String> {
    let (mut turns, mut order) = (Turns::default(), Vec::new());
    while !waiting.is_empty() {
        let plan = plan(&waiting, &[], &turns, machine);
        assert!(!plan.start.is_empty());
        for (id, _) in plan.start {
            let place = waiting.iter().position(|request| request.id == id).unwrap();
            let request = waiting.remove(place);
            turns.took(&request.owner);
            order.push(request.owner.to_string());
        }
    }
    order
}

fn of_owners(owners: &str) -> Vec<Request> {
    let request = |(number, owner): (usize, char)| Request {
        owner: owner.to_string().into(),
        ..request(number as u32, 1, false)
    };
    owners.chars().enumerate().map(request).collect()
}

#[test]
fn owners_take_turns_and_each_keeps_the_order_of_its_jobs() {
    let order = |owners: &str, slots| turns_of(of_owners(owners), &machine(slots, 0)).concat();
    assert_eq!(order("aaaa", 1), "aaaa");
    assert_eq!(order("aaaabb", 1), "ababaa", "the one who came later does not wait for all of the other's");
    assert_eq!(order("aaaabbc", 2), "abcaba".to_owned() + "a");
    let queue = of_owners("aab");
    let plan = planned(&queue, &[], &machine(2, 0));
    assert_eq!(plan.start.iter().map(|(id, _)| id).collect::<Vec<_>>(), [&queue[0].id, &queue[2].id]);
    assert!(why(&plan, 0).starts_with("1 job is ahead") || why(&plan, 0).contains("CPU slots"), "{plan:?}");
}

#[test]
fn who_runs_more_waits_longer_and_a_higher_priority_comes_first_all_the_same() {
    let lease = |cpu_threads| Lease::of_cpu(cpu_threads);
    let running = [held(9, 0, lease(1))];
    let mut queue = of_owners("ab");
    let first = |queue: &[Request]| planned(queue, &running, &machine(2, 0)).start[0].0.clone();
    assert_eq!(first(&queue), queue[1].id);
    queue[0].priority = 1;
    assert_eq!(first(&queue), queue[0].id);
}

#[test]
fn an_owner_has_no_more_running_than_the_settings_allow_and_holds_back_nobody() {
    let machine = Machine { max_running_per_owner: Some(1), ..machine(4, 0) };
    let queue = of_owners("aab");
    let plan = planned(&queue, &[], &machine);
    assert_eq!(plan.start.iter().map(|(id, _)| id).collect::<Vec<_>>(), [&queue[0].id, &queue[2].id]);
    assert_eq!(why(&plan, 0), "1 job runs for a, and jobs.max_running_per_owner allows no more");
}

proptest! {
    #[test]
    fn nobody_has_two_turns_more_than_another_who_waits(owners in "[abc]{1,20}", slots in 1..4u32) {
        let order = turns_of(of_owners(&owners), &machine(slots, 0)).concat();
        for place in 0..order.len() {
            let (had, rest) = order.split_at(place);
            for waits in ["a", "b", "c"].iter().filter(|owner| rest.contains(**owner)) {
                for other in ["a", "b", "c"] {
                    prop_assert!(had.matches(other).count() <= had.matches(waits).count() + 1, "{order}: {other} before {waits}");
                }
            }
        }
    }

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
            // Jobs that were asked to leave have left, and jobs that are done have ended.
            running.retain(|held| !held.is_leaving && left[number(&held.id)] > 0);
            if left.iter().all(|left| *left == 0) {
                break;
            }
            let waits = |place: usize| left[place] > 0 && jobs[place].3 <= now && running.iter().all(|held| number(&held.id) != place);
            let queue: Vec<Request> = (0..jobs.len())
                .filter(|place| waits(*place))
                .map(|place| Request { priority: jobs[place].0, ..request(place as u32, jobs[place].1, jobs[place].2) })
                .collect();
            let plan = planned(&queue, &running, &machine);
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
                running.push(Held { id: id.clone(), ..held(0, jobs[number(&id)].0, lease) });
            }
            prop_assert!(running.iter().map(|held| held.lease.cpu_threads).sum::<u32>() <= slots);
            let mut given: Vec<_> = running.iter().flat_map(|held| &held.lease.gpus).map(|gpu| &gpu.visible).collect();
            given.sort();
            prop_assert!(given.windows(2).all(|two| two[0] != two[1]), "a GPU was given twice: {given:?}");
            for held in &running {
                left[number(&held.id)] -= 1;
            }
        }
    }

    #[test]
    fn a_job_that_joins_the_line_waits_as_in_the_plan_with_it_and_changes_nothing_else(
        jobs in prop::collection::vec((0..3i32, 1..5u32, prop::option::of((1..4u32, prop::option::of(1..30u64))), 0..3usize), 0..12),
        queued in 0..12usize,
        running in prop::collection::vec((0..3i32, 1..3u32, 0..3usize), 0..3),
        turns in prop::collection::vec(0..3usize, 0..4),
        gpus in 0..3u32,
        preempts in any::<bool>(),
    ) {
        let machine = Machine { preempts, ..machine(6, gpus) };
        let owners: [Arc<str>; 3] = ["a".into(), "b".into(), "c".into()];
        let lease = |cpu_threads| Lease::of_cpu(cpu_threads);
        let running: Vec<Held> =
            (100..).zip(&running).map(|(number, &(priority, threads, owner))| {
                Held { owner: owners[owner].clone(), ..held(number, priority, lease(threads)) }
            }).collect();
        let wish = |gpu: Option<(u32, Option<u64>)>| {
            gpu.map(|(count, memory)| GpuWish { count, memory_bytes: memory.map(|memory| memory * GB) })
        };
        let of = |(number, &(priority, threads, gpu, owner)): (u32, &(_, _, _, usize))| {
            Request { owner: owners[owner].clone(), priority, gpu: wish(gpu), ..request(number, threads, false) }
        };
        let mut had = Turns::default();
        turns.iter().for_each(|owner| had.took(&owners[*owner]));
        let planned = |queue: &[Request]| plan(queue, &running, &had, &machine);
        let mut queue: Vec<Request> = (0..).zip(&jobs).map(of).collect();
        let later = queue.split_off(queued.min(queue.len()));
        let mut expected = planned(&queue);
        for request in later {
            queue.push(request.clone());
            let now = planned(&queue);
            match expected.line.join(&request) {
                Some(wait) => expected.wait.push((request.id, wait)),
                // It may have been started, or stand before others.
                None => expected = now.clone(),
            }
            prop_assert_eq!(now, expected.clone());
        }
    }

    #[test]
    fn a_line_that_outlasts_starts_tells_what_a_plan_after_them_tells(
        jobs in prop::collection::vec((0..2i32, 1..4u32, any::<bool>(), 0..2usize), 1..8),
        running in prop::option::of((0..2i32, 1..3u32, 0..2usize)),
        joins in (0..3i32, 1..4u32, any::<bool>(), 0..3usize),
    ) {
        let machine = machine(4, 1);
        let owners: [Arc<str>; 3] = ["a".into(), "b".into(), "c".into()];
        let of = |(number, &(priority, threads, gpu, owner)): (u32, &(i32, u32, bool, usize))| {
            Request { owner: owners[owner].clone(), priority, ..request(number, threads, gpu) }
        };
        let mut running: Vec<Held> = running.iter().map(|&(priority, cpu_threads, owner)| {
            let lease = Lease::of_cpu(cpu_threads);
            Held { owner: owners[owner].clone(), ..held(100, priority, lease) }
        }).collect();
        let mut queue: Vec<Request> = (0..).zip(&jobs).map(of).collect();
        let mut turns = Turns::default();
        let mut before = plan(&queue, &running, &turns, &machine);
        for (id, lease) in std::mem::take(&mut before.start) {
            let Request { owner, priority, .. } = queue.remove(queue.iter().position(|request| request.id == id).unwrap());
            turns.took(&owner);
            running.push(Held { id, owner, ..held(0, priority, lease) });
        }
        let joining = of((50, &joins));
        if before.line.outlasts_starts() && let Some(wait) = before.line.join(&joining) {
            queue.push(joining.clone());
            let after = plan(&queue, &running, &turns, &machine);
            let told = after.wait.iter().find(|(id, _)| *id == joining.id).map(|(_, wait)| wait);
            prop_assert_eq!(told, Some(&wait));
        }
    }

    #[test]
    fn nothing_is_given_twice_and_nobody_is_overtaken(
        wants in prop::collection::vec((1..5u32, prop::option::of((1..4u32, prop::option::of(1..30u64)))), 0..12),
        slots in 1..8u32,
        gpus in 1..4u32,
    ) {
        let queue: Vec<_> = wants
            .iter()
            .enumerate()
            .map(|(number, &(cpu_threads, gpu))| {
                let gpu = gpu.map(|(count, memory)| GpuWish { count, memory_bytes: memory.map(|memory| memory * GB) });
                Request { gpu, ..request(number as u32, cpu_threads, false) }
            })
            .collect();
        let plan = planned(&queue, &[], &machine(slots, gpus));
        prop_assert_eq!(plan.start.len() + plan.wait.len(), queue.len());
        prop_assert!(plan.start.iter().map(|(_, lease)| lease.cpu_threads).sum::<u32>() <= slots);
        for gpu in 0..gpus {
            let uuid = format!("GPU-{gpu}");
            let leases = plan.start.iter().flat_map(|(_, lease)| &lease.gpus);
            let on_it: Vec<_> = leases.filter(|leased| leased.visible == uuid).collect();
            let alone = on_it.iter().filter(|leased| leased.memory_bytes.is_none()).count();
            prop_assert!(alone == 0 || on_it.len() == 1);
            let of_one = |lease: &Lease| lease.gpus.iter().filter(|leased| leased.visible == uuid).count();
            prop_assert!(plan.start.iter().all(|(_, lease)| of_one(lease) <= 1));
            prop_assert!(on_it.iter().filter_map(|leased| leased.memory_bytes).sum::<u64>() <= 24 * GB);
        }
        // Behind the first job that waits for others nobody starts who needs what it waits for;
        // a wish that no GPU can grant holds back nobody.
        let is_hopeless = |request: &Request| {
            let is_too_much = |wish: GpuWish| wish.count > gpus || wish.memory_bytes.is_some_and(|bytes| bytes > 24 * GB);
            request.gpu.is_some_and(is_too_much)
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
            held(100 + index, 0, Lease { device: LeasedDevice::Cuda, cpu_threads, gpus: gpu.into_iter().collect() })
        }).collect();
        let queue: Vec<Request> =
            (0..).zip(&jobs).map(|(number, &(cpu_threads, gpu))| request(number, cpu_threads, gpu)).collect();
        let now = planned(&queue, &running, &machine);
        let ids = |plan: Plan| plan.start.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        for (place, _) in queue.iter().enumerate().filter(|(_, request)| request.gpu.is_some()) {
            let started = |is_counted: &dyn Fn(usize) -> bool| -> Vec<Held> {
                let started = now.start.iter().filter(|(id, _)| {
                    is_counted(queue.iter().position(|request| request.id == *id).unwrap())
                });
                let as_held = |(id, lease): &(JobId, Lease)| {
                    Held { id: id.clone(), ..held(0, 0, lease.clone()) }
                };
                started.map(as_held).collect()
            };
            let (all, ahead) = (started(&|_| true), started(&|other| other < place));
            // All that had a GPU have left: the jobs up to this one that wait for a GPU start as
            // if no job behind it had passed it.
            let waiting: Vec<Request> =
                queue[..=place].iter().filter(|request| request.gpu.is_some()).cloned().collect();
            prop_assert_eq!(ids(planned(&waiting, &all, &machine)), ids(planned(&waiting, &ahead, &machine)));
        }
    }
}
