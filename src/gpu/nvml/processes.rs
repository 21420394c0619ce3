//! Processes on a GPU, with what NVML tells of their memory and time.

use std::collections::{BTreeMap, BTreeSet};

use nvml_wrapper::Device;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;

use super::ranges::Range;
use super::readings::Absences;
use crate::gpu::process;
use crate::proto::v1::{self, GpuProcessKind};

/// Readings of processes that may be absent, by their path.
const MEMORY: &str = "processes.used_memory_bytes";
const SM_RATIO: &str = "processes.sm_ratio";
const MEMORY_RATIO: &str = "processes.memory_ratio";

/// Processes that compute and those that draw; one that does both computes. `seen` is the time of
/// the newest sample of their utilisation that was read, in microseconds, and is moved on.
pub(super) fn read(device: &Device<'_>, gpu: &str, seen: &mut u64, absent: &mut Absences<'_>) -> Vec<v1::GpuProcess> {
    let computing = absent.take("process_count", device.running_compute_processes()).unwrap_or_default();
    // GPUs for computing alone tell of no others.
    let drawing = device.running_graphics_processes().unwrap_or_default();
    let shares = shares(device, seen);
    [MEMORY, SM_RATIO, MEMORY_RATIO].into_iter().for_each(|path| absent.forget(path));
    let mut ratio = |path, percent: u32| {
        let percent = absent.next_number(path, Range::PERCENT, Ok(percent));
        percent.map(|percent| f64::from(percent) / 100.0)
    };
    let shares: BTreeMap<_, _> = shares
        .into_iter()
        .map(|(pid, (_, sm, memory))| (pid, (ratio(SM_RATIO, sm), ratio(MEMORY_RATIO, memory))))
        .collect();
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
                UsedGpuMemory::Used(bytes) => absent.next_number(MEMORY, Range::BYTES, Ok(bytes)),
                UsedGpuMemory::Unavailable => None,
            },
            sm_ratio: share.and_then(|(sm, _)| *sm),
            memory_ratio: share.and_then(|(_, memory)| *memory),
            gpu_instance_id,
            compute_instance_id,
            ..v1::GpuProcess::default()
        });
    }
    list
}

/// The newest sample by process: its time, and the share of the multiprocessors' and of the
/// memory's time, in percent.
fn shares(device: &Device<'_>, seen: &mut u64) -> BTreeMap<u32, (u64, u32, u32)> {
    // NotFound means that there is no sample since then; for every other reason too the processes
    // are told without it.
    let samples = device.process_utilization_stats(*seen).unwrap_or_default();
    let mut newest: BTreeMap<u32, (u64, u32, u32)> = BTreeMap::new();
    // After a sample from beyond all times there would be none any more.
    for sample in samples.into_iter().filter(|sample| Range::TIME.has(sample.timestamp)) {
        *seen = (*seen).max(sample.timestamp);
        let entry = newest.entry(sample.pid).or_default();
        if sample.timestamp >= entry.0 {
            *entry = (sample.timestamp, sample.sm_util, sample.mem_util);
        }
    }
    newest
}
