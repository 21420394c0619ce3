//! The daemon's side of a mailbox: hands requests to the services, and writes their answers.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Extensions, Request, Response, Version};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::body::Body;
use tower::{Service, ServiceExt};

use super::letter::{Head, Headers, Kind, Name, Reader, Writer};
use super::{FRAMES_AHEAD, LOOK_EVERY, blocking, body_of, next_frame, of_map, to_map};
use crate::access::SealKey;
use crate::beneath::Folder;

/// Entries of the folder that are looked at. Ranks have a few calls each.
const MOST_ENTRIES: usize = 4096;
/// Requests that are answered at once.
const MOST_IN_HAND: usize = 256;
/// A letter that could not be read is not read again for so long.
const AGAIN: Duration = Duration::from_secs(10);
/// Once the launch is over, ranks have this long to read their last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(60);
/// ... and those that have read theirs remove them, and ask for nothing more after so long.
const QUIET: Duration = Duration::from_secs(3);

/// The place of a mailbox.
pub trait Place: Send + Sync + 'static {
    /// Opens its folder, and makes it where it is missing. Blocks.
    ///
    /// # Errors
    /// Those of the file system, with the path.
    fn open(&self) -> io::Result<Folder>;
    /// Removes its folder, which is empty. Blocks.
    ///
    /// # Errors
    /// Those of the file system, with the path.
    fn remove(&self) -> io::Result<()>;
    /// Whether its launch is over.
    fn is_over(&self) -> bool;
    /// Notes why the mailbox cannot be looked at now; None where it can.
    fn note(&self, trouble: Option<String>);
}

/// Answers the requests of a mailbox.
pub struct Receiver<S, P> {
    /// The services.
    pub service: S,
    /// The key of the seals.
    pub key: SealKey,
    /// The place.
    pub place: Arc<P>,
    /// What the services know of the requests' way.
    pub extensions: Extensions,
}

impl<S, P> Receiver<S, P>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    P: Place,
{
    /// Answers until the launch is over, and removes the mailbox then.
    pub async fn serve(self) {
        let (mut answered, mut put_off) = (Answered::default(), BTreeMap::new());
        let mut in_hand = BTreeSet::new();
        let mut tasks = JoinSet::new();
        let mut over: Option<Instant> = None;
        let mut last_seen = Instant::now();
        loop {
            while let Some(done) = tasks.try_join_next() {
                let Ok((name, outcome)) = done else { continue };
                in_hand.remove(&name);
                match outcome {
                    Outcome::Answered => answered.note(name),
                    Outcome::NotThere => {}
                    Outcome::Failed(error) => {
                        tracing::warn!(%name, %error, "a letter in a mailbox is not taken");
                        put_off.insert(name, Instant::now() + AGAIN);
                    }
                }
            }
            let (place, before) = (self.place.clone(), answered.clone());
            let found = blocking(move || look(place.open()?, &before)).await;
            self.place.note(found.as_ref().err().map(ToString::to_string));
            if let Ok((folder, names)) = found {
                put_off.retain(|name, until| names.contains(name) && *until > Instant::now());
                // Letters of others keep no mailbox.
                if names.iter().any(|name| !put_off.contains_key(name)) {
                    last_seen = Instant::now();
                }
                let requests = names.into_iter().filter(|name| name.kind == Kind::Request);
                for name in requests.filter(|name| !answered.has(*name) && !put_off.contains_key(name)) {
                    if in_hand.len() < MOST_IN_HAND && in_hand.insert(name) {
                        tasks.spawn(self.answer(folder.clone(), name));
                    }
                }
            }
            if self.place.is_over() {
                let since = over.get_or_insert_with(Instant::now).elapsed();
                let is_quiet = tasks.is_empty() && last_seen.elapsed() > QUIET && since > QUIET;
                if is_quiet || since > LAST_ANSWERS {
                    break;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let place = self.place.clone();
        if let Err(error) = blocking(move || clear(&place.open()?).and_then(|()| place.remove())).await {
            tracing::warn!(%error, "a mailbox is left");
        }
    }

    fn answer(&self, folder: Arc<Folder>, name: Name) -> impl Future<Output = (Name, Outcome)> + use<S, P> {
        let (service, key, extensions) = (self.service.clone(), self.key.clone(), self.extensions.clone());
        async move {
            let outcome = match answer(service, key, extensions, folder, name).await {
                Ok(true) => Outcome::Answered,
                Ok(false) => Outcome::NotThere,
                Err(error) => Outcome::Failed(error),
            };
            (name, outcome)
        }
    }
}

enum Outcome {
    Answered,
    /// Its end has not come yet, or its sender does not wait any more.
    NotThere,
    Failed(io::Error),
}

/// Requests that were answered: what comes once more under such a name is nobody's.
#[derive(Debug, Clone, Default)]
struct Answered(BTreeMap<(u32, u64), Numbers>);

/// All numbers up to one, and some above.
#[derive(Debug, Clone, Default)]
struct Numbers {
    up_to: u64,
    above: BTreeSet<u64>,
}

impl Answered {
    fn note(&mut self, name: Name) {
        let numbers = self.0.entry((name.rank, name.outpost)).or_default();
        numbers.above.insert(name.number);
        while numbers.above.remove(&(numbers.up_to + 1)) {
            numbers.up_to += 1;
        }
    }

    fn has(&self, name: Name) -> bool {
        let numbers = self.0.get(&(name.rank, name.outpost));
        numbers.is_some_and(|numbers| name.number <= numbers.up_to || numbers.above.contains(&name.number))
    }
}

/// The letters that are there. Requests that were answered are removed.
fn look(folder: Folder, answered: &Answered) -> io::Result<(Arc<Folder>, BTreeSet<Name>)> {
    let (entries, _) = folder.some_entries(MOST_ENTRIES)?;
    let mut names: BTreeSet<_> = entries.iter().filter_map(|entry| Name::read(&entry.name)).collect();
    names.retain(|name| {
        let is_done = name.kind == Kind::Request && answered.has(*name);
        !is_done || folder.remove_file(name.to_string()).is_err()
    });
    Ok((Arc::new(folder), names))
}

/// Removes the letters of a folder.
fn clear(folder: &Folder) -> io::Result<()> {
    let mut letters = folder.entries()?.into_iter().filter(|entry| Name::read(&entry.name).is_some());
    letters.try_for_each(|entry| folder.remove_file(entry.name))
}

/// Answers a request; false where there is none that is whole.
async fn answer<S>(
    service: S,
    key: SealKey,
    extensions: Extensions,
    folder: Arc<Folder>,
    name: Name,
) -> io::Result<bool>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let (from, of) = (folder.clone(), key.clone());
    let Some((letter, head)) = blocking(move || Reader::open(&from, name, &of)).await? else { return Ok(false) };
    let mut request = Request::new(body_of(letter, || ()));
    let path = head.line.parse();
    *request.uri_mut() = path.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "its path is none"))?;
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = to_map(&head.headers);
    *request.extensions_mut() = extensions;
    let Ok(response) = service.oneshot(request).await;
    let (parts, mut body) = response.into_parts();
    let head = Head { line: parts.status.as_u16().to_string(), headers: of_map(&parts.headers) };
    let (sender, mut data) = mpsc::channel(FRAMES_AHEAD);
    let writing = tokio::task::spawn_blocking(move || {
        let mut letter = Writer::create(&folder, name.answer(), &key, &head)?;
        while let Some(part) = data.blocking_recv() {
            match part {
                Part::Data(data) => letter.data(&data)?,
                Part::End(trailers) => {
                    letter.end(&trailers)?;
                    return folder.remove_file(name.to_string()).map(|()| true);
                }
            }
        }
        Err(io::Error::other("its answer did not come to its end"))
    });
    let mut trailers = Headers::new();
    while let Some(frame) = next_frame(&mut body).await {
        let frame = frame.map_err(|status| io::Error::other(status.message().to_owned()))?;
        match frame.into_data() {
            Ok(data) => {
                if sender.send(Part::Data(data)).await.is_err() {
                    break;
                }
            }
            Err(frame) => trailers.extend(frame.into_trailers().ok().map(|map| of_map(&map)).unwrap_or_default()),
        }
    }
    let _ = sender.send(Part::End(trailers)).await;
    writing.await.map_err(io::Error::other)?
}

enum Part {
    Data(bytes::Bytes),
    End(Headers),
}
