//! Worksharing constructs: iterations, sections and blocks of which each is for one part alone.
//! libtorch's own kernels have none; those of MKL do.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::patience;

/// The constructs of a region that some parts have come to and others have not.
#[derive(Debug, Default)]
pub(super) struct Shares(Mutex<VecDeque<Open>>);

/// A construct, with the parts that have yet to come to it.
#[derive(Debug)]
struct Open {
    place: u64,
    share: Arc<Share>,
    left: u32,
}

/// Iterations, from which parts take one chunk after the other.
#[derive(Debug)]
pub(super) struct Share {
    first: i64,
    /// The first one beyond the last.
    end: i64,
    /// Of an iteration.
    step: i64,
    /// Of a chunk.
    stride: i64,
    next: AtomicI64,
    /// The chunk whose ordered blocks are due.
    turn: AtomicU64,
}

/// The iterations of a chunk: from the first, before the second.
pub(super) type Chunk = (i64, i64);

/// The construct that a part is in, and the chunk that it does.
struct Current {
    share: Arc<Share>,
    chunk: u64,
}

thread_local! {
    /// Of the parts that this thread is in, the innermost last.
    static CURRENT: RefCell<Vec<Current>> = const { RefCell::new(Vec::new()) };
}

impl Shares {
    /// The construct at that place: a new one for the first part that comes to it. Whether this part
    /// is the first.
    fn enter(&self, place: u64, size: u32, new: Share) -> (Arc<Share>, bool) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = open.iter().position(|open| open.place == place) {
            let found = &mut open[at];
            found.left -= 1;
            let share = Arc::clone(&found.share);
            if found.left == 0 {
                open.remove(at);
            }
            return (share, false);
        }
        let share = Arc::new(new);
        if size > 1 {
            open.push_back(Open { place, share: Arc::clone(&share), left: size - 1 });
        }
        (share, true)
    }

    /// Enters a loop, and takes its first chunk. None if there is none left.
    pub(super) fn begin(&self, place: u64, size: u32, new: Share) -> Option<Chunk> {
        let (share, _) = self.enter(place, size, new);
        CURRENT.with_borrow_mut(|current| current.push(Current { share, chunk: 0 }));
        next()
    }

    /// Whether this part is the first to come to a block that is for one alone.
    pub(super) fn is_first(&self, place: u64, size: u32) -> bool {
        self.enter(place, size, Share::new(0, 0, 1, 1)).1
    }
}

impl Share {
    /// The iterations from `first` up to before `end`, in chunks of so many.
    pub(super) fn new(first: i64, end: i64, step: i64, chunk: i64) -> Self {
        let stride = step.saturating_mul(chunk.max(1));
        Self { first, end, step, stride, next: AtomicI64::new(first), turn: AtomicU64::new(0) }
    }

    /// The next chunk with its place among all.
    fn take(&self) -> Option<(Chunk, u64)> {
        let is_beyond = |place: i64| if self.step > 0 { place >= self.end } else { place <= self.end };
        let limit = |place: i64| if is_beyond(place) { self.end } else { place };
        let taken = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            (!is_beyond(next)).then(|| limit(next.saturating_add(self.stride)))
        });
        let begun = taken.ok()?;
        let place = begun.wrapping_sub(self.first) / self.stride;
        Some(((begun, limit(begun.saturating_add(self.stride))), place.unsigned_abs()))
    }
}

/// The next chunk of the construct that this part is in.
pub(super) fn next() -> Option<Chunk> {
    CURRENT.with_borrow_mut(|current| {
        let current = current.last_mut()?;
        let (chunk, place) = current.share.take()?;
        current.chunk = place;
        Some(chunk)
    })
}

/// Leaves the construct.
pub(super) fn end() {
    CURRENT.with_borrow_mut(Vec::pop);
}

/// Blocks until the ordered blocks of all earlier chunks are done.
pub(super) fn await_turn() {
    let current =
        CURRENT.with_borrow(|current| current.last().map(|Current { share, chunk }| (Arc::clone(share), *chunk)));
    let Some((share, chunk)) = current else { return };
    let is_due = || share.turn.load(Ordering::Acquire) == chunk;
    while !patience::spin(is_due) {
        std::thread::yield_now();
    }
}

/// The same, and lets the next chunk have its turn: this part is done with its own.
pub(super) fn pass_turn() {
    await_turn();
    CURRENT.with_borrow(|current| {
        if let Some(Current { share, chunk }) = current.last() {
            share.turn.store(chunk + 1, Ordering::Release);
        }
    });
}
