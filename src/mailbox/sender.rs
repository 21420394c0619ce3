//! The rank's side of a mailbox: a way for its client in place of a connection.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use super::letter::{Head, Headers, Kind, Name, Reader, Writer};
use super::{LOOK_EVERY, Opened, Threads, body_of, next_frame, of_map, to_map};
use crate::access::SealKey;
use crate::beneath::{Folder, folder_of, present};

/// An answer comes within this time, and the time that its request takes to be read.
const ANSWER: Duration = Duration::from_secs(120);
/// Bytes of a request that are read in a second, at least.
const SLOWEST: u64 = 1 << 20;
/// A mailbox that is missing for so long beside others is gone: the launch is over.
const GONE: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 60 });
/// A request that is gone for so long without an answer is sent again.
const LOST: Duration = Duration::from_secs(30);

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
    threads: Threads,
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
    /// The mailbox in the folder `place` for the calls of an outpost. It need not exist
    /// yet.
    pub fn new(place: PathBuf, key: SealKey, rank: u32, outpost: u64) -> Self {
        let (last, threads, missing) = (AtomicU64::new(0), Threads::of(folder_of(&place)), Mutex::default());
        Self { shared: Arc::new(Shared { place, key, rank, outpost, last, threads, missing }) }
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

/// A request on its way. Dropping it removes the request and its answer; the daemon removes files
/// that a thread writes after that.
struct Sent {
    shared: Arc<Shared>,
    name: Name,
}

impl Drop for Sent {
    fn drop(&mut self) {
        let (shared, name) = (self.shared.clone(), self.name);
        // At its end the process has no threads for that.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let (this, threads) = (shared.clone(), shared.threads.clone());
            let remove = move || {
                let opened = this.open()?;
                opened.folder.remove_file(name.to_string())?;
                opened.folder.remove_file(name.answer().to_string())
            };
            let _ = threads.run(remove).await;
        });
    }
}

impl Shared {
    async fn exchange(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, Status> {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let name = Name { kind: Kind::Request, rank: self.rank, outpost: self.outpost, number };
        let sent = Sent { shared: self.clone(), name };
        let size = self.clone().send(name, request).await?;
        let limit = ANSWER + Duration::from_secs(size / SLOWEST);
        let (begun, mut trouble, mut seen) = (Instant::now(), None, Instant::now());
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let this = self.clone();
            let look = move || {
                let opened = this.open()?;
                // Before the answer is looked for, which comes first.
                let is_there = present(opened.folder.size(&name.to_string()))?.is_some();
                Ok((Reader::open(&opened, name.answer(), &this.key), is_there))
            };
            let found = match self.threads.run(look).await {
                Ok((found, is_there)) => {
                    if is_there {
                        seen = Instant::now();
                    }
                    found
                }
                Err(error) => Err(error),
            };
            match found {
                Ok(Some((letter, head))) => {
                    let status = head.line.parse();
                    let mut response = Response::new(body_of(letter, self.threads.clone(), sent));
                    *response.status_mut() =
                        status.map_err(|_| Status::internal(format!("an answer has the status {:?}", head.line)))?;
                    *response.headers_mut() = to_map(&head.headers);
                    return Ok(response);
                }
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.missing(&error).await),
                // A file system may tell of a file before all of it is there.
                Err(error) => trouble = Some(error),
            }
            if begun.elapsed() > limit || seen.elapsed() > LOST {
                let why = trouble.map(|error| format!(": {error}")).unwrap_or_default();
                return Err(Status::unavailable(format!("no answer has come to {}{why}", self.place.display())));
            }
        }
    }

    /// Writes a request, and tells its bytes.
    async fn send(self: Arc<Self>, name: Name, request: Request<Body>) -> Result<u64, Status> {
        let (parts, mut body) = request.into_parts();
        let head = Head { line: parts.uri.path().to_owned(), headers: of_map(&parts.headers) };
        let this = self.clone();
        let begun = self.threads.run(move || Writer::create(&this.open()?, name, &this.key, &head)).await;
        let mut letter = match begun {
            Ok(letter) => letter,
            Err(error) => return Err(self.untaken(&error).await),
        };
        while let Some(frame) = next_frame(&mut body).await {
            let Ok(data) = frame?.into_data() else { continue };
            if letter.add(&data) {
                letter = match self.threads.run(move || letter.write().map(|()| letter)).await {
                    Ok(letter) => letter,
                    Err(error) => return Err(self.untaken(&error).await),
                };
            }
        }
        match self.threads.run(move || letter.end(&Headers::new())).await {
            Ok(size) => Ok(size),
            Err(error) => Err(self.untaken(&error).await),
        }
    }

    /// The folder as it is now. Blocks.
    fn open(&self) -> io::Result<Opened> {
        let storage = Folder::open(folder_of(&self.place))?;
        let name = self.place.file_name().unwrap_or_default().to_string_lossy();
        let opened = Opened::beneath(&storage, &name)?;
        let device = Some(opened.folder.identity()?.device);
        *self.missing_now() = Missing { device, since: None };
        Ok(opened)
    }

    /// The mailbox does not take a letter.
    async fn untaken(&self, error: &io::Error) -> Status {
        let place = self.place.display();
        match error.kind() {
            io::ErrorKind::NotFound => self.missing(error).await,
            io::ErrorKind::PermissionDenied => {
                let way = "ranks and torchd have to be of the same user, or scale.storage has to have the setgid bit and a group of both";
                Status::unavailable(format!("{place}: {error}; {way}"))
            }
            _ => Status::unavailable(format!("{place}: {error}")),
        }
    }

    /// The folder is missing: whether for good. A volume that is not mounted is another file
    /// system, or is missing itself.
    async fn missing(&self, error: &io::Error) -> Status {
        let storage = folder_of(&self.place).to_owned();
        let beside = self.threads.run(move || std::fs::metadata(storage)).await.ok();
        let mut missing = self.missing_now();
        let place = self.place.display();
        let Some(device) = missing.device else {
            let why = "the launch is over, or scale.storage is not at the same path here as on torchd's machine";
            return Status::unavailable(format!("{place}: {error}; {why}"));
        };
        if beside.is_none_or(|about| about.dev() != device) {
            missing.since = None;
            return Status::unavailable(format!("{place}: {error}; a volume may not be mounted there"));
        }
        if missing.since.get_or_insert_with(Instant::now).elapsed() < GONE {
            return Status::unavailable(format!("{place}: {error}"));
        }
        Status::failed_precondition(format!("the attempt is over: its mailbox {place} is gone"))
    }

    fn missing_now(&self) -> MutexGuard<'_, Missing> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
