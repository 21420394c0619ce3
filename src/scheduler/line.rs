//! The jobs of a queue that wait for others, as one number and a name: the place of the next job
//! follows from these, whatever their number.

use std::collections::HashMap;
use std::sync::Arc;

use super::turns::{Place, Turns};
use super::{Request, Wait};
use crate::job::JobId;

/// The jobs that wait for others. After a plan: those of the whole queue. Until something changes
/// besides, the plan with another job at the end of the queue is the same plan, and that job waits
/// as `join` tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line {
    first: Option<JobId>,
    jobs: usize,
    /// One of them waits for CPU slots, which all jobs need.
    for_slots: bool,
    /// One of them waits for a GPU.
    for_gpus: bool,
    /// The last job of the queue.
    last: Option<Last>,
    /// Jobs that run, by owner.
    running: HashMap<Arc<str>, u32>,
    /// Jobs of the lowest priority that wait, by owner.
    waiting: HashMap<Arc<str>, u32>,
    turns: Turns,
    outlasts_starts: bool,
}

/// Where a queue ends.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Last {
    priority: i32,
    place: Place,
}

impl Line {
    /// Puts a job at its end: why it waits there. None where the plan has to tell: it may be
    /// started, or is ahead of some.
    pub fn join(&mut self, request: &Request) -> Option<Wait> {
        let last = self.last.as_ref()?;
        let is_of_lowest = request.priority == last.priority;
        let waiting = if is_of_lowest { self.waiting.get(&request.owner).copied().unwrap_or(0) } else { 0 };
        let turn = self.running.get(&request.owner).copied().unwrap_or(0) + waiting;
        let place = (turn, self.turns.last(&request.owner));
        let is_last = request.priority < last.priority || (is_of_lowest && place >= last.place);
        if !is_last || !self.holds_back(request) {
            return None;
        }
        let wait = self.behind(request);
        self.add(request);
        self.outlasts_starts &= is_of_lowest && self.waiting.contains_key(&request.owner);
        if !is_of_lowest {
            self.waiting.clear();
        }
        *self.waiting.entry(request.owner.clone()).or_default() += 1;
        self.last = Some(Last { priority: request.priority, place });
        Some(wait)
    }

    /// Whether it stays as it is when jobs of its plan are started: a turn that is taken changes
    /// the order among several owners, and the start of a job counts at other priorities from then
    /// on.
    pub fn outlasts_starts(&self) -> bool {
        self.outlasts_starts
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn add(&mut self, request: &Request) {
        self.first.get_or_insert_with(|| request.id.clone());
        self.jobs += 1;
        self.for_gpus |= request.gpu.is_some();
    }

    /// One of them waits for CPU slots.
    pub(super) fn for_slots(&mut self) {
        self.for_slots = true;
    }

    /// The line at the end of this queue, which is in the order of turns.
    pub(super) fn behind_all(
        self,
        queue: &[(Place, &Request)],
        running: HashMap<Arc<str>, u32>,
        turns: &Turns,
    ) -> Self {
        let last = queue.last().map(|(place, request)| Last { priority: request.priority, place: *place });
        let lowest = last.as_ref().map(|last| last.priority);
        let mut waiting = HashMap::new();
        for (_, request) in queue.iter().rev().take_while(|(_, request)| Some(request.priority) == lowest) {
            *waiting.entry(request.owner.clone()).or_default() += 1;
        }
        let mut owners = running.keys().chain(queue.iter().map(|(_, request)| &request.owner));
        let first = owners.next();
        let outlasts_starts = owners.all(|owner| Some(owner) == first)
            && queue.iter().all(|(_, request)| Some(request.priority) == lowest);
        Self { last, running, waiting, turns: turns.clone(), outlasts_starts, ..self }
    }

    /// Whether what a job needs belongs to a job ahead of it.
    pub(super) fn holds_back(&self, request: &Request) -> bool {
        self.for_slots || (request.gpu.is_some() && self.for_gpus)
    }

    /// A job waits for those ahead of it.
    pub(super) fn behind(&self, request: &Request) -> Wait {
        Wait::Behind { first: self.first.as_ref().unwrap_or(&request.id).clone(), jobs: self.jobs }
    }
}
