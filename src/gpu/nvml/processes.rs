//! Processes on a GPU, with what NVML tells of their memory and time.

use std::collections::{BTreeMap, BTreeSet};

use nvml_wrapper::Device;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;

use super::readings::Absences;
use crate::gpu::process;
use crate::proto::v1::{self, GpuProcessKind};

/// Processes that compute and those that draw; one that does both computes. `seen` is the time of the newest sample of their
/// utilisation that was read, in microseconds, and is moved on.
pub(super) fn read(device: &Device<'_>, gpu: &str, seen: &mut u64, absent: &mut Absences<'_>) -> Vec<v1::GpuProcess> {
    let computing = absent.take("process_count", device.running_compute_processes()).unwrap_or_default();
    // GPUs for computing alone tell of no others.
    let drawing = device.running_graphics_processes().unwrap_or_default();
    let shares = shares(device, seen);
    let mut known = BTreeSet::new();
    let mut list = Vec::new();
    let kinds = computing.into_iter().map(|told| (told, GpuProcessKind::Compute));
    for (told, kind) in kinds.chain(drawing.into_iter().map(|told| (told, GpuProcessKind::Graphics))) {
        let ProcessInfo { pid, used_gpu_memory, gpu_instance_id, compute_instance_id } = told;
        if !known.insert((pid, gpu_instance_id, compute_instance_id)) {
            continue;
        }
        let share = shares.get(&pid);
        list.push(v1::GpuProcess {
            gpu: gpu.to_owned(),
            pid,
            program: process::program(pid),
            kind: kind.into(),
            used_memory_bytes: match used_gpu_memory {
                UsedGpuMemory::Used(bytes) => Some(bytes),
                UsedGpuMemory::Unavailable => None,
            },
            sm_ratio: share.map(|(sm, _)| *sm),
            memory_ratio: share.map(|(_, memory)| *memory),
            gpu_instance_id,
            compute_instance_id,
            ..v1::GpuProcess::default()
        });
    }
    list
}

/// The newest share of the multiprocessors' and of the memory's time by process.
fn shares(device: &Device<'_>, seen: &mut u64) -> BTreeMap<u32, (f64, f64)> {
    // NotFound means that there is no sample since then; for every other reason too the processes are told without it.
    let samples = device.process_utilization_stats(*seen).unwrap_or_default();
    let mut newest: BTreeMap<u32, (u64, f64, f64)> = BTreeMap::new();
    for sample in samples {
        *seen = (*seen).max(sample.timestamp);
        let entry = newest.entry(sample.pid).or_default();
        if sample.timestamp >= entry.0 {
            *entry = (sample.timestamp, f64::from(sample.sm_util) / 100.0, f64::from(sample.mem_util) / 100.0);
        }
    }
    newest.into_iter().map(|(pid, (_, sm, memory))| (pid, (sm, memory))).collect()
}
