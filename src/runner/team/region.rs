//! A parallel region, and the part of it that a thread is doing.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::barrier::Barrier;
use super::pool::Common;
use super::share::Shares;

/// The code of a region, which every part runs.
pub(super) type Body = unsafe extern "C" fn(*mut c_void);

/// A region that is being run. It lies on the stack of the thread that began it, which leaves it
/// when all parts are done.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) body: Body,
    data: *mut c_void,
    /// Parts.
    pub(super) size: u32,
    /// Whether this region or one around it has several parts.
    is_parallel: bool,
    /// The workers that have yet to be called; null where they are.
    uncalled: AtomicPtr<Common>,
    barrier: Barrier,
    pub(super) shares: Shares,
}

/// The part that a thread is doing.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// Null outside of regions.
    region: *const Region,
    number: u32,
    /// Worksharing constructs that this part has come to.
    shares: u64,
}

const OUTSIDE: Part = Part { region: ptr::null(), number: 0, shares: 0 };

thread_local! {
    static PART: Cell<Part> = const { Cell::new(OUTSIDE) };
}

impl Region {
    /// A region of that many parts. One that is begun in a region of several parts has one part
    /// alone: teams are not nested.
    ///
    /// # Safety
    /// `body` can be called with `data` by several threads at once, as long as the region is there.
    pub(super) unsafe fn new(body: Body, data: *mut c_void, size: u32) -> Self {
        let is_parallel = size > 1 || is_parallel();
        Self {
            body,
            data,
            size,
            is_parallel,
            uncalled: AtomicPtr::default(),
            barrier: Barrier::default(),
            shares: Shares::default(),
        }
    }

    /// Notes that the workers are not called, who are there as long as the region is.
    pub(super) fn leave_uncalled(&self, common: &Common) {
        self.uncalled.store(ptr::from_ref(common).cast_mut(), Ordering::Relaxed);
    }

    /// Blocks until all parts are here.
    pub(super) fn wait(&self) {
        let uncalled = self.uncalled.swap(ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: as `leave_uncalled` says.
        if let Some(common) = unsafe { uncalled.as_ref() } {
            common.call();
        }
        self.barrier.wait(self.size);
    }

    /// Does a part on this thread.
    pub(super) fn run(&self, number: u32) {
        let before = PART.replace(Part { region: self, number, shares: 0 });
        // SAFETY: as `new` was promised.
        unsafe { (self.body)(self.data) };
        PART.set(before);
    }
}

/// The number of the part that this thread is doing; 0 outside of regions.
pub(super) fn number() -> u32 {
    PART.get().number
}

/// Whether this thread is in a region of several parts.
pub(super) fn is_parallel() -> bool {
    within(|region| region.is_parallel).unwrap_or(false)
}

/// The innermost region of this thread; None outside of regions.
pub(super) fn within<T>(work: impl FnOnce(&Region) -> T) -> Option<T> {
    // SAFETY: the region is there until its parts are done, and this thread is in one of them.
    unsafe { PART.get().region.as_ref() }.map(work)
}

/// The place of the next worksharing construct in the order in which parts come to them.
pub(super) fn next_share() -> u64 {
    let part = PART.get();
    PART.set(Part { shares: part.shares + 1, ..part });
    part.shares
}
