//! Chooses the GPUs of a job, or says why there are none.

use super::{GpuWish, Machine};
use crate::gpu::GpuSlot;
use crate::job::order::LeasedGpu;

/// Why there are not enough GPUs for a job.
pub(super) enum NoGpu {
    /// Jobs have them all.
    Taken(String),
    /// Nothing that jobs could change.
    Unusable(String),
}

/// The GPUs for a job, all or none: the first that are free, or, for one that shares, the fullest
/// that have room for it.
pub(super) fn choose(wish: GpuWish, held: &[LeasedGpu], machine: &Machine) -> Result<Vec<LeasedGpu>, NoGpu> {
    let mut obstacles = Vec::new();
    let mut could_be = 0;
    // With the room that each has, of those that are shared.
    let mut free: Vec<(u64, &GpuSlot)> = Vec::new();
    for slot in &machine.gpus {
        if let Some(obstacle) = obstacle(wish, slot, machine.share_with_foreign) {
            obstacles.push(obstacle);
            continue;
        }
        could_be += 1;
        let on_it: Vec<&LeasedGpu> = held.iter().filter(|leased| leased.visible == slot.uuid).collect();
        match wish.memory_bytes {
            None => free.extend(on_it.is_empty().then_some((0, slot))),
            Some(wanted) => {
                let promised: Option<u64> = on_it.iter().map(|leased| leased.memory_bytes).sum();
                // One of them has it for itself, or its size is not known.
                let (Some(promised), Some(all)) = (promised, slot.memory_bytes) else { continue };
                let room = all.saturating_sub(promised).saturating_sub(slot.foreign_memory_bytes);
                free.extend((room >= wanted).then_some((room, slot)));
            }
        }
    }
    let count = wish.count.max(1) as usize;
    // The sort keeps their order where they have as much room.
    free.sort_by_key(|(room, _)| *room);
    if let Some(chosen) = free.get(..count) {
        return Ok(chosen.iter().map(|(_, slot)| lease(wish, slot)).collect());
    }
    let needs = match (wish.memory_bytes, count) {
        (None, 1) => "needs a GPU".to_owned(),
        (None, _) => format!("needs {count} GPUs"),
        (Some(bytes), 1) => format!("needs {} of a GPU's memory", gigabytes(bytes)),
        (Some(bytes), _) => format!("needs {} of the memory of each of {count} GPUs", gigabytes(bytes)),
    };
    if machine.gpus.is_empty() {
        return Err(NoGpu::Unusable(format!("{needs}, and there is none now")));
    }
    if could_be < count {
        let others = match could_be {
            0 => String::new(),
            _ => format!("it could have {could_be}, since "),
        };
        return Err(NoGpu::Unusable(match obstacles.is_empty() {
            true => format!("{needs}, and there are {could_be} now"),
            false => format!("{needs}, and {others}{}", obstacles.join("; ")),
        }));
    }
    let others =
        if obstacles.is_empty() { String::new() } else { format!(", apart from that {}", obstacles.join("; ")) };
    let taken = match (wish.memory_bytes, could_be, count) {
        (None, 1, _) => "the only one is taken".to_owned(),
        (None, could_be, 1) => format!("all {could_be} are taken"),
        (None, could_be, _) => format!("{} of {could_be} are free", free.len()),
        (Some(_), _, 1) => "no one has so much left".to_owned(),
        (Some(_), ..) => format!("{} have so much left", free.len()),
    };
    Err(NoGpu::Taken(format!("{needs}, and {taken}{others}")))
}

/// Why a job could not have this GPU even if no other job had it.
fn obstacle(wish: GpuWish, slot: &GpuSlot, share_with_foreign: bool) -> Option<String> {
    if let Some(reason) = &slot.unusable {
        return Some(reason.clone());
    }
    if wish.count > 1 && slot.is_instance() {
        return Some(format!("{} is no whole GPU: NCCL connects none, and CUDA shows one at most", slot.label));
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
