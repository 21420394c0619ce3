//! The workers of a thread that begins regions, and how they and that thread share the parts.

use std::cell::RefCell;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::thread;

use super::patience;
use super::region::Region;

/// The stack of a worker: as large as that of a program's first thread.
const STACK_BYTES: usize = 8 << 20;

/// In `Worker::state`: it sleeps.
const ASLEEP: u32 = 1;
/// In `Worker::state`: a part is offered. The thread that clears this bit does it.
const OFFERED: u32 = 2;
/// In `Worker::state`: it is to end.
const OVER: u32 = 4;

/// In `Pool::undone`, beside the number: the thread that began the region sleeps.
const BEGINNER_SLEEPS: u32 = 1 << 31;

/// The workers of one thread.
#[derive(Debug, Default)]
struct Pool {
    workers: Vec<Arc<Worker>>,
    /// Parts of the region in hand that are not done, besides the first.
    undone: Arc<OwnLine<AtomicU32>>,
}

/// A value that shares no cache line with others.
#[derive(Debug, Default)]
#[repr(align(128))]
struct OwnLine<T>(T);

/// A thread that does parts, always those of the same number.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Worker {
    state: AtomicU32,
    /// The region of the part that is offered.
    region: AtomicPtr<Region>,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// Runs a region, until all its parts are done.
pub(super) fn run(region: &Region) {
    if region.size == 1 {
        return region.run(0);
    }
    // A region within one of several parts has one part: this one is not borrowed twice.
    POOL.with_borrow_mut(|pool| {
        while pool.workers.len() + 1 < region.size as usize {
            pool.start_worker();
        }
        patience::look();
        pool.run(region);
    });
}

impl Pool {
    /// Runs a region of at least two parts.
    fn run(&self, region: &Region) {
        let others = region.size - 1;
        let workers = &self.workers[..others as usize];
        let undone = &self.undone.0;
        undone.store(others, Ordering::Relaxed);
        workers.iter().for_each(|worker| worker.offer(region));
        region.run(0);
        let mut taken = 0;
        for (worker, number) in workers.iter().zip(1..) {
            if worker.take() {
                region.run(number);
                taken += 1;
            }
        }
        if undone.fetch_sub(taken, Ordering::AcqRel) == taken || patience::spin(|| undone.load(Ordering::Acquire) == 0)
        {
            return;
        }
        let mut left = undone.fetch_or(BEGINNER_SLEEPS, Ordering::AcqRel) | BEGINNER_SLEEPS;
        while left != BEGINNER_SLEEPS {
            patience::sleep(undone, left);
            left = undone.load(Ordering::Acquire);
        }
    }

    fn start_worker(&mut self) {
        let worker = Arc::new(Worker::default());
        let (own, undone) = (Arc::clone(&worker), Arc::clone(&self.undone));
        let number = self.workers.len() as u32 + 1;
        let thread = thread::Builder::new().name(format!("team-{number}")).stack_size(STACK_BYTES);
        if let Err(error) = thread.spawn(move || own.work(number, &undone.0)) {
            // Only this thread could do its parts, and those of a barrier need a thread each.
            eprintln!("torchd-runner: a thread of computation cannot be started: {error}");
            std::process::abort();
        }
        self.workers.push(worker);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.state.fetch_or(OVER, Ordering::AcqRel);
            patience::wake_all(&worker.state);
        }
    }
}

impl Worker {
    /// Offers a part of a region, which is there until the part is done.
    fn offer(&self, region: &Region) {
        self.region.store(ptr::from_ref(region).cast_mut(), Ordering::Relaxed);
        if self.state.fetch_or(OFFERED, Ordering::AcqRel) & ASLEEP != 0 {
            patience::wake_all(&self.state);
        }
    }

    /// Takes the part that is offered, unless it has been taken.
    fn take(&self) -> bool {
        self.state.fetch_and(!OFFERED, Ordering::AcqRel) & OFFERED != 0
    }

    /// Does the parts of that number, until it is told to end.
    fn work(&self, number: u32, undone: &AtomicU32) {
        loop {
            let state = self.state.load(Ordering::Acquire);
            if state & OVER != 0 {
                return;
            }
            if state & OFFERED != 0 {
                if self.take() {
                    // Only now: before, it may be the region of an earlier part.
                    let region = self.region.load(Ordering::Relaxed);
                    // SAFETY: it is there until this part is done.
                    unsafe { (*region).run(number) };
                    if undone.fetch_sub(1, Ordering::AcqRel) == 1 | BEGINNER_SLEEPS {
                        patience::wake_all(undone);
                    }
                }
                continue;
            }
            let is_called = patience::spin(|| self.state.load(Ordering::Acquire) != 0);
            if !is_called && self.state.compare_exchange(0, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                patience::sleep(&self.state, ASLEEP);
                self.state.fetch_and(!ASLEEP, Ordering::AcqRel);
            }
        }
    }
}
