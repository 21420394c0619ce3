//! The GPUs, and instances of divided GPUs, that jobs can lease, and the obstacles to a lease.

use super::snapshot::Snapshot;
use super::{Holder, process};
use crate::proto::v1::{self, GpuHealthState, GpuProcessKind};

/// Memory that a GPU holds on which nobody computes: less than this is the driver's own.
const NOBODYS_MEMORY: u64 = 512 << 20;

/// Something that jobs can lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuSlot {
    /// Its uuid, as CUDA_VISIBLE_DEVICES takes it.
    pub uuid: String,
    /// For people, such as `GPU 0 (NVIDIA A10)`.
    pub label: String,
    /// The uuid of the GPU: of an instance, the one that it is a part of.
    pub gpu_uuid: String,
    /// The model of the GPU; empty where it is not known.
    pub model: String,
    /// The driver's number of the GPU.
    pub index: u32,
    /// Memory that jobs can have together; None where it is not known.
    pub memory_bytes: Option<u64>,
    /// Processes that compute on it and are of no job.
    pub foreign_processes: u32,
    /// Memory that others than jobs hold.
    pub foreign_memory_bytes: u64,
    /// Why it gets no new job; None where it may.
    pub unusable: Option<String>,
    /// Why no job can go on there either.
    pub lost: Option<String>,
}

impl GpuSlot {
    /// Whether it is a part of a divided GPU.
    pub fn is_instance(&self) -> bool {
        !self.gpu_uuid.is_empty() && self.gpu_uuid != self.uuid
    }
}

/// States that keep new jobs away and let running jobs go on. (Codes of `health`)
const LETS_JOBS_GO_ON: [&str; 4] =
    ["DRAINING", "COMPUTE_PROHIBITED", "RECOVERY_ACTION_DRAIN_PEERS", "RECOVERY_ACTION_DRAIN_AND_RESET"];

/// The slots that jobs can lease now.
pub fn slots(snapshot: &Snapshot, holders: &[Holder]) -> Vec<GpuSlot> {
    let (gpus, processes) = snapshot.joined(holders);
    let mut slots = Vec::new();
    for gpu in &gpus {
        let on_it = || processes.iter().filter(|process| process.gpu == gpu.name);
        let label = format!("GPU {} ({})", gpu.index, gpu.model);
        let unusable = gpu.health.as_ref().filter(|health| health.state() == GpuHealthState::Failed).map(|health| {
            let reason = health.reasons.first();
            format!("{label} has failed: {}", reason.map_or("", |reason| reason.message.as_str()))
        });
        let failures = gpu.health.iter().flat_map(|health| &health.reasons);
        let mut failures = failures.filter(|reason| reason.state() == GpuHealthState::Failed);
        let lost = failures.find(|reason| !LETS_JOBS_GO_ON.contains(&reason.code.as_str()));
        let lost = lost.map(|reason| format!("{label} has failed: {}", reason.message));
        let is_divided = gpu.modes.as_ref().is_some_and(|modes| modes.mig == Some(true));
        if !is_divided {
            let slot = GpuSlot {
                uuid: gpu.uuid.clone(),
                gpu_uuid: gpu.uuid.clone(),
                model: gpu.model.clone(),
                label,
                index: gpu.index,
                memory_bytes: room(gpu.memory.as_ref()),
                foreign_processes: 0,
                foreign_memory_bytes: 0,
                unusable,
                lost,
            };
            slots.push(with_foreign(slot, on_it(), gpu.memory.as_ref(), gpu.jobs.is_empty()));
            continue;
        }
        for instance in &gpu.mig_instances {
            let slot = GpuSlot {
                uuid: instance.uuid.clone(),
                gpu_uuid: gpu.uuid.clone(),
                model: gpu.model.clone(),
                label: format!("instance {} ({}) of {label}", instance.index, instance.profile),
                index: gpu.index,
                memory_bytes: room(instance.memory.as_ref()),
                foreign_processes: 0,
                foreign_memory_bytes: 0,
                unusable: unusable.clone(),
                lost: lost.clone(),
            };
            let on_instance = on_it().filter(|process| {
                process.gpu_instance_id == instance.gpu_instance_id
                    && process.compute_instance_id == instance.compute_instance_id
            });
            slots.push(with_foreign(slot, on_instance, instance.memory.as_ref(), instance.jobs.is_empty()));
        }
    }
    slots
}

fn room(memory: Option<&v1::GpuMemory>) -> Option<u64> {
    let memory = memory?;
    Some(memory.total_bytes?.saturating_sub(memory.reserved_bytes.unwrap_or(0)))
}

/// Counts what others hold.
fn with_foreign<'a>(
    mut slot: GpuSlot,
    processes: impl Iterator<Item = &'a v1::GpuProcess>,
    memory: Option<&v1::GpuMemory>,
    is_unleased: bool,
) -> GpuSlot {
    let mut all = 0;
    for process in processes {
        all += 1;
        if process.job.is_empty() || process.left_behind {
            slot.foreign_memory_bytes += process.used_memory_bytes.unwrap_or(0);
            slot.foreign_processes += u32::from(process.kind() == GpuProcessKind::Compute);
        }
    }
    // In a container the driver hides the processes of others, and tells of the memory that they
    // hold all the same.
    let used = memory.and_then(|memory| memory.used_bytes).unwrap_or(0);
    if all == 0 && is_unleased && used > NOBODYS_MEMORY && !process::numbers_are_ours() {
        slot.foreign_memory_bytes = used;
        slot.foreign_processes = 1;
    }
    slot
}

/// Those of the slots that `CUDA_VISIBLE_DEVICES` of the daemon leaves to jobs: numbers or
/// beginnings of uuids; what follows one that there is not does not count. (CUDA C++ Programming
/// Guide, environment variables)
pub fn restricted(slots: Vec<GpuSlot>, visible: Option<&str>) -> Vec<GpuSlot> {
    let Some(visible) = visible else { return slots };
    let mut left = Vec::new();
    for wanted in visible.split(',').map(str::trim) {
        let found = match wanted.parse::<u32>() {
            Ok(index) => slots.iter().find(|slot| slot.index == index && slot.uuid.starts_with("GPU-")),
            Err(_) if wanted.is_empty() => None,
            Err(_) => slots.iter().find(|slot| slot.uuid.starts_with(wanted)),
        };
        match found {
            Some(slot) if !left.contains(slot) => left.push(slot.clone()),
            _ => break,
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::holders::Seen;

    fn snapshot(gpus: Vec<v1::Gpu>, processes: Vec<Seen>) -> Snapshot {
        Snapshot { gpus, processes, ..Snapshot::starting() }
    }

    fn gpu(index: u32) -> v1::Gpu {
        v1::Gpu {
            uuid: format!("GPU-{index}"),
            name: format!("gpus/GPU-{index}"),
            index,
            model: "NVIDIA A10".into(),
            memory: Some(v1::GpuMemory { total_bytes: Some(1000), reserved_bytes: Some(100), ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn foreign_processes_and_failed_gpus_are_told() {
        let health = v1::GpuHealth {
            state: GpuHealthState::Failed.into(),
            reasons: vec![v1::GpuHealthReason { message: "gone".into(), ..Default::default() }],
        };
        let failed = v1::Gpu { health: Some(health), ..gpu(1) };
        let told = v1::GpuProcess {
            gpu: "gpus/GPU-0".into(),
            pid: 1,
            kind: GpuProcessKind::Compute.into(),
            used_memory_bytes: Some(300),
            ..Default::default()
        };
        let found = slots(&snapshot(vec![gpu(0), failed], vec![Seen { told, group: Some(1) }]), &[]);
        assert_eq!((found[0].memory_bytes, found[0].foreign_processes), (Some(900), 1));
        assert_eq!((found[0].foreign_memory_bytes, &found[0].unusable), (300, &None));
        assert_eq!(found[1].unusable.as_deref(), Some("GPU 1 (NVIDIA A10) has failed: gone"));
    }

    #[test]
    fn the_instances_of_a_divided_gpu_take_its_place() {
        let instance = v1::MigInstance { uuid: "MIG-a".into(), profile: "1g.10gb".into(), ..Default::default() };
        let divided = v1::Gpu {
            modes: Some(v1::GpuModes { mig: Some(true), ..Default::default() }),
            mig_instances: vec![instance],
            ..gpu(0)
        };
        let found = slots(&snapshot(vec![divided], vec![]), &[]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].uuid, "MIG-a");
        assert_eq!(found[0].label, "instance 0 (1g.10gb) of GPU 0 (NVIDIA A10)");
    }

    #[test]
    fn what_the_daemon_may_not_see_jobs_do_not_get() {
        let all = slots(&snapshot(vec![gpu(0), gpu(1), gpu(2)], vec![]), &[]);
        let left = |visible: &str| -> Vec<u32> {
            restricted(all.clone(), Some(visible)).iter().map(|slot| slot.index).collect()
        };
        assert_eq!(left("2,0"), [2, 0]);
        assert_eq!(left("GPU-1"), [1]);
        assert_eq!(left("0,7,1"), [0]);
        assert_eq!(left("1,1,0"), [1]);
        assert!(left("").is_empty() && left("-1,0").is_empty());
        assert_eq!(restricted(all.clone(), None).len(), 3);
    }
}
