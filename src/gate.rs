//! A gate bounds how many threads do blocking work of one kind at the same time.
//!
//! The runtime has one pool of threads for everything that blocks. Clients get into it through
//! gates only, so that supervision always finds a free thread, however many clients ask and however
//! slow a disk is. A turn ends with the thread that took it and not with the caller: a caller that
//! leaves frees nothing that is still in use. A caller that leaves while it waits is forgotten;
//! work that has begun learns it from [`Wanted`].

mod kept;

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinError;
use tokio::time::Instant;

pub use kept::Kept;

/// A bound on threads; cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate {
    turns: Arc<Semaphore>,
    width: usize,
    pulse: Arc<Pulse>,
}

/// When work behind a gate has last begun, gone on or ended, and how much of it there is.
#[derive(Debug)]
struct Pulse {
    begun: Instant,
    /// Milliseconds from `begun`.
    moved: AtomicU64,
    /// Turns that are taken. Each has beaten before it counts.
    busy: AtomicUsize,
}

impl Pulse {
    fn new() -> Self {
        Self { begun: Instant::now(), moved: AtomicU64::new(0), busy: AtomicUsize::new(0) }
    }

    fn beat(&self) {
        self.moved.store(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// The right to run work on one of a gate's threads. It ends with the work, or when it is dropped
/// unused.
#[derive(Debug)]
pub struct Turn {
    pulse: Arc<Pulse>,
    _permit: OwnedSemaphorePermit,
}

impl Turn {
    /// Runs `work` on a thread that may block. Dropping the future tells the work that nobody waits
    /// for it.
    pub async fn run<T: Send + 'static>(self, work: impl FnOnce(&Wanted) -> T + Send + 'static) -> Result<T, Stopped> {
        let (_caller, wanted) = Wanted::of(self.pulse.clone());
        let done = tokio::task::spawn_blocking(move || {
            let turn = self;
            turn.pulse.beat();
            let result = work(&wanted);
            turn.pulse.beat();
            result
        });
        Ok(done.await?)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pulse.busy.fetch_sub(1, Ordering::Release);
    }
}

/// Why work behind a gate came to no result.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// It panicked, or the runtime is shutting down.
    #[error("the work ended without a result: {0}")]
    Ended(#[from] JoinError),
    /// Nobody gets through any more.
    #[error("the daemon is shutting down: {0}")]
    Closed(#[from] AcquireError),
}

impl From<Stopped> for io::Error {
    fn from(stopped: Stopped) -> Self {
        Self::other(stopped)
    }
}

impl Gate {
    /// A gate that lets `width` threads through at once.
    pub fn new(width: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(width)), width, pulse: Arc::new(Pulse::new()) }
    }

    /// Waits for a turn. Dropping the future takes the caller out of the queue.
    pub async fn turn(&self) -> Result<Turn, Stopped> {
        let permit = self.turns.clone().acquire_owned().await?;
        self.pulse.beat();
        self.pulse.busy.fetch_add(1, Ordering::Release);
        Ok(Turn { pulse: self.pulse.clone(), _permit: permit })
    }

    /// Runs `work` on a thread that may block, in its turn. Dropping the future takes a waiting
    /// caller out of the queue, and tells work that has begun that nobody waits for it.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Wanted) -> T + Send + 'static) -> Result<T, Stopped> {
        self.turn().await?.run(work).await
    }

    /// For how long every turn has been taken without progress; None while one is
    /// free.
    pub fn standstill(&self) -> Option<Duration> {
        let is_full = self.pulse.busy.load(Ordering::Acquire) == self.width;
        let moved = Duration::from_millis(self.pulse.moved.load(Ordering::Relaxed));
        is_full.then(|| self.pulse.begun.elapsed().saturating_sub(moved))
    }
}

/// A caller that waits for some work. Dropping it tells the work that nobody does.
#[derive(Debug)]
pub struct Caller(Arc<AtomicBool>);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether somebody still waits for the work. Long work asks at each of its steps, which also shows
/// that it makes progress.
#[derive(Debug, Clone)]
pub struct Wanted {
    left: Arc<AtomicBool>,
    pulse: Arc<Pulse>,
}

impl Wanted {
    /// A caller, and how its work learns that it has left: for work that other bounds than those of
    /// a gate hold.
    pub fn by_caller() -> (Caller, Self) {
        Self::of(Arc::new(Pulse::new()))
    }

    fn of(pulse: Arc<Pulse>) -> (Caller, Self) {
        let left = Arc::new(AtomicBool::new(false));
        (Caller(left.clone()), Self { left, pulse })
    }

    /// Whether the caller is still there.
    pub fn is_wanted(&self) -> bool {
        self.pulse.beat();
        !self.left.load(Ordering::Relaxed)
    }

    /// Fails once the caller has left.
    pub fn check(&self) -> io::Result<()> {
        match self.is_wanted() {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "nobody waits for this any more")),
        }
    }

    /// A reader that fails once the caller has left.
    pub fn reads<R: Read>(&self, inner: R) -> impl Read {
        WhileWanted { inner, wanted: self }
    }
}

struct WhileWanted<'a, R> {
    inner: R,
    wanted: &'a Wanted,
}

impl<R: Read> Read for WhileWanted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wanted.check()?;
        self.inner.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn no_more_work_runs_than_the_gate_is_wide_and_a_turn_ends_with_its_thread() {
        let gate = Gate::new(2);
        let (tell, told) = mpsc::channel();
        let holds: Vec<_> = (0..2)
            .map(|number| {
                let (release, released) = mpsc::channel::<()>();
                let (gate, tell) = (gate.clone(), tell.clone());
                let work = move |wanted: &Wanted| {
                    tell.send(number).unwrap();
                    released.recv().unwrap();
                    wanted.check().is_err()
                };
                (release, tokio::spawn(async move { gate.run(work).await.unwrap() }))
            })
            .collect();
        let told = tokio::task::spawn_blocking(move || [told.recv().unwrap(), told.recv().unwrap()]).await.unwrap();
        assert_eq!(told.iter().sum::<i32>(), 1, "both run");
        assert!(gate.standstill().is_some(), "no turn is free");

        // Its caller leaves; the thread has its turn as long as it works.
        let (release, caller) = &holds[0];
        caller.abort();
        assert_eq!(gate.turns.available_permits(), 0);
        let waiting = gate.run(|_| 7);
        let mut waiting = std::pin::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        release.send(()).unwrap();
        assert_eq!(waiting.await.unwrap(), 7);
        assert!(gate.standstill().is_none());
        let (release, caller) = holds.into_iter().nth(1).unwrap();
        release.send(()).unwrap();
        assert!(!caller.await.unwrap(), "this one was waited for to the end");
    }

    #[tokio::test]
    async fn work_is_told_that_its_caller_has_left_and_one_that_waits_is_forgotten() {
        let gate = Gate::new(1);
        let (tell, told) = tokio::sync::oneshot::channel();
        let work = move |wanted: &Wanted| {
            // A reader that never ends but for that.
            let read = io::copy(&mut wanted.reads(io::repeat(0)), &mut io::sink());
            tell.send(read.unwrap_err().kind()).unwrap();
        };
        let (running, waiting) = (gate.clone(), gate.clone());
        let running = tokio::spawn(async move { running.run(work).await });
        while gate.turns.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let waiting = tokio::spawn(async move { waiting.run(|_| panic!("nobody wanted this")).await });
        tokio::task::yield_now().await;
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        running.abort();
        assert_eq!(told.await.unwrap(), io::ErrorKind::ConnectionAborted);
        assert_eq!(gate.run(|_| 1).await.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_was_just_taken_is_no_standstill_however_long_the_gate_was_idle() {
        let gate = Gate::new(1);
        tokio::time::advance(Duration::from_secs(3600)).await;
        let turn = gate.turn().await.unwrap();
        assert_eq!(gate.standstill(), Some(Duration::ZERO));
        drop(turn);
        assert_eq!(gate.standstill(), None);
    }
}
