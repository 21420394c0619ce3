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
/// that have room for it. Several are of one model: another one adds in another order.
pub(super) fn choose(wish: GpuWish, held: &[LeasedGpu], machine: &Machine) -> Result<Vec<LeasedGpu>, NoGpu> {
    let mut obstacles = Vec::new();
    let mut could_be: Vec<&GpuSlot> = Vec::new();
    // With the room that each has, of those that are shared.
    let mut free: Vec<(u64, &GpuSlot)> = Vec::new();
    for slot in &machine.gpus {
        if let Some(obstacle) = obstacle(wish, slot, machine.share_with_foreign) {
            obstacles.push(obstacle);
            continue;
        }
        could_be.push(slot);
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
    let alike = |one: &GpuSlot, other: &GpuSlot| count == 1 || one.model == other.model;
    let chosen = free.iter().find_map(|(_, first)| {
        let of_model: Vec<_> = free.iter().filter(|(_, slot)| alike(first, slot)).take(count).collect();
        (of_model.len() == count).then_some(of_model)
    });
    if let Some(chosen) = chosen {
        return Ok(chosen.iter().map(|(_, slot)| lease(wish, slot)).collect());
    }
    let most = |slots: &[&GpuSlot]| {
        slots.iter().map(|first| slots.iter().filter(|slot| alike(first, slot)).count()).max().unwrap_or_default()
    };
    let needs = match (wish.memory_bytes, count) {
        (None, 1) => "needs a GPU".to_owned(),
        (None, _) => format!("needs {count} GPUs"),
        (Some(bytes), 1) => format!("needs {} of a GPU's memory", gigabytes(bytes)),
        (Some(bytes), _) => format!("needs {} of the memory of each of {count} GPUs", gigabytes(bytes)),
    };
    let (can, now) = (most(&could_be), most(&free.iter().map(|(_, slot)| *slot).collect::<Vec<_>>()));
    let of_model = if can < could_be.len() && count > 1 { " of one model" } else { "" };
    if machine.gpus.is_empty() {
        return Err(NoGpu::Unusable(format!("{needs}, and there is none now")));
    }
    if can < count {
        let has = if can == 0 { String::new() } else { format!("it can have {can}{of_model} now") };
        let why = [has, obstacles.join("; ")].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
        return Err(NoGpu::Unusable(format!("{needs}, and {}", why.join(": "))));
    }
    let others =
        if obstacles.is_empty() { String::new() } else { format!(", apart from that {}", obstacles.join("; ")) };
    let taken = match (wish.memory_bytes, count) {
        (None, 1) if can == 1 && could_be.len() == 1 => "the only one is taken".to_owned(),
        (None, 1) => format!("all {} are taken", could_be.len()),
        (None, _) => format!("{now} of {can}{of_model} are free"),
        (Some(_), 1) => "no one has so much left".to_owned(),
        (Some(_), _) => format!("{now}{of_model} have so much left"),
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
