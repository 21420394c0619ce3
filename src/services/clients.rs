//! The limits that all clients share: threads for work that blocks, and memory for requests and
//! answers on their way.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tonic::{Response, Status};

use super::status;
use crate::config::MOST_MESSAGE_BYTES;
use crate::fault;
use crate::gate::{Gate, Stopped, Wanted};
use crate::journal::JournalIndexes;

/// Threads for work that is short: a piece of a file, a list of files. A thousand watchers that
/// come back leave the jobs their cores.
const READS_AT_ONCE: usize = 2;
/// Threads for work that may be as long as a journal or a log is.
const SCANS_AT_ONCE: usize = 2;
/// Threads for writing what clients send.
const WRITES_AT_ONCE: usize = 2;
/// Threads for checksums of files that may be of any size.
const SUMS_AT_ONCE: usize = 2;
/// Bytes of requests that have not come whole, of all clients together: the largest fits.
const REQUEST_BYTES: usize = MOST_MESSAGE_BYTES;
/// Bytes of answers that their clients have not read yet, of all clients together.
const ANSWER_BYTES: usize = 64 << 20;
/// No answer takes more than this of them.
const MOST_OF_ONE: usize = ANSWER_BYTES / 4;
/// A client waits no longer than this for room for its answer.
const ROOM_LIMIT: Duration = Duration::from_secs(30);
/// The first bytes of each request and answer are not counted: small ones never wait for others.
pub(super) const FREE_BYTES: usize = 16 << 10;

/// The limits that all clients share; cheap to clone.
#[derive(Clone)]
pub struct Clients {
    reads: Gate,
    scans: Gate,
    sums: Gate,
    writes: Gate,
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
            writes: Gate::new(WRITES_AT_ONCE),
            requests: Arc::new(Semaphore::new(REQUEST_BYTES)),
            answers: Arc::new(Semaphore::new(ANSWER_BYTES)),
            journals: JournalIndexes::default(),
        }
    }
}

/// Room for some bytes of answers, free again when it is dropped; None where they are too few to be
/// counted.
pub(super) type Room = Option<OwnedSemaphorePermit>;

/// The room that an answer on its way takes, shared by the service, which takes it in advance, and
/// the body, which gives it back once its client has read the bytes. It stands in the extensions of
/// the answer.
#[derive(Clone, Default)]
pub(super) struct Hold(Arc<Mutex<Room>>);

impl Hold {
    /// The answer that takes this room.
    pub(super) fn of<T>(self, message: T) -> Response<T> {
        let mut answer = Response::new(message);
        answer.extensions_mut().insert(self);
        answer
    }

    /// Takes this room, in the place of any that was taken before.
    pub(super) fn put(&self, room: Room) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = room;
    }

    /// Takes the room that is missing for that many bytes; false where there is none.
    pub(super) fn cover(&self, bytes: usize, answers: &Arc<Semaphore>) -> bool {
        let mut room = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = bytes.min(MOST_OF_ONE).saturating_sub(room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        if missing <= FREE_BYTES {
            return true;
        }
        let more = u32::try_from(missing).ok().and_then(|missing| answers.clone().try_acquire_many_owned(missing).ok());
        match (room.as_mut(), more) {
            (Some(room), Some(more)) => room.merge(more),
            (None, Some(more)) => *room = Some(more),
            (_, None) => return false,
        }
        true
    }
}

impl From<Room> for Hold {
    fn from(room: Room) -> Self {
        Self(Arc::new(Mutex::new(room)))
    }
}

impl Clients {
    /// The gates, by what goes through them.
    pub fn gates(&self) -> [(&'static str, Gate); 4] {
        [
            ("reading files for clients", self.reads.clone()),
            ("reading journals and logs for clients", self.scans.clone()),
            ("computing checksums for clients", self.sums.clone()),
            ("writing files for clients", self.writes.clone()),
        ]
    }

    /// Runs work that is short.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Wanted) -> T + Send + 'static,
    ) -> Result<T, Status> {
        Ok(self.read_into(0, work).await?.0)
    }

    /// Runs work that is short, and whose result takes about that many bytes.
    pub(super) async fn read_into<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&Wanted) -> T + Send + 'static,
    ) -> Result<(T, Room), Status> {
        let work = |wanted: &Wanted| {
            fault::point("client-read");
            work(wanted)
        };
        self.run_into(&self.reads, bytes, work).await
    }

    /// Runs work that may be as long as a journal or a log is. It asks at each step whether
    /// somebody waits for it.
    pub(super) async fn scan<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Wanted) -> T + Send + 'static,
    ) -> Result<T, Status> {
        Ok(self.scan_into(0, work).await?.0)
    }

    /// Runs work that may be as long as a journal is, and whose result takes about that many bytes.
    pub(super) async fn scan_into<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&Wanted) -> T + Send + 'static,
    ) -> Result<(T, Room), Status> {
        self.run_into(&self.scans, bytes, work).await
    }

    /// Runs work that may be as long as any file is, and whose result takes about that many bytes.
    /// It asks at each step whether somebody waits for it.
    pub(super) async fn sum_into<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&Wanted) -> T + Send + 'static,
    ) -> Result<(T, Room), Status> {
        self.run_into(&self.sums, bytes, work).await
    }

    /// Runs work that writes a piece of a file, or changes the names of files.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Wanted) -> T + Send + 'static,
    ) -> Result<T, Status> {
        Ok(self.run_into(&self.writes, 0, work).await?.0)
    }

    /// Runs work once there is a turn for it and room for its result. Nobody keeps one of the two
    /// while waiting for the other: a turn is not idle because clients do not read, and room is not
    /// empty because work is slow.
    async fn run_into<T: Send + 'static>(
        &self,
        gate: &Gate,
        bytes: usize,
        work: impl FnOnce(&Wanted) -> T + Send + 'static,
    ) -> Result<(T, Room), Status> {
        let mut left = ROOM_LIMIT;
        loop {
            let turn = gate.turn().await.map_err(stopped)?;
            if let Some(room) = self.room_now(bytes) {
                return Ok((turn.run(work).await.map_err(stopped)?, room));
            }
            drop(turn);
            let begun = Instant::now();
            drop(timeout(left, self.room_for(bytes)).await.map_err(|_| no_room())?);
            left = left.saturating_sub(begun.elapsed());
        }
    }

    /// Waits until there is room for an answer of about that many bytes, and takes it.
    pub(super) async fn hold(&self, bytes: usize) -> Result<Hold, Status> {
        timeout(ROOM_LIMIT, self.room_for(bytes)).await.map(Hold::from).map_err(|_| no_room())
    }

    /// Takes room for that many bytes, if there is enough now.
    fn room_now(&self, bytes: usize) -> Option<Room> {
        match counted(bytes) {
            None => Some(None),
            Some(bytes) => self.answers.clone().try_acquire_many_owned(bytes).ok().map(Some),
        }
    }

    async fn room_for(&self, bytes: usize) -> Room {
        // Nobody closes it.
        self.answers.clone().acquire_many_owned(counted(bytes)?).await.ok()
    }

    /// Where the bytes of requests are counted.
    pub(super) fn requests(&self) -> Arc<Semaphore> {
        self.requests.clone()
    }

    /// Where the bytes of answers are counted.
    pub(super) fn answers(&self) -> Arc<Semaphore> {
        self.answers.clone()
    }
}

/// So many of these bytes are counted; None where they are too few.
fn counted(bytes: usize) -> Option<u32> {
    if bytes <= FREE_BYTES { None } else { u32::try_from(bytes.min(MOST_OF_ONE)).ok() }
}

/// The answers that other clients have not read take all the room.
pub(super) fn no_room() -> Status {
    status::busy("there is no room for the answer beside those that other clients have not read".into())
}

fn stopped(stopped: Stopped) -> Status {
    status::internal("INTERNAL", stopped.to_string())
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::StatusExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_room_keeps_no_turn_and_does_not_wait_for_ever() {
        let clients = Clients::default();
        let all = clients.answers.clone().acquire_many_owned(ANSWER_BYTES as u32).await.unwrap();
        let begun = Instant::now();
        let waiting: Vec<_> = (0..2 * READS_AT_ONCE)
            .map(|_| {
                let clients = clients.clone();
                tokio::spawn(async move { clients.read_into(1 << 20, |_| ()).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Others are served meanwhile.
        clients.read(|_| ()).await.unwrap();
        for one in waiting {
            let status = one.await.unwrap().unwrap_err();
            assert_eq!((status.code(), begun.elapsed()), (Code::ResourceExhausted, ROOM_LIMIT));
            assert!(status.get_details_retry_info().is_some());
        }
        let status = clients.hold(1 << 20).await.err().unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted);
        let waiting = clients.clone();
        let waiting = tokio::spawn(async move { waiting.read_into(1 << 20, |_| 7).await });
        tokio::task::yield_now().await;
        drop(all);
        let (seven, room) = waiting.await.unwrap().unwrap();
        assert_eq!((seven, room.unwrap().num_permits()), (7, 1 << 20));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_turn_keeps_no_room() {
        let clients = Clients::default();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let busy: Vec<_> = (0..READS_AT_ONCE)
            .map(|_| {
                let (clients, released) = (clients.clone(), released.clone());
                tokio::spawn(async move { clients.read(move |_| released.lock().unwrap().recv().is_err()).await })
            })
            .collect();
        while clients.reads.standstill().is_none() {
            tokio::task::yield_now().await;
        }
        let waiting = clients.clone();
        let waiting = tokio::spawn(async move { waiting.read_into(1 << 20, |_| ()).await });
        tokio::task::yield_now().await;
        assert_eq!(clients.answers.available_permits(), ANSWER_BYTES);
        drop(release);
        waiting.await.unwrap().unwrap();
        for one in busy {
            assert!(one.await.unwrap().unwrap());
        }
    }
}
