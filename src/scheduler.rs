//! Who runs next: a pure plan from the queue, what runs, and what the machine has.
//!
//! Strictly first come, first served: a job that does not fit holds back those behind it, so that a large job is never
//! overtaken for ever by small ones. Each waiting job is told why it waits.

use crate::job::JobId;
use crate::job::order::{Lease, LeasedDevice};

/// What the machine has for jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// CPU cores that jobs may take together.
    pub cpu_slots: u32,
    /// GPUs that libtorch can use.
    pub gpus: u32,
}

/// What a waiting job needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The job.
    pub id: JobId,
    /// Cores.
    pub cpu_threads: u32,
    /// A GPU of its own.
    pub gpu: bool,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Jobs to start, with what they get.
    pub start: Vec<(JobId, Lease)>,
    /// Jobs that wait, with the reason in words.
    pub wait: Vec<(JobId, String)>,
}

/// Plans: `queue` is in order of arrival, `held` what running jobs have.
pub fn plan(queue: &[Request], held: &[Lease], machine: &Machine) -> Plan {
    let mut plan = Plan::default();
    let mut free_slots = machine.cpu_slots.saturating_sub(held.iter().map(|lease| lease.cpu_threads).sum());
    let mut free_gpus: Vec<u32> =
        (0..machine.gpus).filter(|gpu| !held.iter().any(|lease| lease.device == LeasedDevice::Cuda(*gpu))).collect();
    free_gpus.reverse();
    let mut blocked: Option<&JobId> = None;
    for request in queue {
        if let Some(first) = blocked {
            let jobs = match plan.wait.len() {
                1 => "1 job is".to_owned(),
                ahead => format!("{ahead} jobs are"),
            };
            plan.wait
                .push((request.id.clone(), format!("{jobs} ahead of it in the queue; the first is {}", first.name())));
            continue;
        }
        let reason = if request.cpu_threads > free_slots {
            Some(format!(
                "needs {} of the machine's {} CPU slots, {free_slots} are free",
                request.cpu_threads, machine.cpu_slots
            ))
        } else if request.gpu && machine.gpus == 0 {
            Some("needs a GPU, and CUDA does not work on this machine any more".to_owned())
        } else if request.gpu && free_gpus.is_empty() {
            Some(format!("needs a GPU, and all {} are taken", machine.gpus))
        } else {
            None
        };
        if let Some(reason) = reason {
            blocked = Some(&request.id);
            plan.wait.push((request.id.clone(), reason));
            continue;
        }
        free_slots -= request.cpu_threads;
        let device = match request.gpu {
            true => free_gpus.pop().map_or(LeasedDevice::Cpu, LeasedDevice::Cuda),
            false => LeasedDevice::Cpu,
        };
        plan.start.push((request.id.clone(), Lease { device, cpu_threads: request.cpu_threads }));
    }
    plan
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;

    fn request(number: u32, cpu_threads: u32, gpu: bool) -> Request {
        Request { id: JobId::new(SystemTime::UNIX_EPOCH, number), cpu_threads, gpu }
    }

    #[test]
    fn as_many_jobs_run_as_there_are_slots_and_the_rest_wait_in_order() {
        let queue = [request(1, 1, false), request(2, 1, false), request(3, 2, false), request(4, 1, false)];
        let plan = plan(&queue, &[], &Machine { cpu_slots: 3, gpus: 0 });
        assert_eq!(plan.start.iter().map(|(id, _)| id).collect::<Vec<_>>(), [&queue[0].id, &queue[1].id]);
        assert_eq!(plan.wait[0].1, "needs 2 of the machine's 3 CPU slots, 1 are free");
        assert!(
            plan.wait[1].1.starts_with("1 job is ahead") && plan.wait[1].1.contains(queue[2].id.as_str()),
            "{plan:?}"
        );
    }

    #[test]
    fn every_gpu_is_given_once() {
        let queue = [request(1, 1, true), request(2, 1, true), request(3, 1, true)];
        let held = [Lease { device: LeasedDevice::Cuda(1), cpu_threads: 1 }];
        let plan = plan(&queue, &held, &Machine { cpu_slots: 9, gpus: 3 });
        let devices: Vec<_> = plan.start.iter().map(|(_, lease)| lease.device).collect();
        assert_eq!(devices, [LeasedDevice::Cuda(0), LeasedDevice::Cuda(2)]);
        assert_eq!(plan.wait[0].1, "needs a GPU, and all 3 are taken");
    }

    proptest! {
        #[test]
        fn nothing_is_given_twice_and_nobody_is_overtaken(
            wants in prop::collection::vec((1..5u32, any::<bool>()), 0..12), slots in 1..8u32, gpus in 0..4u32,
        ) {
            let queue: Vec<_> =
                wants.iter().enumerate().map(|(number, &(threads, gpu))| request(number as u32, threads, gpu)).collect();
            let plan = plan(&queue, &[], &Machine { cpu_slots: slots, gpus });
            let order: Vec<_> = plan.start.iter().map(|(id, _)| id).chain(plan.wait.iter().map(|(id, _)| id)).collect();
            prop_assert_eq!(order, queue.iter().map(|request| &request.id).collect::<Vec<_>>());
            prop_assert!(plan.start.iter().map(|(_, lease)| lease.cpu_threads).sum::<u32>() <= slots);
            let mut given: Vec<_> = plan.start.iter().filter(|(_, lease)| lease.device != LeasedDevice::Cpu).map(|(_, lease)| lease.device).collect();
            prop_assert!(given.len() <= gpus as usize);
            given.dedup();
            prop_assert_eq!(given.len(), plan.start.iter().filter(|(_, lease)| lease.device != LeasedDevice::Cpu).count());
        }
    }
}
