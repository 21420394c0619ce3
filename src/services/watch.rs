//! WatchJob: a snapshot, then every record after a number in order, and a snapshot at each change.
//!
//! A follower that keeps up gets bytes that are encoded once for all of them. A follower that does
//! not reads the journal by itself, so nothing is lost. It prepares a message only after its client
//! has taken the one before, so a slow client holds one message and no more.

use std::pin::Pin;
use std::sync::{Arc, Weak};

use futures_util::stream::{Stream, try_unfold};
use prost::bytes::Bytes;
use tokio::sync::watch::Receiver;
use tonic::{Response, Status};

use super::clients::{Clients, Hold};
use super::status;
use crate::job::JobId;
use crate::journal::{JobFolder, JournalError, JournalTail, Position};
use crate::manager::{JobError, Manager, View};
use crate::proto::EncodedWatch;
use crate::proto::v1::watch_event::Event;

/// Records that are read from a journal for one message.
const RECORDS_AT_ONCE: u64 = 250;

/// Approximate bytes of those records.
const RECORDS_BYTES: usize = 64 << 10;

/// The messages of a watch.
pub(super) type Watch = Pin<Box<dyn Stream<Item = Result<EncodedWatch, Status>> + Send>>;

/// A stream of what happens to a job after a record; of its snapshots alone where that is None.
pub(super) async fn watch(
    manager: Manager,
    clients: Clients,
    id: JobId,
    after: Option<u64>,
) -> Result<Response<Watch>, Status> {
    let views = manager.observe(&id).await.map_err(status::of)?;
    let folder = manager.folder(&id);
    let (is_there, position) = match after {
        None | Some(0) => (true, Position::default()),
        Some(after) => find(&clients, folder.clone(), after).await?,
    };
    if let (false, Some(after)) = (is_there, after) {
        let end = position.sequence;
        return Err(status::out_of_range(
            "after_sequence",
            format!("is {after}, and the journal of {} ends with record {end}", id.name()),
        ));
    }
    let hold = Hold::default();
    let follower = Follower {
        manager,
        clients,
        folder,
        views,
        has_records: after.is_some(),
        position,
        told: None,
        is_over: false,
        hold: hold.clone(),
    };
    Ok(hold.of(Box::pin(try_unfold(follower, Follower::next))))
}

/// Where the record after that one begins, and whether the journal goes as far; else where it ends.
async fn find(clients: &Clients, folder: JobFolder, after: u64) -> Result<(bool, Position), Status> {
    let journals = clients.journals.clone();
    let found = clients.scan(move |wanted| {
        // A damage is met where it lies.
        let near = journals.look(&folder, wanted, |index, _| index.near(after))?;
        let mut tail = JournalTail::from(folder, near);
        let is_there = tail.skip_to(after)?;
        Ok((is_there, tail.position()))
    });
    found.await?.map_err(status::of_journal)
}

struct Follower {
    manager: Manager,
    clients: Clients,
    folder: JobFolder,
    views: Receiver<Arc<View>>,
    /// Records are told.
    has_records: bool,
    /// The last record that was told.
    position: Position,
    /// The newest snapshot that was told; not kept alive by us.
    told: Option<Weak<View>>,
    is_over: bool,
    /// Room for the message that comes next.
    hold: Hold,
}

impl Follower {
    /// The next message; None after the last.
    async fn next(mut self) -> Result<Option<(EncodedWatch, Self)>, Status> {
        while !self.is_over {
            let now = self.views.borrow_and_update().clone();
            let mut pieces = Vec::new();
            if self.told.is_some() {
                let is_level = !self.has_records || self.records(&now, &mut pieces).await?;
                // Once the end is known the journal does not grow any more.
                self.is_over = is_level && now.job.state.is_final();
                if is_level && (self.is_over || !self.has_told(&now)) {
                    pieces.push(self.snapshot(&now).await?);
                }
            } else {
                pieces.push(self.snapshot(&now).await?);
            }
            let message = EncodedWatch::new(pieces);
            if !message.is_empty() {
                return Ok(Some((message, self)));
            }
            if !self.is_over && self.views.changed().await.is_err() && !self.views.borrow().job.state.is_final() {
                return Err(status::of(JobError::Gone));
            }
        }
        Ok(None)
    }

    /// Adds the records that come next; whether these are all that `now` knows of.
    async fn records(&mut self, now: &View, pieces: &mut Vec<Bytes>) -> Result<bool, Status> {
        if let Some((recent, position)) = now.recent.behind(self.position) {
            pieces.extend(recent);
            self.position = position;
        }
        // While somebody follows the journal, no further than that: so we come to where the newest
        // batches begin.
        let follows = now.job.state.is_active();
        let missing = if follows { now.sequence.saturating_sub(self.position.sequence) } else { u64::MAX };
        let wanted = missing.min(RECORDS_AT_ONCE);
        if wanted == 0 || !pieces.is_empty() && follows {
            return Ok(wanted == 0);
        }
        let (folder, from) = (self.folder.clone(), self.position);
        let read = self.clients.read_into(RECORDS_BYTES, move |_| {
            let mut tail = JournalTail::from(folder.clone(), from);
            let records = tail.read(wanted as usize)?;
            let count = records.len() as u64;
            let is_gone = count < wanted && matches!(folder.path().try_exists(), Ok(false));
            Ok::<_, JournalError>((
                count,
                EncodedWatch::piece(records.into_iter().map(Event::Record)),
                tail.position(),
                is_gone,
            ))
        });
        let (read, room) = read.await?;
        let (count, piece, position, is_gone) = read.map_err(status::of_journal)?;
        if is_gone {
            // A deleted job has records that were not sent and are gone. A watch that just ended
            // would hide that.
            self.manager.refuse_deleted(&now.job.id).await.map_err(status::of)?;
        }
        if !piece.is_empty() {
            self.hold.put(room);
        }
        pieces.push(piece);
        self.position = position;
        // Fewer than were asked for may be followed by a damage, which is told by the next look.
        Ok(count == missing || count == 0)
    }

    fn has_told(&self, view: &Arc<View>) -> bool {
        self.told.as_ref().is_some_and(|told| std::ptr::eq(told.as_ptr(), Arc::as_ptr(view)))
    }

    /// The job as it is, encoded once for all its watchers.
    async fn snapshot(&mut self, now: &Arc<View>) -> Result<Bytes, Status> {
        self.told = Some(Arc::downgrade(now));
        let encode = |manager: &Manager, view: &View| EncodedWatch::piece([Event::Snapshot(manager.message(view))]);
        if self.manager.message_blocks(now) {
            let (manager, view) = (self.manager.clone(), now.clone());
            return self.clients.read(move |_| encode(&manager, &view)).await;
        }
        // How its copy is doing changes by itself.
        Ok(if now.has_copy() { encode(&self.manager, now) } else { now.encoded(|view| encode(&self.manager, view)) })
    }
}
