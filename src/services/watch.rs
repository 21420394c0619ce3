//! WatchJob: each watcher reads the journal by itself, woken when the manager has seen it grow. Nothing is kept in memory for
//! slow watchers, and nothing is lost.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::status;
use crate::job::JobId;
use crate::journal::{JournalError, JournalTail};
use crate::manager::{Manager, View};
use crate::proto::v1::{self, watch_event::Event};

/// Records in one message.
const RECORDS_AT_ONCE: usize = 1000;
/// Messages that wait for a slow client before reading stops.
const MESSAGES_AHEAD: usize = 4;

type Answer = Result<v1::WatchJobResponse, Status>;

/// A stream of what happens to a job after a record.
pub(super) async fn watch(manager: Manager, id: JobId, after: u64) -> Result<ReceiverStream<Answer>, Status> {
    let views = manager.observe(&id).await.map_err(status::of)?;
    let folder = manager.folder(&id);
    let skipped = tokio::task::spawn_blocking(move || {
        let mut tail = JournalTail::new(folder);
        tail.skip_to(after).map(|is_there| (tail, is_there))
    });
    let (tail, is_there) = join(skipped).await?.map_err(status::of_journal)?;
    if !is_there {
        let end = tail.sequence();
        return Err(status::out_of_range(
            "after_sequence",
            format!("is {after}, and the journal of {} ends with record {end}", id.name()),
        ));
    }
    let (sender, receiver) = mpsc::channel(MESSAGES_AHEAD);
    tokio::spawn(async move {
        if let Err(error) = follow(&manager, views, tail, &sender).await {
            // The client has gone away where this fails.
            let _ = sender.send(Err(error)).await;
        }
    });
    Ok(ReceiverStream::new(receiver))
}

async fn follow(
    manager: &Manager,
    mut views: tokio::sync::watch::Receiver<View>,
    mut tail: JournalTail,
    sender: &mpsc::Sender<Answer>,
) -> Result<(), Status> {
    let snapshot = |view: &View| Event::Snapshot(manager.message(view));
    let first = views.borrow().clone();
    let mut told = first.clone();
    if send(sender, vec![snapshot(&first)]).await.is_err() {
        return Ok(());
    }
    loop {
        // What the journal holds once the end is known is all that it will hold.
        let now = views.borrow_and_update().clone();
        let is_final = now.job.state.is_final();
        loop {
            let (tail_after, records) = read(tail).await?;
            tail = tail_after;
            // Fewer than were asked for may be followed by a damage, which is told by the next look.
            let is_last = records.is_empty();
            let mut events: Vec<_> = records.into_iter().map(Event::Record).collect();
            if is_last && (is_final || now != told) {
                events.push(snapshot(&now));
                told = now.clone();
            }
            if !events.is_empty() && send(sender, events).await.is_err() {
                return Ok(());
            }
            if is_last {
                break;
            }
        }
        if is_final {
            return Ok(());
        }
        tokio::select! {
            changed = views.changed() => if changed.is_err() && !views.borrow().job.state.is_final() {
                return Err(status::of(crate::manager::JobError::Gone));
            },
            () = sender.closed() => return Ok(()),
        }
    }
}

async fn read(mut tail: JournalTail) -> Result<(JournalTail, Vec<v1::JobRecord>), Status> {
    let read = tokio::task::spawn_blocking(move || {
        let records: Result<_, JournalError> = tail.read(RECORDS_AT_ONCE);
        records.map(|records| (tail, records))
    });
    join(read).await?.map_err(status::of_journal)
}

async fn join<T>(task: tokio::task::JoinHandle<T>) -> Result<T, Status> {
    task.await.map_err(|error| status::internal("INTERNAL", format!("reading the journal failed: {error}")))
}

async fn send(sender: &mpsc::Sender<Answer>, events: Vec<Event>) -> Result<(), mpsc::error::SendError<Answer>> {
    let events = events.into_iter().map(|event| v1::WatchEvent { event: Some(event) }).collect();
    sender.send(Ok(v1::WatchJobResponse { events })).await
}
