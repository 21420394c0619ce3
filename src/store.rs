//! The database of jobs: SQLite in WAL mode with synchronous=FULL, so a change that was told is on
//! disk. All SQL lives here.
//!
//! Two named threads own a connection each, one that writes and one that reads; callers hand them
//! closures and wait. So clients are answered while a slow disk keeps a change waiting, and see all
//! changes that were told. The manager, which makes the changes, asks on the connection that
//! writes: it never waits behind the questions of clients. The database holds no step progress:
//! journals do. The threads end when the last handle is gone.

mod backup;
mod check;
mod error;
mod jobs;
mod migrations;
mod offline;
mod owners;
mod requests;
mod rows;
mod tokens;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::fault;
pub use error::{Odd, StoreError};
pub use jobs::{ListQuery, Page, Unfinished};
pub use offline::{Contents, born, look, make};
pub use requests::Asked;
pub use tokens::StoredToken;

/// Another program that looks into the database, such as sqlite3, may hold it for a moment.
const PATIENCE: Duration = Duration::from_secs(5);

/// Questions and changes that wait for their turn; further callers wait to be let in, and leave
/// nothing behind where they give up.
const MOST_WAITING: usize = 64;

/// A client's question waits no longer than this for its answer.
const QUESTION_LIMIT: Duration = Duration::from_secs(30);

/// A question or change that takes longer is logged.
const SLOW: Duration = Duration::from_secs(3);

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle on the database; cheap to clone.
#[derive(Clone)]
pub struct Store {
    writer: Arc<Worker>,
    /// Answers this handle: the writer, or that of the clients.
    reader: Arc<Worker>,
    /// Answers clients.
    clients: Arc<Worker>,
    born: Option<SystemTime>,
}

/// A thread with a connection.
struct Worker {
    /// None once the last handle is being dropped.
    sender: Option<mpsc::Sender<Work>>,
    /// For how long a caller waits; None for as long as it takes.
    limit: Option<Duration>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens the database, made and brought to the newest form where needed. One that is damaged,
    /// of a later version or of another program is refused and left as it is; one of an earlier
    /// form is copied before it is changed.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(PATIENCE)?;
        check::sound(&connection)?;
        let form = migrations::form(&connection)?;
        if (1..migrations::NEWEST).contains(&form) {
            let copy = backup::make(&connection, path, form)?;
            tracing::info!(from = form, to = migrations::NEWEST, copy = %copy.display(), "the database gets a newer form");
        }
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        migrations::apply(&mut connection)?;
        let reading = Connection::open(path)?;
        reading.busy_timeout(PATIENCE)?;
        reading.pragma_update(None, "query_only", "ON")?;
        let clients = Arc::new(Worker::start("store-reader", Some(QUESTION_LIMIT), reading)?);
        Ok(Self {
            writer: Arc::new(Worker::start("store", None, connection)?),
            reader: clients.clone(),
            clients,
            born: born(path),
        })
    }

    /// A handle for the one who makes the changes: its questions wait for changes, and never for
    /// the questions of other handles.
    pub fn of_owner(&self) -> Self {
        Self { reader: self.writer.clone(), ..self.clone() }
    }

    /// When the database was made, where the file system tells. It knows nothing of what was
    /// before.
    pub fn born(&self) -> Option<SystemTime> {
        self.born
    }

    /// Runs `work`, which may change something, after all other changes.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let done = self.writer.call(false, work).await;
        self.clients.catch_up();
        done
    }

    /// Runs `work`, which only looks.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.reader.call(true, work).await
    }
}

impl Worker {
    fn start(name: &str, limit: Option<Duration>, mut connection: Connection) -> Result<Self, StoreError> {
        let (sender, mut receiver) = mpsc::channel::<Work>(MOST_WAITING);
        let handle = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                while let Some(work) = receiver.blocking_recv() {
                    if limit.is_some() {
                        fault::point("store-question");
                    }
                    work(&mut connection);
                }
            })
            .map_err(StoreError::Thread)?;
        Ok(Self { sender: Some(sender), limit, handle: Mutex::new(Some(handle)) })
    }

    /// Lets the connection see the newest change before anybody asks.
    ///
    /// The first question behind a change writes into the index of the write-ahead log, a file on
    /// the disk: were that left to a client, a disk that has stopped since would hold it up. Where
    /// many questions wait, the first of them does it.
    fn catch_up(&self) {
        let look: Work = Box::new(|connection| {
            // The next question gets the error, if there is one.
            let _ = connection.query_row("SELECT count(*) FROM request WHERE false", [], |_| Ok(()));
        });
        if let Some(sender) = &self.sender {
            let _ = sender.try_send(look);
        }
    }

    /// Runs `work` in its turn. Where it only looks, it is left out once nobody waits for it any
    /// more.
    async fn call<T: Send + 'static>(
        &self,
        only_looks: bool,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let task: Work = Box::new(move |connection| {
            // A change is made all the same: what was asked for happens, or it does not.
            if only_looks && reply.is_closed() {
                return;
            }
            let begun = Instant::now();
            let done = work(connection);
            if begun.elapsed() > SLOW {
                let seconds = begun.elapsed().as_secs_f64();
                tracing::warn!(seconds, "the disk is slow, or the database locked: it took {seconds:.0} s to answer");
            }
            // Nobody waits any more: the caller was cancelled.
            let _ = reply.send(done);
        });
        let sender = self.sender.as_ref().ok_or(StoreError::Gone)?;
        let done = async {
            sender.send(task).await.map_err(|_| StoreError::Gone)?;
            answer.await.map_err(|_| StoreError::Gone)?
        };
        match self.limit {
            Some(limit) => timeout(limit, done).await.map_err(|_| StoreError::Busy(limit))?,
            None => done.await,
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(handle) = self.handle.lock().ok().and_then(|mut handle| handle.take()) {
            // SQLite closes in that thread; a panic there has been printed already.
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as std_mpsc;

    use super::*;

    #[tokio::test]
    async fn the_queue_is_bounded_and_questions_of_callers_that_have_left_are_not_asked() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("torchd.db")).unwrap();
        let (release, released) = std_mpsc::channel::<()>();
        let (begin, begun) = oneshot::channel();
        let busy = store.clone();
        let hold = move |_: &mut Connection| {
            begin.send(()).unwrap();
            released.recv().unwrap();
            Ok(())
        };
        let busy = tokio::spawn(async move { busy.read(hold).await });
        begun.await.unwrap();
        let (asked, answered) = std_mpsc::channel();
        let ask = |number: usize| {
            let (store, asked) = (store.clone(), asked.clone());
            let note = move |_: &mut Connection| {
                asked.send(number).unwrap();
                Ok(())
            };
            tokio::spawn(async move { store.read(note).await })
        };
        let waiting: Vec<_> = (0..3 * MOST_WAITING).map(ask).collect();
        let sender = store.reader.sender.as_ref().unwrap();
        while sender.capacity() > 0 {
            tokio::task::yield_now().await;
        }
        waiting.iter().for_each(|one| one.abort());
        for one in waiting {
            assert!(one.await.unwrap_err().is_cancelled());
        }
        let last = ask(usize::MAX);
        // Its owner does not wait behind them.
        assert!(store.of_owner().ids().await.unwrap().is_empty());
        release.send(()).unwrap();
        last.await.unwrap().unwrap();
        busy.await.unwrap().unwrap();
        drop(asked);
        assert_eq!(answered.iter().collect::<Vec<_>>(), [usize::MAX]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_is_not_answered_is_refused_after_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("torchd.db")).unwrap();
        let sender = store.reader.sender.as_ref().unwrap();
        let full = sender.reserve_many(MOST_WAITING).await.unwrap();
        assert!(matches!(store.ids().await, Err(StoreError::Busy(QUESTION_LIMIT))));
        drop(full);
    }
}
