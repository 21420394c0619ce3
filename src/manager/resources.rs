//! Whether this machine has what a job asks for of it, and which part of it the job will take.

use super::ManagerSettings;
use crate::gpu::GpuSlot;
use crate::job::Violations;
use crate::job::spec::{Device, HostMemory, RUNNER_BYTES, Resources};

/// The owner of the memory of the host that a job can have.
pub(super) fn owner_of_memory(resources: Resources, settings: &ManagerSettings) -> String {
    match (resources.memory_limit_bytes, settings.node.memory().limited_by) {
        (Some(limit), _) => {
            format!("the job, by its resources.memory_limit_bytes of {limit} without {RUNNER_BYTES} for its runner,")
        }
        (None, limit) => {
            let whole = limit.map_or("this machine".into(), |limit| format!("the control group of torchd ({limit})"));
            match resources.rank_count() {
                1 => whole,
                ranks => format!("each of {ranks} ranks on {whole}"),
            }
        }
    }
}

/// The memory of the host that a job can have: its limit, or else all of the machine, or what a
/// control group leaves. That of other machines is not known.
pub(super) fn host_memory<'a>(
    resources: Resources,
    is_afar: bool,
    settings: &ManagerSettings,
    owner: &'a str,
    wrong: &mut Violations,
) -> HostMemory<'a> {
    let most = if is_afar { 0 } else { settings.node.memory().total_bytes };
    let ranks = u64::from(resources.rank_count());
    // Each has the data and the state of training for itself.
    let Some(limit) = resources.memory_limit_bytes else { return HostMemory { bytes: most / ranks, owner, ranks } };
    if ranks > 1 && most > 0 && limit.saturating_mul(ranks) > most {
        let found = format!("is {limit} for each of {ranks} ranks; jobs can have {most} on this machine");
        wrong.add("resources.memory_limit_bytes", found);
    } else if most > 0 && limit > most {
        wrong.add("resources.memory_limit_bytes", format!("is {limit}; jobs can have {most} on this machine"));
    }
    HostMemory { ranks, ..HostMemory::within(limit, owner) }
}

/// No machine will ever have more GPUs of one model for a job than it has now, nor a GPU more than
/// all of its memory. Instances of a divided GPU do not count as several: CUDA shows a process one
/// at most. Nothing is known where there are no slots.
pub(super) fn judge_gpus(resources: Resources, slots: &[GpuSlot], wrong: &mut Violations) {
    let count = resources.gpus().unwrap_or(1) as usize;
    let fit: Vec<&GpuSlot> = slots.iter().filter(|slot| count == 1 || !slot.is_instance()).collect();
    let most_of_one_model = |slots: &[&GpuSlot]| {
        let of = |model: &str| slots.iter().filter(|slot| slot.model == model).count();
        slots.iter().map(|slot| of(&slot.model)).max().unwrap_or_default()
    };
    let most = most_of_one_model(&fit);
    if count > 1 && count > most && !slots.is_empty() {
        let of_model = if most < fit.len() { " of one model" } else { "" };
        let divided = if fit.len() < slots.len() { ", those that are divided left out" } else { "" };
        wrong.add("resources.gpu_count", format!("is {count}; this machine has {most}{of_model} for jobs{divided}"));
        return;
    }
    let Some(wanted) = resources.gpu_memory_bytes else { return };
    if resources.gpu_count == Some(0) {
        let found = format!("is {wanted}, and the job computes on the CPU, as there is no GPU that it could use");
        wrong.add("resources.gpu_memory_bytes", found);
        return;
    }
    let has = |slot: &&&GpuSlot| slot.memory_bytes.is_none_or(|bytes| bytes >= wanted);
    if most_of_one_model(&fit.iter().filter(has).copied().collect::<Vec<_>>()) >= count {
        return;
    }
    let largest = fit.iter().filter_map(|slot| Some((slot.memory_bytes?, &slot.label))).max();
    match largest {
        Some((most, label)) if most < wanted => {
            let found = format!("is {wanted}; the most on this machine is {most}, on {label}");
            wrong.add("resources.gpu_memory_bytes", found);
        }
        Some(_) => {
            let found = format!("is {wanted}, and this machine has no {count} GPUs of one model with so much");
            wrong.add("resources.gpu_memory_bytes", found);
        }
        None => {}
    }
}

/// Whether this machine can start several ranks: `no_ranks` is why they cannot meet on the CPU,
/// `no_gpu_ranks` why not on GPUs.
pub(super) fn judge_ranks(resources: Resources, no_ranks: &str, no_gpu_ranks: &str, wrong: &mut Violations) {
    let ranks = resources.rank_count();
    let (field, what, why) = match resources.is_on_gpu() {
        true => ("resources.gpu_count", "GPU", no_gpu_ranks),
        false => ("resources.ranks", "rank", no_ranks),
    };
    if ranks > 1 && !why.is_empty() {
        wrong.add(field, format!("is {ranks}, and a job has one {what} on this machine: {why}"));
    }
}

/// The part of other machines that a rank takes there: a GPU where the job asks for that. Which
/// machines have one is not known.
pub(super) fn place_afar(resources: &mut Resources) {
    resources.gpu_count = Some(resources.is_on_gpu().into());
    resources.ranks.get_or_insert(1);
    resources.cpu_threads.get_or_insert(1);
}

/// Decides which part of this machine the job will take. `no_gpu` is why it can be no GPU;
/// `in_shards` whether its batches are computed slice by slice.
pub(super) fn place(
    resources: &mut Resources,
    cpu_slots: u32,
    no_gpu: Option<&str>,
    in_shards: bool,
    wrong: &mut Violations,
) {
    let wants_gpu = resources.is_on_gpu();
    let has_gpu = no_gpu.is_none();
    if let Some(reason) = no_gpu.filter(|_| wants_gpu) {
        let field = if resources.device == Device::Cuda { "resources.device" } else { "resources.gpu_count" };
        let count = resources.gpus().unwrap_or(1);
        let asked = if resources.device == Device::Cuda { "is cuda".to_owned() } else { format!("is {count}") };
        wrong
            .add(field, format!("{asked}, and CUDA does not work on this machine: {reason}; use device = cpu or auto"));
    }
    let may_have_gpu = resources.device == Device::Auto && resources.gpu_count.is_none() && resources.rank_count() == 1;
    let on_gpu = wants_gpu || (may_have_gpu && has_gpu);
    resources.gpu_count = Some(if on_gpu { resources.gpus().unwrap_or(1) } else { 0 });
    let ranks = *resources.ranks.get_or_insert(1);
    match resources.cpu_threads {
        Some(threads) if ranks > 1 && threads.saturating_mul(ranks) > cpu_slots => {
            let found =
                format!("is {threads} for each of {ranks} ranks; jobs may take {cpu_slots} cores on this machine");
            wrong.add("resources.cpu_threads", found);
        }
        None if ranks > cpu_slots => {
            let found = format!("is {ranks}; jobs may take {cpu_slots} cores on this machine, and each rank takes one");
            wrong.add(if on_gpu { "resources.gpu_count" } else { "resources.ranks" }, found);
        }
        Some(threads) if threads > cpu_slots => {
            wrong
                .add("resources.cpu_threads", format!("is {threads}; jobs may take {cpu_slots} cores on this machine"));
        }
        Some(_) => {}
        None => resources.cpu_threads = Some(if on_gpu || in_shards { 1 } else { cpu_slots }),
    }
}
