//! A point in a region that no thread passes before all are there.

use std::sync::atomic::{AtomicU32, Ordering};

use super::patience;

/// A barrier that can be passed again and again.
#[derive(Debug, Default)]
pub(super) struct Barrier {
    /// Threads that are here.
    arrived: AtomicU32,
    /// How often all have passed.
    passed: AtomicU32,
    /// Threads that sleep here.
    asleep: AtomicU32,
}

impl Barrier {
    /// Blocks until `size` threads are here.
    pub(super) fn wait(&self, size: u32) {
        if size == 1 {
            return;
        }
        let passed = self.passed.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == size {
            // Before the others can come back for the next time.
            self.arrived.store(0, Ordering::Relaxed);
            self.passed.store(passed.wrapping_add(1), Ordering::SeqCst);
            if self.asleep.load(Ordering::SeqCst) > 0 {
                patience::wake_all(&self.passed);
            }
            return;
        }
        if patience::spin(|| self.passed.load(Ordering::Acquire) != passed) {
            return;
        }
        self.asleep.fetch_add(1, Ordering::SeqCst);
        while self.passed.load(Ordering::SeqCst) == passed {
            patience::sleep(&self.passed, passed);
        }
        self.asleep.fetch_sub(1, Ordering::SeqCst);
    }
}
