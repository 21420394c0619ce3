//! Chooses a GPU for a job, or says why there is none.

use super::{GpuWish, Machine};
use crate::gpu::GpuSlot;
use crate::job::order::LeasedGpu;

/// Why there is no GPU for a job.
pub(super) enum NoGpu {
    /// Jobs have them all.
    Taken(String),
    /// Nothing that jobs could change.
    Unusable(String),
}

/// A GPU for a job: the first that is free, or, for one that shares, the fullest that has room for
/// it.
pub(super) fn choose(wish: GpuWish, held: &[LeasedGpu], machine: &Machine) -> Result<LeasedGpu, NoGpu> {
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
