//! The limits that all clients share: threads for work that blocks, and memory for requests and
//! answers on their way.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Response, Status};

use super::status;
use crate::fault;
use crate::gate::{Gate, Stopped, Wanted};
use crate::journal::JournalIndexes;

/// Threads for work that is short: a piece of a file, a list of files. A thousand watchers that
/// come back leave the jobs their cores.
const READS_AT_ONCE: usize = 2;
/// Threads for work that may be as long as a journal or a log is.
const SCANS_AT_ONCE: usize = 2;
/// Threads for checksums of files that may be of any size.
const SUMS_AT_ONCE: usize = 2;
/// Bytes of requests that have not come whole, of all clients together.
const REQUEST_BYTES: usize = 32 << 20;
/// Bytes of answers that their clients have not read yet, of all clients together.
const ANSWER_BYTES: usize = 64 << 20;
/// Bytes of each that are not counted among those: ordinary ones never wait for others.
pub(super) const FREE_BYTES: usize = 16 << 10;

/// The limits that all clients share; cheap to clone.
#[derive(Clone)]
pub struct Clients {
    reads: Gate,
    scans: Gate,
    sums: Gate,
    requests: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    /// Where things are in the journals.
    pub(super) journals: JournalIndexes,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            reads: Gate::new(READS_AT_ONCE),
            scans: Gate::new(SCANS_AT_ONCE),
            sums: Gate::new(SUMS_AT_ONCE),
            requests: Arc::new(Semaphore::new(REQUEST_BYTES)),
            answers: Arc::new(Semaphore::new(ANSWER_BYTES)),
            journals: JournalIndexes::default(),
        }
    }
}

/// Memory that an answer on its way takes. It stands in the extensions of the answer, and is free
/// again once its client has read that.
#[derive(Clone)]
pub(super) struct Hold {
    _bytes: Option<Arc<OwnedSemaphorePermit>>,
}

impl Hold {
    /// The answer that takes it.
    pub(super) fn of<T>(self, message: T) -> Response<T> {
        let mut answer = Response::new(message);
        answer.extensions_mut().insert(self);
        answer
    }
}

impl Clients {
    /// The gates, by what goes through them.
    pub fn gates(&self) -> [(&'static str, Gate); 3] {
        [
            ("reading files for clients", self.reads.clone()),
            ("reading journals and logs for clients", self.scans.clone()),
            ("computing checksums for clients", self.sums.clone()),
        ]
    }

    /// Runs work that is short.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Wanted) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let work = |wanted: &Wanted| {
            fault::point("client-read");
            work(wanted)
        };
        self.reads.run(work).await.map_err(stopped)
    }

    /// Runs work that may be as long as a journal or a log is. It asks at each step whether
    /// somebody waits for it.
    pub(super) async fn scan<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Wanted) -> T + Send + 'static,
    ) -> Result<T, Status> {
        self.scans.run(work).await.map_err(stopped)
    }

    /// Runs work that may be as long as any file is. It asks at each step whether somebody waits
    /// for it.
    pub(super) async fn sum<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Wanted) -> T + Send + 'static,
    ) -> Result<T, Status> {
        self.sums.run(work).await.map_err(stopped)
    }

    /// Waits until there is room for an answer of about that many bytes, and takes it.
    pub(super) async fn hold(&self, bytes: usize) -> Hold {
        if bytes <= FREE_BYTES {
            return Hold { _bytes: None };
        }
        let bytes = u32::try_from(bytes.min(ANSWER_BYTES / 4)).unwrap_or(u32::MAX);
        // Nobody closes it.
        Hold { _bytes: self.answers.clone().acquire_many_owned(bytes).await.ok().map(Arc::new) }
    }

    /// Where the bytes of requests are counted.
    pub(super) fn requests(&self) -> Arc<Semaphore> {
        self.requests.clone()
    }

    /// Where the bytes of answers are counted.
    #[cfg(test)]
    pub(super) fn answers(&self) -> Arc<Semaphore> {
        self.answers.clone()
    }
}

fn stopped(stopped: Stopped) -> Status {
    status::internal("INTERNAL", stopped.to_string())
}
