//! Fair turns: among jobs of one priority, owners take turns, and each owner's jobs keep their
//! order.
//!
//! A job's turn is how many jobs of its owner are ahead of it: those that run, and those that wait
//! before it with its priority. The lowest turn comes first; among equals the owner whose last job
//! was started longest ago, then who came first. With one owner that is the order of arrival.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use super::{Held, Request};

/// When owners had their last turns; cheap to keep, since only their order counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turns {
    starts: u64,
    last: HashMap<Arc<str>, u64>,
}

impl Turns {
    /// A job of this owner is started.
    pub fn took(&mut self, owner: &Arc<str>) {
        self.starts += 1;
        self.last.insert(owner.clone(), self.starts);
    }

    /// 0 for an owner that had none.
    pub(super) fn last(&self, owner: &Arc<str>) -> u64 {
        self.last.get(owner).copied().unwrap_or(0)
    }
}

/// Jobs that run, by owner.
pub(super) fn running(held: &[Held]) -> HashMap<Arc<str>, u32> {
    let mut counts = HashMap::new();
    for held in held {
        *counts.entry(held.owner.clone()).or_default() += 1;
    }
    counts
}

/// The place of a job among those of its priority: the lower the earlier.
pub(super) type Place = (u32, u64);

/// The queue, which is in order of arrival, in the order of turns, with the place of each.
pub(super) fn ordered<'a>(
    queue: &'a [Request],
    running: &HashMap<Arc<str>, u32>,
    turns: &Turns,
) -> Vec<(Place, &'a Request)> {
    let mut ahead: HashMap<(i32, &Arc<str>), u32> = HashMap::new();
    let mut placed: Vec<_> = queue
        .iter()
        .map(|request| {
            let waiting = ahead.entry((request.priority, &request.owner)).or_default();
            let turn = running.get(&request.owner).copied().unwrap_or(0) + *waiting;
            *waiting += 1;
            ((turn, turns.last(&request.owner)), request)
        })
        .collect();
    placed.sort_by_key(|(place, request)| (Reverse(request.priority), *place));
    placed
}
