//! Which job a GPU and a process on it belong to: by the process group of the job's runner, and
//! where the driver's process numbers mean nothing here (in a container), by the lease of the GPU.

use std::time::SystemTime;

use super::process;
use crate::proto::v1;

/// A job that holds GPUs, or has held them and left memory behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// `jobs/{id}`
    pub job: String,
    /// The uuids of GPUs or MIG instances.
    pub gpus: Vec<String>,
    /// The process groups of its runner, or of its ranks, as far as they were started.
    pub process_groups: Vec<u32>,
    /// When it gave them back; None while it holds them.
    pub ended: Option<SystemTime>,
}

/// A process, with the group that it was in when it was seen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) told: v1::GpuProcess,
    pub(super) group: Option<u32>,
}

impl Seen {
    /// Looks for the group of a process.
    pub(super) fn look(told: v1::GpuProcess) -> Self {
        let group = process::group(told.pid);
        Self { told, group }
    }
}

/// Tells which jobs hold each GPU and instance, which job each process belongs to, and how many
/// belong to none.
pub(super) fn join(gpus: &mut [v1::Gpu], seen: &[Seen], holders: &[Holder]) -> Vec<v1::GpuProcess> {
    let holding = |uuid: &str| -> Vec<&Holder> {
        holders.iter().filter(|holder| holder.ended.is_none() && holder.gpus.iter().any(|held| held == uuid)).collect()
    };
    let names = |uuid: &str| holding(uuid).into_iter().map(|holder| holder.job.clone()).collect::<Vec<_>>();
    for gpu in gpus.iter_mut() {
        gpu.jobs = names(&gpu.uuid);
        for instance in &mut gpu.mig_instances {
            instance.jobs = names(&instance.uuid);
        }
    }
    let numbers_are_ours = process::numbers_are_ours();
    let mut processes = Vec::new();
    for Seen { told, group } in seen {
        let mut told = told.clone();
        let uuid = gpus.iter().find(|gpu| gpu.name == told.gpu).map(|gpu| held_as(gpu, &told));
        let by_group = group.and_then(|group| holders.iter().find(|holder| holder.process_groups.contains(&group)));
        let by_lease = || match uuid.as_deref().map(holding).as_deref() {
            // One that shares it could be either's.
            Some([only]) => Some(*only),
            _ => None,
        };
        let owner = match by_group {
            Some(owner) => Some(owner),
            // A process that we can look at and that is in no runner's group belongs to somebody
            // else.
            None if numbers_are_ours => None,
            None => by_lease(),
        };
        if let Some(owner) = owner {
            told.job.clone_from(&owner.job);
            told.left_behind = owner.ended.is_some();
        }
        processes.push(told);
    }
    // Where the driver does not tell of processes, nobody knows that there are none.
    let is_told = |gpu: &&mut v1::Gpu| !gpu.absent.iter().any(|absent| absent.field == "process_count");
    for gpu in gpus.iter_mut().filter(is_told) {
        let on_it = || processes.iter().filter(|process| process.gpu == gpu.name);
        let foreign = || on_it().filter(|process| process.job.is_empty() || process.left_behind);
        gpu.process_count = Some(v1::GpuProcessCount {
            total: count(on_it().count()),
            foreign: count(foreign().count()),
            foreign_memory_bytes: foreign()
                .filter_map(|process| process.used_memory_bytes)
                .fold(0, u64::saturating_add),
        });
    }
    processes
}

/// The name of the GPU, or of its instance, that the job of this process holds.
fn held_as(gpu: &v1::Gpu, process: &v1::GpuProcess) -> String {
    let on = |instance: &&v1::MigInstance| {
        instance.gpu_instance_id == process.gpu_instance_id
            && instance.compute_instance_id == process.compute_instance_id
    };
    let instance = gpu.mig_instances.iter().find(on).filter(|_| process.gpu_instance_id.is_some());
    instance.map_or_else(|| gpu.uuid.clone(), |instance| instance.uuid.clone())
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, group: Option<u32>) -> Seen {
        let told = v1::GpuProcess { gpu: "gpus/GPU-a".into(), pid, used_memory_bytes: Some(100), ..Default::default() };
        Seen { told, group }
    }

    #[test]
    fn processes_belong_to_the_job_whose_runner_leads_their_group() {
        let mut gpus = [v1::Gpu { name: "gpus/GPU-a".into(), uuid: "GPU-a".into(), ..Default::default() }];
        let holder = |job: &str, group, ended| Holder {
            job: job.into(),
            gpus: vec!["GPU-a".into()],
            process_groups: vec![group],
            ended,
        };
        let holders = [holder("jobs/one", 10, None), holder("jobs/gone", 30, Some(SystemTime::now()))];
        let seen = [process(11, Some(10)), process(21, Some(20)), process(31, Some(30))];
        let processes = join(&mut gpus, &seen, &holders);
        let told: Vec<_> = processes.iter().map(|process| (process.job.as_str(), process.left_behind)).collect();
        // The second is foreign only where its number means something here.
        let second = if process::numbers_are_ours() { "" } else { "jobs/one" };
        assert_eq!(told, [("jobs/one", false), (second, false), ("jobs/gone", true)]);
        assert_eq!(gpus[0].jobs, ["jobs/one"]);
        let count = gpus[0].process_count.unwrap();
        let foreign = if second.is_empty() { 2 } else { 1 };
        assert_eq!((count.total, count.foreign, count.foreign_memory_bytes), (3, foreign, u64::from(foreign) * 100));
    }

    #[test]
    fn a_process_on_an_instance_is_looked_for_in_the_lease_of_that_instance() {
        let instance = |uuid: &str, id| v1::MigInstance {
            uuid: uuid.into(),
            gpu_instance_id: Some(id),
            compute_instance_id: Some(0),
            ..Default::default()
        };
        let gpu = v1::Gpu {
            uuid: "GPU-a".into(),
            mig_instances: vec![instance("MIG-1", 1), instance("MIG-2", 2)],
            ..Default::default()
        };
        let on = |id| v1::GpuProcess { gpu_instance_id: id, compute_instance_id: id.map(|_| 0), ..Default::default() };
        assert_eq!(held_as(&gpu, &on(Some(2))), "MIG-2");
        assert_eq!(held_as(&gpu, &on(None)), "GPU-a");
    }
}
