//! Reader threads: they fill batches from a source in a given order, a bounded amount ahead of the
//! loop that takes them. The order of the batches does not depend on the threads.
//!
//! Readers call no libtorch. A reader that hangs in a file is waited for by nobody: it ends when
//! its file answers, or with the process.

use std::any::Any;
use std::collections::VecDeque;
use std::iter::Peekable;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use torchd::dataset::{HostBatch, Problem, Source};
use torchd::fault;

use super::Patience;
use crate::failure::{Failure, Result};

/// While it waits for a reader the loop looks this often whether to go on.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A batch, or why it cannot be read.
pub(super) type Filled = std::result::Result<HostBatch, Problem>;

/// The places of the batches, in the order in which they are taken.
pub(super) type Tasks = Box<dyn Iterator<Item = Vec<u64>> + Send>;

/// Batches ahead of the loop: those being filled, and those that wait to be taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// This many ...
    pub(super) batches: usize,
    /// ... that have this many bytes together, or a single one that has more.
    pub(super) bytes: u64,
}

/// Batches that are read ahead. Dropping it lets the readers go.
pub(super) struct ReadAhead(Arc<Shared>);

struct Shared {
    source: Arc<dyn Source>,
    bounds: Bounds,
    state: Mutex<State>,
    /// A batch was taken, or nobody takes any more: for the readers.
    taken: Condvar,
    /// The first batch is filled: for the loop.
    filled: Condvar,
}

struct State {
    tasks: Peekable<Tasks>,
    ahead: VecDeque<Slot>,
    /// Batches that were taken: the number of the first one ahead.
    first: u64,
    bytes: u64,
    /// Buffers to be filled anew.
    spare: Vec<HostBatch>,
    is_over: bool,
}

struct Slot {
    bytes: u64,
    /// None while a reader is at it. The error is the panic of that reader.
    filled: Option<std::result::Result<Filled, Box<dyn Any + Send>>>,
}

impl ReadAhead {
    /// Starts to read.
    pub(super) fn start(source: Arc<dyn Source>, tasks: Tasks, readers: usize, bounds: Bounds) -> Result<Self> {
        let state = State {
            tasks: tasks.peekable(),
            ahead: VecDeque::new(),
            first: 0,
            bytes: 0,
            spare: Vec::new(),
            is_over: false,
        };
        let (taken, filled) = (Condvar::new(), Condvar::new());
        let ahead = Self(Arc::new(Shared { source, bounds, state: Mutex::new(state), taken, filled }));
        for number in 0..readers {
            let shared = ahead.0.clone();
            let started = thread::Builder::new().name(format!("reader-{number}")).spawn(move || shared.read());
            started
                .map_err(|error| Failure::machine(format!("a thread that reads data cannot be started: {error}")))?;
        }
        Ok(ahead)
    }

    /// The next batch; None where `go_on`, asked while it is waited for, says no.
    pub(super) fn take(&self, go_on: Patience<'_>) -> Result<Option<Filled>> {
        let begun = Instant::now();
        let mut state = self.0.state();
        loop {
            if let Some(filled) = state.ahead.front_mut().and_then(|slot| slot.filled.take()) {
                let bytes = state.ahead.pop_front().map_or(0, |slot| slot.bytes);
                state.bytes -= bytes;
                state.first += 1;
                drop(state);
                self.0.taken.notify_all();
                return match filled {
                    Ok(filled) => Ok(Some(filled)),
                    Err(panic) => resume_unwind(panic),
                };
            }
            if state.ahead.is_empty() && state.tasks.peek().is_none() {
                return Err(Failure::no_examples());
            }
            let (woken, wait) = self.0.filled.wait_timeout(state, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if wait.timed_out() {
                drop(state);
                if !go_on(begun.elapsed())? {
                    return Ok(None);
                }
                state = self.0.state();
            }
        }
    }

    /// Hands a buffer over to be filled anew.
    pub(super) fn reuse(&self, batch: HostBatch) {
        self.0.state().spare.push(batch);
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.0.state().is_over = true;
        self.0.taken.notify_all();
    }
}

impl Shared {
    /// A reader: fills one batch after the other.
    fn read(&self) {
        while let Some((number, places, mut batch)) = self.next_task() {
            // A panic is the loop's, as if it had read by itself.
            let filled = catch_unwind(AssertUnwindSafe(|| read(self.source.as_ref(), &places, &mut batch)));
            let filled = filled.map(|filled| filled.map(|()| batch));
            let mut state = self.state();
            let at = (number - state.first) as usize;
            state.ahead[at].filled = Some(filled);
            if at == 0 {
                self.filled.notify_all();
            }
        }
    }

    /// The number of the next batch to be filled, its places and a buffer; None where there is
    /// none left, or nobody takes it. Waits while enough lies ahead.
    fn next_task(&self) -> Option<(u64, Vec<u64>, HostBatch)> {
        let mut state = self.state();
        loop {
            if state.is_over {
                return None;
            }
            let width = self.source.facts().example_bytes();
            let bytes = width.saturating_mul(state.tasks.peek()?.len() as u64);
            let is_room =
                state.ahead.len() < self.bounds.batches && state.bytes.saturating_add(bytes) <= self.bounds.bytes;
            if is_room || state.ahead.is_empty() {
                let places = state.tasks.next()?;
                let number = state.first + state.ahead.len() as u64;
                state.bytes += bytes;
                state.ahead.push_back(Slot { bytes, filled: None });
                return Some((number, places, state.spare.pop().unwrap_or_default()));
            }
            state = self.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a batch: every batch is read here, by a reader or by the loop.
pub(super) fn read(source: &dyn Source, places: &[u64], into: &mut HostBatch) -> std::result::Result<(), Problem> {
    fault::point("data-read");
    source.fill(places, into)
}
