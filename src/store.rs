//! The database of jobs: SQLite in WAL mode with synchronous=FULL, so a change that was told is on disk. All SQL lives here.
//!
//! Two named threads own a connection each, one that writes and one that reads; callers hand them closures and wait. So whoever asks
//! is answered while a slow disk keeps a change waiting, and sees all changes that were told. It holds no step progress: journals do.
//! The threads end when the last handle is gone.

mod backup;
mod check;
mod error;
mod jobs;
mod migrations;
mod offline;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

pub use error::StoreError;
pub use jobs::{Asked, ListQuery, Page, Stored};
pub use offline::{Contents, born, look, make};

/// Another program that looks into the database, such as sqlite3, may hold it for a moment.
const PATIENCE: Duration = Duration::from_secs(5);

/// What takes longer is told in the log.
const SLOW: Duration = Duration::from_secs(3);

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle on the database; cheap to clone.
#[derive(Clone)]
pub struct Store {
    writer: Arc<Worker>,
    reader: Arc<Worker>,
    born: Option<SystemTime>,
}

/// A thread with a connection.
struct Worker {
    /// None once the last handle is being dropped.
    sender: Option<mpsc::UnboundedSender<Work>>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens the database, made and brought to the newest form where needed. One that is damaged, of a later version or of another
    /// program is refused and left as it is; one of an earlier form is copied before it is changed.
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
        Ok(Self {
            writer: Arc::new(Worker::start("store", connection)?),
            reader: Arc::new(Worker::start("store-reader", reading)?),
            born: born(path),
        })
    }

    /// When the database was made, where the file system tells. It knows nothing of what was before.
    pub fn born(&self) -> Option<SystemTime> {
        self.born
    }

    /// Runs `work`, which may change something, after all other changes.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.call(work).await
    }

    /// Runs `work`, which only looks.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.reader.call(work).await
    }
}

impl Worker {
    fn start(name: &str, mut connection: Connection) -> Result<Self, StoreError> {
        let (sender, mut receiver) = mpsc::unbounded_channel::<Work>();
        let handle = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                while let Some(work) = receiver.blocking_recv() {
                    work(&mut connection);
                }
            })
            .map_err(StoreError::Thread)?;
        Ok(Self { sender: Some(sender), handle: Mutex::new(Some(handle)) })
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let task: Work = Box::new(move |connection| {
            let begun = Instant::now();
            let done = work(connection);
            if begun.elapsed() > SLOW {
                let seconds = begun.elapsed().as_secs_f64();
                tracing::warn!(seconds, "the disk is slow, or the database locked: it took {seconds:.0} s to answer");
            }
            // Nobody waits any more: the caller was cancelled, the work is done all the same.
            let _ = reply.send(done);
        });
        let sender = self.sender.as_ref().ok_or(StoreError::Gone)?;
        sender.send(task).map_err(|_| StoreError::Gone)?;
        answer.await.map_err(|_| StoreError::Gone)?
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
