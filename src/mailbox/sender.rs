//! The rank's side of a mailbox: a way for its client in place of a connection.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use super::letter::{Head, Headers, Kind, Name, Reader, Writer};
use super::{LOOK_EVERY, blocking, body_of, next_frame, of_map, to_map, unavailable};
use crate::access::SealKey;
use crate::beneath::{Folder, folder_of};

/// An answer comes within this time, and the time that its request takes to be read.
const ANSWER: Duration = Duration::from_secs(120);
/// Bytes of a request that are read in a second, at least.
const SLOWEST: u64 = 1 << 20;
/// A mailbox that is missing for so long beside others is gone: the launch is over.
const GONE: Duration = Duration::from_secs(10);

/// Sends calls by a mailbox; cheap to clone.
#[derive(Clone)]
pub struct Mailbox {
    shared: Arc<Shared>,
}

struct Shared {
    place: PathBuf,
    key: SealKey,
    rank: u32,
    outpost: u64,
    last: AtomicU64,
    missing: Mutex<Missing>,
}

/// Whether the folder is there.
#[derive(Default)]
struct Missing {
    /// The file system on which it was.
    device: Option<u64>,
    since: Option<Instant>,
}

impl Mailbox {
    /// The mailbox in the folder `place` for the calls of an outpost. Nobody has looked yet whether
    /// it is there.
    pub fn new(place: PathBuf, key: SealKey, rank: u32, outpost: u64) -> Self {
        let (last, missing) = (AtomicU64::new(0), Mutex::default());
        Self { shared: Arc::new(Shared { place, key, rank, outpost, last, missing }) }
    }
}

impl Service<Request<Body>> for Mailbox {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.shared.clone().exchange(request))
    }
}

/// A request on its way; what is left of it is removed with this.
struct Sent {
    shared: Arc<Shared>,
    name: Name,
}

impl Drop for Sent {
    fn drop(&mut self) {
        let (shared, name) = (self.shared.clone(), self.name);
        let remove = move || {
            if let Ok(folder) = Folder::open(&shared.place) {
                // What cannot be removed goes with the mailbox.
                let _ = folder.remove_file(name.to_string());
                let _ = folder.remove_file(name.answer().to_string());
            }
        };
        // At its end the process has no threads for that.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(remove);
        }
    }
}

impl Shared {
    async fn exchange(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, Status> {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let name = Name { kind: Kind::Request, rank: self.rank, outpost: self.outpost, number };
        let sent = Sent { shared: self.clone(), name };
        let size = self.clone().send(name, request).await?;
        let limit = ANSWER + Duration::from_secs(size / SLOWEST);
        let begun = Instant::now();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let this = self.clone();
            let found = blocking(move || Reader::open(&this.open()?, name.answer(), &this.key)).await;
            match found {
                Ok(Some((letter, head))) => {
                    let mut response = Response::new(body_of(letter, move || drop(sent)));
                    *response.status_mut() = head.line.parse().map_err(|_| damaged(&head.line))?;
                    *response.headers_mut() = to_map(&head.headers);
                    return Ok(response);
                }
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.missing(&error)),
                // A file system may tell of a file before all of it is there.
                Err(error) => tracing::debug!(%name, %error, "an answer cannot be read"),
            }
            if begun.elapsed() > limit {
                return Err(Status::unavailable(format!("no answer has come to {}", self.place.display())));
            }
        }
    }

    /// Writes a request, and tells its bytes.
    async fn send(self: Arc<Self>, name: Name, request: Request<Body>) -> Result<u64, Status> {
        let (parts, mut body) = request.into_parts();
        let head = Head { line: parts.uri.path().to_owned(), headers: of_map(&parts.headers) };
        let (sender, mut frames) = mpsc::channel::<bytes::Bytes>(super::FRAMES_AHEAD);
        let this = self.clone();
        let writing = tokio::task::spawn_blocking(move || {
            let mut letter = Writer::create(&this.open()?, name, &this.key, &head)?;
            while let Some(data) = frames.blocking_recv() {
                // Without its end nobody takes it for a request.
                if data.is_empty() {
                    return letter.end(&Headers::new());
                }
                letter.data(&data)?;
            }
            Err(io::Error::other("the request was not sent to its end"))
        });
        while let Some(frame) = next_frame(&mut body).await {
            let Ok(data) = frame?.into_data() else { continue };
            if !data.is_empty() && sender.send(data).await.is_err() {
                break;
            }
        }
        let _ = sender.send(bytes::Bytes::new()).await;
        drop(sender);
        match writing.await.map_err(|error| Status::internal(error.to_string()))? {
            Ok(size) => Ok(size),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.missing(&error)),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// The folder as it is now. Blocks.
    fn open(&self) -> io::Result<Folder> {
        let folder = Folder::open(&self.place)?;
        let device = folder.identity()?.device;
        *self.missing_now() = Missing { device: Some(device), since: None };
        Ok(folder)
    }

    /// The folder is missing: whether for good. A volume that is not mounted is another file
    /// system, or is missing itself.
    fn missing(&self, error: &io::Error) -> Status {
        let mut missing = self.missing_now();
        let beside = std::fs::metadata(folder_of(&self.place)).ok();
        let is_there = beside.is_some_and(|about| Some(about.dev()) == missing.device);
        let place = self.place.display();
        if !is_there {
            missing.since = None;
            return Status::unavailable(format!(
                "{place}: {error}; the folder of scale.storage is at the same path on all machines"
            ));
        }
        if missing.since.get_or_insert_with(Instant::now).elapsed() < GONE {
            return Status::unavailable(format!("{place}: {error}"));
        }
        Status::failed_precondition(format!("the attempt is over: its mailbox {place} is gone"))
    }

    fn missing_now(&self) -> std::sync::MutexGuard<'_, Missing> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn damaged(line: &str) -> Status {
    Status::internal(format!("an answer has the status {line:?}"))
}
