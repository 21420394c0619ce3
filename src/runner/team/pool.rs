//! The workers of a thread that begins regions, and how they and that thread share the parts.
//!
//! On a quiet machine all parts are offered to the workers. On a busy one the thread that began a
//! region does all of them one after the other: a worker that takes a part, and then loses its core
//! to another program, holds up the region for much longer than the part takes. But parts of some
//! kernels wait for each other, and long ones are better shared. So the first worker looks from time
//! to time, and calls the others once a region has taken long; they are called at once at a barrier,
//! and for code whose regions have taken long before.

use std::cell::RefCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::libc;

use super::patience;
use super::region::{Body, Region};

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

/// The interval at which the first worker looks on a busy machine, and the time of computation
/// after which a region has taken long.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Looks in which no region was begun before it stops to look.
const IDLE_LOOKS: u32 = 50;

/// Codes that are remembered at most.
const MOST_SLOW: usize = 64;

/// The workers of one thread.
#[derive(Debug)]
struct Pool {
    workers: Vec<Arc<Worker>>,
    /// Code of which a region has taken long on a busy machine.
    slow: Vec<Body>,
    common: Arc<Common>,
}

/// The knowledge that a thread shares with its workers.
#[derive(Debug)]
pub(super) struct Common {
    /// Parts of the region in hand that are not done, besides the first.
    undone: OwnLine<AtomicU32>,
    /// Regions that were begun without a call.
    uncalled: OwnLine<AtomicU32>,
    /// Whether the region in hand has taken long, as the first worker saw.
    is_slow: AtomicBool,
    /// Whether the first worker looks.
    is_watched: AtomicBool,
    /// The clock of the processor time of the thread that begins regions.
    clock: libc::clockid_t,
    workers: Mutex<Vec<Arc<Worker>>>,
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
    static POOL: RefCell<Pool> = RefCell::new(Pool::new());
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
        let is_busy = patience::look();
        pool.run(region, is_busy);
    });
}

impl Pool {
    fn new() -> Self {
        let mut clock = libc::CLOCK_MONOTONIC;
        // SAFETY: it writes the clock of this thread, or leaves it.
        let _ = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) };
        let common = Common {
            undone: OwnLine::default(),
            uncalled: OwnLine::default(),
            is_slow: AtomicBool::new(false),
            is_watched: AtomicBool::new(false),
            clock,
            workers: Mutex::default(),
        };
        Self { workers: Vec::new(), slow: Vec::new(), common: Arc::new(common) }
    }

    /// Runs a region of at least two parts.
    fn run(&mut self, region: &Region, is_busy: bool) {
        let others = region.size - 1;
        let workers = &self.workers[..others as usize];
        let undone = &self.common.undone.0;
        undone.store(others, Ordering::Relaxed);
        let is_alone = is_busy && !self.slow.iter().any(|slow| std::ptr::fn_addr_eq(*slow, region.body));
        if is_alone {
            region.leave_uncalled(&self.common);
            for worker in workers {
                let _ = worker.offer(region);
            }
            self.common.uncalled.0.fetch_add(1, Ordering::Relaxed);
            // The first worker says that it no longer looks before it sleeps.
            if !self.common.is_watched.load(Ordering::SeqCst) {
                workers[0].call();
            }
        } else {
            for worker in workers {
                if worker.offer(region) & ASLEEP != 0 {
                    patience::wake_all(&worker.state);
                }
            }
        }
        region.run(0);
        let mut taken = 0;
        for (worker, number) in workers.iter().zip(1..) {
            if worker.take() {
                region.run(number);
                taken += 1;
            }
        }
        if is_alone && self.common.is_slow.swap(false, Ordering::Relaxed) && self.slow.len() < MOST_SLOW {
            self.slow.push(region.body);
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
        let (own, common) = (Arc::clone(&worker), Arc::clone(&self.common));
        let number = self.workers.len() as u32 + 1;
        let thread = thread::Builder::new().name(format!("team-{number}")).stack_size(STACK_BYTES);
        if let Err(error) = thread.spawn(move || own.work(number, &common)) {
            // Only this thread could do its parts, and those of a barrier need a thread each.
            eprintln!("torchd-runner: a thread of computation cannot be started: {error}");
            std::process::abort();
        }
        self.common.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&worker));
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

impl Common {
    /// Calls the workers to whom parts are offered.
    pub(super) fn call(&self) {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.iter().for_each(|worker| worker.call());
    }

    /// The processor time of the thread that begins regions.
    fn computed(&self) -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: it writes the time. Where the thread is over there is none.
        let _ = unsafe { libc::clock_gettime(self.clock, &raw mut time) };
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    }
}

impl Worker {
    /// Offers a part of a region, which is there until the part is done. The state before.
    fn offer(&self, region: &Region) -> u32 {
        self.region.store(ptr::from_ref(region).cast_mut(), Ordering::Relaxed);
        self.state.fetch_or(OFFERED, Ordering::SeqCst)
    }

    /// Wakes the worker, if a part is offered to it.
    fn call(&self) {
        if self.state.load(Ordering::SeqCst) & (OFFERED | ASLEEP) == OFFERED | ASLEEP {
            patience::wake_all(&self.state);
        }
    }

    /// Takes the part that is offered, unless it has been taken.
    fn take(&self) -> bool {
        self.state.fetch_and(!OFFERED, Ordering::AcqRel) & OFFERED != 0
    }

    /// Looks from time to time whether the region in hand has taken long, and calls all workers if
    /// so. Whether this worker can sleep, since no region is begun any more.
    fn watch(&self, common: &Common) -> bool {
        let look = || (common.uncalled.0.load(Ordering::Relaxed), common.computed());
        let is_offered = || self.state.load(Ordering::SeqCst) & OFFERED != 0;
        common.is_watched.store(true, Ordering::SeqCst);
        let (mut before, mut idle) = (look(), 0);
        while patience::is_busy() && idle < IDLE_LOOKS && self.state.load(Ordering::Relaxed) & OVER == 0 {
            thread::sleep(LOOK_EVERY);
            let now = look();
            if now.0 != before.0 {
                idle = 0;
            } else if !is_offered() {
                idle += 1;
            } else if now.1.saturating_sub(before.1) >= LOOK_EVERY / 2 {
                common.is_slow.store(true, Ordering::Relaxed);
                break;
            } else {
                // The thread has no core. It will go on from where it is.
                continue;
            }
            before = now;
        }
        common.is_watched.store(false, Ordering::SeqCst);
        if is_offered() {
            common.call();
        }
        idle == IDLE_LOOKS
    }

    /// Does the parts of that number, until it is told to end.
    fn work(&self, number: u32, common: &Common) {
        let undone = &common.undone.0;
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
                if number != 1 || !patience::is_busy() || self.watch(common) {
                    patience::sleep(&self.state, ASLEEP);
                }
                self.state.fetch_and(!ASLEEP, Ordering::AcqRel);
            }
        }
    }
}
