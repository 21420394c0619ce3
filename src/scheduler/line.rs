//! The jobs of a queue that wait for others, as one number and a name: the place of the next job
//! follows from these, whatever their number.

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
    /// The lowest priority in the queue.
    lowest: Option<i32>,
}

impl Line {
    /// Puts a job at its end: why it waits there. None where the plan has to tell: it may be
    /// started, or is ahead of some.
    pub fn join(&mut self, request: &Request) -> Option<Wait> {
        let is_last = self.lowest.is_some_and(|lowest| request.priority <= lowest);
        if !is_last || !self.holds_back(request) {
            return None;
        }
        let wait = self.behind(request);
        self.add(request);
        self.lowest = Some(request.priority);
        Some(wait)
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

    /// The line of a queue with that lowest priority.
    pub(super) fn below(self, lowest: Option<i32>) -> Self {
        Self { lowest, ..self }
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
