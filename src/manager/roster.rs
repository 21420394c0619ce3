//! The jobs that have not ended, in order of arrival. Thousands may wait while a few run: a pass
//! over the running jobs does not walk past those that wait.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::live::Live;
use crate::job::{JobId, State};

/// The jobs that have not ended.
#[derive(Default)]
pub(super) struct Roster {
    jobs: BTreeMap<Arrival, Box<Live>>,
    arrivals: HashMap<JobId, Arrival>,
    next: u64,
    /// Those that a runner works for, or that the database has still to be told the end of.
    busy: BTreeSet<Arrival>,
    /// Those that wait for a time.
    early: BTreeSet<Arrival>,
    /// Those that wait for other jobs to end.
    bound: BTreeSet<Arrival>,
    queued: usize,
    queued_of: HashMap<Arc<str>, usize>,
}

/// Where a job stands in the order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Arrival(u64);

impl Roster {
    /// Adds a job behind all others.
    pub(super) fn push(&mut self, live: Live) {
        let place = Arrival(self.next);
        self.next += 1;
        self.put(place, Box::new(live));
    }

    /// Takes a job out to change it. It is put back, or it has ended.
    pub(super) fn take(&mut self, id: &JobId) -> Option<(Arrival, Box<Live>)> {
        let place = self.arrivals.remove(id)?;
        self.busy.remove(&place);
        self.early.remove(&place);
        self.bound.remove(&place);
        let live = self.jobs.remove(&place)?;
        if live.job.state == State::Queued {
            self.queued -= 1;
            if let Entry::Occupied(mut count) = self.queued_of.entry(live.job.owner.clone()) {
                *count.get_mut() -= 1;
                // Owners come and go.
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
        Some((place, live))
    }

    /// Puts a job where it was.
    pub(super) fn put(&mut self, place: Arrival, live: Box<Live>) {
        if live.runner.is_some() || live.untold_end.is_some() || live.lease.is_some() || live.job.state.is_active() {
            self.busy.insert(place);
        }
        if live.not_before().is_some() {
            self.early.insert(place);
        }
        if live.is_bound() {
            self.bound.insert(place);
        }
        if live.job.state == State::Queued {
            self.queued += 1;
            *self.queued_of.entry(live.job.owner.clone()).or_default() += 1;
        }
        self.arrivals.insert(live.job.id.clone(), place);
        self.jobs.insert(place, live);
    }

    /// Whether a job has not ended.
    pub(super) fn contains(&self, id: &JobId) -> bool {
        self.arrivals.contains_key(id)
    }

    /// A job.
    pub(super) fn get(&self, id: &JobId) -> Option<&Live> {
        self.jobs.get(self.arrivals.get(id)?).map(Box::as_ref)
    }

    /// A job, for changes that neither give it a runner nor take one away.
    pub(super) fn get_mut(&mut self, id: &JobId) -> Option<&mut Live> {
        self.jobs.get_mut(self.arrivals.get(id)?).map(Box::as_mut)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Live> {
        self.jobs.values().map(Box::as_ref)
    }

    /// Those that a runner works for, or that the database has still to be told the end of.
    pub(super) fn busy(&self) -> impl Iterator<Item = &Live> {
        self.busy.iter().filter_map(|place| self.jobs.get(place).map(Box::as_ref))
    }

    /// The same, by name.
    pub(super) fn busy_ids(&self) -> Vec<JobId> {
        self.busy().map(|live| live.job.id.clone()).collect()
    }

    /// Those that wait for a time.
    pub(super) fn early(&self) -> impl Iterator<Item = &Live> {
        self.early.iter().filter_map(|place| self.jobs.get(place).map(Box::as_ref))
    }

    /// Those that wait for other jobs to end.
    pub(super) fn bound(&self) -> impl Iterator<Item = &Live> {
        self.bound.iter().filter_map(|place| self.jobs.get(place).map(Box::as_ref))
    }

    /// How many wait in the queue.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// How many of them are of this owner.
    pub(super) fn queued_of(&self, owner: &str) -> usize {
        self.queued_of.get(owner).copied().unwrap_or(0)
    }
}
