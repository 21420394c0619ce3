//! Tells that the runner lives while it is asked to stop and one step, or one batch of a validation
//! pass, takes long.
//!
//! A runner that tells nothing after it was asked to stop is killed, and loses what it has not
//! saved. Its thread of training cannot tell anything before the step is over, so that another one
//! does. A step that takes far longer than every one before it hangs: nothing is told of that.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use std::{io, thread};

use nix::libc;
use torchd::job::end::EXIT_STORAGE;
use torchd::journal::JournalWriter;
use torchd::proto::journal::record::What;
use torchd::proto::v1::{JobEndReason, RunnerEnded, StepProgress};

use crate::stop::Stop;

/// How often the thread looks; it tells something when nothing was told for `ALIVE_EVERY`.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// A step may take this much longer than the longest so far ...
const PATIENCE_FACTOR: u32 = 4;
/// ... and at least this long: the first ones load kernels.
const LEAST_PATIENCE: Duration = Duration::from_secs(30);

/// The journal of the attempt, shared with the thread.
#[derive(Clone)]
pub(crate) struct Journal(Arc<Mutex<Shared>>);

struct Shared {
    writer: JournalWriter,
    /// When the last record was written.
    told: Instant,
    step: u64,
    /// When the step or batch in hand began.
    began: Option<Instant>,
    /// It waits for another rank, which tells how long it takes.
    waits_for_others: bool,
    longest: Duration,
    /// Whether the last word of the attempt was written.
    is_over: bool,
}

/// The thread. Dropping it ends it.
pub(crate) struct Pulse {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    pub(crate) fn new(writer: JournalWriter) -> Self {
        let shared = Shared {
            writer,
            told: Instant::now(),
            step: 0,
            began: None,
            waits_for_others: false,
            longest: Duration::ZERO,
            is_over: false,
        };
        Self(Arc::new(Mutex::new(shared)))
    }

    pub(crate) fn append(&self, what: What) -> io::Result<()> {
        self.shared().append(what)
    }

    pub(crate) fn file(&self) -> io::Result<std::fs::File> {
        self.shared().writer.file()
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.shared().writer.sync()
    }

    /// A step, or a batch of a validation pass after it, begins: the one before is over.
    pub(crate) fn begins(&self, step: u64) {
        self.rests();
        let mut shared = self.shared();
        shared.step = step;
        shared.began = Some(Instant::now());
        shared.waits_for_others = false;
    }

    /// None is in hand: another rank is waited for, which is the one to be silent where it hangs.
    pub(crate) fn waits_for_others(&self) {
        self.rests();
        self.shared().waits_for_others = true;
    }

    /// None is in hand: who waits for something else tells so itself.
    pub(crate) fn rests(&self) {
        let mut shared = self.shared();
        if let Some(began) = shared.began.take() {
            shared.longest = shared.longest.max(began.elapsed());
        }
    }

    /// Starts the thread. `patience` is the time after which a silent runner is taken for hung,
    /// where its user says so.
    pub(crate) fn pulse(&self, stop: Stop, patience: Option<Duration>) -> io::Result<Pulse> {
        let (end, ends) = channel();
        let journal = self.clone();
        let beat = move || {
            while ends.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                if stop.is_heard() {
                    journal.shared().beat(patience);
                }
            }
        };
        let thread = thread::Builder::new().name("pulse".into()).spawn(beat)?;
        Ok(Pulse { end: Some(end), thread: Some(thread) })
    }

    /// Writes the last word of the attempt, with the step in hand, and ends the process. Nobody
    /// writes after it, and no destructor runs under the threads that compute. An attempt that has
    /// had its last word is left to end by itself.
    pub(crate) fn end_process(&self, reason: JobEndReason, message: String) -> ! {
        let mut shared = self.shared();
        let Some(told) = shared.last_word(reason, message) else {
            drop(shared);
            loop {
                thread::park();
            }
        };
        let code = if told.is_ok() { 1 } else { EXIT_STORAGE };
        // SAFETY: it ends the process at once, and nothing that another thread does hinders it.
        unsafe { libc::_exit(code) }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn append(&mut self, what: What) -> io::Result<()> {
        self.told = Instant::now();
        self.is_over |= matches!(what, What::Ended(_));
        self.writer.append(SystemTime::now(), what)
    }

    /// Writes that the attempt has ended, so that it is on the disk; None where that was written
    /// before.
    fn last_word(&mut self, reason: JobEndReason, message: String) -> Option<io::Result<()>> {
        if self.is_over {
            return None;
        }
        let ended = RunnerEnded { reason: reason.into(), message, step: self.step, ..RunnerEnded::default() };
        Some(self.append(What::Ended(ended)).and_then(|()| self.writer.sync()))
    }

    fn beat(&mut self, patience: Option<Duration>) {
        let patience = patience.unwrap_or_else(|| (self.longest * PATIENCE_FACTOR).max(LEAST_PATIENCE));
        let is_at_work = self.waits_for_others || self.began.is_some_and(|began| began.elapsed() < patience);
        if is_at_work && self.told.elapsed() >= ALIVE_EVERY {
            let alive = StepProgress { step: self.step, ..StepProgress::default() };
            // The thread of training meets the same error with its next record, and ends the
            // attempt.
            let _ = self.append(What::Progress(alive));
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use torchd::journal::{JobFolder, JobLock};

    use super::*;

    #[test]
    fn an_attempt_has_one_last_word() {
        let place = tempfile::tempdir().unwrap();
        let folder = JobFolder::new(place.path().into());
        let lock = JobLock::take(&folder).unwrap().unwrap();
        let journal = Journal::new(JournalWriter::open(&folder, &lock, 1).unwrap());
        journal.begins(7);
        journal.append(What::Progress(StepProgress::default())).unwrap();
        let told = |reason| journal.shared().last_word(reason, "the end".into());
        assert!(told(JobEndReason::OutOfMemory).unwrap().is_ok());
        let length = std::fs::metadata(folder.journal()).unwrap().len();
        assert!(told(JobEndReason::OutOfMemory).is_none());
        assert_eq!(std::fs::metadata(folder.journal()).unwrap().len(), length);
        // The thread of training has had the last word.
        let journal = Journal::new(JournalWriter::open(&folder, &lock, 2).unwrap());
        journal.append(What::Ended(RunnerEnded::default())).unwrap();
        assert!(journal.shared().last_word(JobEndReason::OutOfMemory, "the end".into()).is_none());
    }
}
