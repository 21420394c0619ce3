//! The daemon's side of a mailbox: hands requests to the services, and writes their answers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Extensions, Request, Response, Version};
use tokio::task::{AbortHandle, Id, JoinSet};
use tonic::body::Body;
use tower::{Service, ServiceExt};

use super::letter::{Head, Headers, Kind, Name, Reader, Writer};
use super::opened::on_a_thread;
use super::{LOOK_EVERY, Opened, Threads, body_of, next_frame, of_map, to_map};
use crate::access::SealKey;
use crate::beneath::Folder;

/// Entries of the folder that are looked at. Ranks have a few calls each.
const MOST_ENTRIES: usize = 65_536;
/// A file system that takes longer for a look is told about.
const SLOW: Duration = Duration::from_secs(10);
/// A letter that was not whole is not looked at again for so long.
const SOON: Duration = Duration::from_secs(1);
/// One that could not be read twice is not read again for so long.
const LATER: Duration = Duration::from_secs(10);
/// An unread answer is removed after this time: its rank has given the call up.
const KEPT: Duration = Duration::from_secs(600);
/// Numbers of an outpost that are remembered one by one.
const WINDOW: u64 = 1 << 16;
/// A call is given up whose request so many looks in a row have not found.
const MISSED: u32 = 5;
/// Letters that were told about.
const MOST_TOLD: usize = 1000;
/// Once the launch is over, ranks have this long to read their last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(60);
/// ... and those that have read theirs remove them, and ask for nothing more after so long.
const QUIET: Duration = Duration::from_secs(3);

/// A file that keeps a mailbox there: some file systems drop a folder without files.
pub const HERE: &str = "here";

/// The place of a mailbox.
pub trait Place: Send + Sync + 'static {
    /// Opens its folder, and makes it where it is missing. Blocks.
    ///
    /// # Errors
    /// Those of the file system, with the path.
    fn open(&self) -> io::Result<Opened>;
    /// The folder that it lies in.
    fn storage(&self) -> &Path;
    /// Whether its launch is over.
    fn is_over(&self) -> bool;
    /// It was looked at; with `trouble` where that did not succeed or takes long.
    fn note(&self, trouble: Option<String>);
}

/// Answers the requests of a mailbox.
pub struct Receiver<S, P> {
    /// The services.
    pub service: S,
    /// Paths of requests begin so; others are not taken.
    pub paths: &'static str,
    /// The key of the seals.
    pub key: SealKey,
    /// The place.
    pub place: Arc<P>,
    /// Extensions of each request, such as its connection.
    pub extensions: Extensions,
    /// Requests that are answered at once.
    pub most_in_hand: usize,
}

impl<S, P> Receiver<S, P>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    P: Place,
{
    /// Answers until the launch is over. The mailbox stays for [`clear`].
    pub async fn serve(self) {
        let threads = Threads::of(self.place.storage());
        let mut hands = Hands::default();
        let mut over: Option<Instant> = None;
        let mut last_seen = Instant::now();
        loop {
            hands.settle();
            let place = self.place.clone();
            let looking = on_a_thread(move || look(place.open()?));
            tokio::pin!(looking);
            let found = loop {
                match tokio::time::timeout(SLOW, &mut looking).await {
                    Ok(found) => break found,
                    Err(_) => self.place.note(Some(format!("its file system has not answered for {SLOW:?}"))),
                }
            };
            self.place.note(found.as_ref().err().map(ToString::to_string));
            if let Ok((opened, names, are_all)) = found {
                let opened = Arc::new(opened);
                if hands.are_of_ranks(&names) {
                    last_seen = Instant::now();
                }
                if are_all {
                    hands.let_go(&names);
                }
                let old = hands.old(&names);
                if !old.is_empty() {
                    let from = opened.clone();
                    let remove = move || {
                        // A removal that fails is tried again at the next look.
                        old.iter().for_each(|name| drop(from.folder.remove_file(name.to_string())));
                        Ok(())
                    };
                    let _ = threads.run(remove).await;
                }
                for name in names {
                    if hands.in_hand.len() < self.most_in_hand && hands.may_take(name) {
                        hands.take(name, |tasks| tasks.spawn(self.answer(threads.clone(), opened.clone(), name)));
                    }
                }
            }
            if self.place.is_over() {
                let since = over.get_or_insert_with(Instant::now).elapsed();
                let is_quiet = hands.in_hand.is_empty() && last_seen.elapsed() > QUIET && since > QUIET;
                if is_quiet || since > LAST_ANSWERS {
                    return;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn answer(
        &self,
        threads: Threads,
        opened: Arc<Opened>,
        name: Name,
    ) -> impl Future<Output = io::Result<bool>> + use<S, P> {
        let (service, key, paths) = (self.service.clone(), self.key.clone(), self.paths);
        let extensions = self.extensions.clone();
        async move {
            let (from, of) = (opened.clone(), key.clone());
            let read = threads.run(move || Reader::open(&from, name, &of)).await?;
            let Some((letter, head)) = read else { return Ok(false) };
            let not_taken = |what| io::Error::new(io::ErrorKind::InvalidData, what);
            if !head.line.starts_with(paths) {
                return Err(not_taken("it asks for a method that is not for ranks"));
            }
            let mut request = Request::new(body_of(letter, threads.clone(), ()));
            *request.uri_mut() = head.line.parse().map_err(|_| not_taken("its path is none"))?;
            *request.method_mut() = http::Method::POST;
            *request.version_mut() = Version::HTTP_2;
            *request.headers_mut() = to_map(&head.headers);
            *request.extensions_mut() = extensions;
            let Ok(response) = service.oneshot(request).await;
            let (parts, mut body) = response.into_parts();
            let head = Head { line: parts.status.as_u16().to_string(), headers: of_map(&parts.headers) };
            let to = opened.clone();
            let mut letter = threads.run(move || Writer::create(&to, name.answer(), &key, &head)).await?;
            let mut trailers = Headers::new();
            while let Some(frame) = next_frame(&mut body).await {
                let frame = frame.map_err(|status| io::Error::other(status.message().to_owned()))?;
                match frame.into_data() {
                    Ok(data) => {
                        if letter.add(&data) {
                            letter = threads.run(move || letter.write().map(|()| letter)).await?;
                        }
                    }
                    Err(frame) => {
                        trailers.extend(frame.into_trailers().ok().map(|map| of_map(&map)).unwrap_or_default());
                    }
                }
            }
            threads.run(move || letter.end(&trailers)).await?;
            // One that stays is known as answered.
            let _ = threads.run(move || opened.folder.remove_file(name.to_string())).await;
            Ok(true)
        }
    }
}

/// The requests in hand, and a memory of earlier ones.
#[derive(Default)]
struct Hands {
    tasks: JoinSet<io::Result<bool>>,
    by_task: HashMap<Id, Name>,
    in_hand: BTreeMap<Name, InHand>,
    answered: Answered,
    put_off: BTreeMap<Name, PutOff>,
    /// When each answer was first seen.
    seen: BTreeMap<Name, Instant>,
    told: BTreeSet<Name>,
}

struct InHand {
    task: AbortHandle,
    /// Looks that have not found the request.
    missed: u32,
}

struct PutOff {
    until: Instant,
    failures: u32,
}

impl Hands {
    /// Takes note of the requests that have been answered.
    fn settle(&mut self) {
        while let Some(done) = self.tasks.try_join_next_with_id() {
            let (id, outcome) = match done {
                Ok((id, outcome)) => (id, Some(outcome)),
                // It was aborted, or it panicked.
                Err(error) => (error.id(), None),
            };
            let Some(name) = self.by_task.remove(&id) else { continue };
            self.in_hand.remove(&name);
            match outcome {
                Some(Ok(true)) => self.answered.note(name),
                Some(Ok(false)) => self.put_off(name, None),
                Some(Err(error)) => self.put_off(name, Some(error)),
                None => self.put_off(name, Some(io::Error::other("its call was given up"))),
            }
        }
    }

    /// A file system may show a file before all of it, or its mode, is there: the second failure is
    /// told, once.
    fn put_off(&mut self, name: Name, error: Option<io::Error>) {
        let failures = self.put_off.get(&name).map_or(0, |before| before.failures) + u32::from(error.is_some());
        let time = if failures < 2 { SOON } else { LATER };
        if let Some(error) = error.filter(|_| failures >= 2)
            && self.told.len() < MOST_TOLD
            && self.told.insert(name)
        {
            tracing::warn!(%name, %error, "a letter in a mailbox is not taken, or not answered");
        }
        self.put_off.insert(name, PutOff { until: Instant::now() + time, failures });
    }

    /// Whether one of these letters may be of a rank.
    fn are_of_ranks(&self, names: &BTreeSet<Name>) -> bool {
        let is_of_rank = |name: &&Name| match name.kind {
            Kind::Request => !self.put_off.contains_key(name) && !self.answered.has(**name),
            Kind::Answer => true,
        };
        names.iter().any(|name| is_of_rank(&name))
    }

    /// Aborts calls whose requests have been removed, and forgets letters that are gone.
    fn let_go(&mut self, names: &BTreeSet<Name>) {
        for (name, in_hand) in &mut self.in_hand {
            in_hand.missed = if names.contains(name) { 0 } else { in_hand.missed + 1 };
            if in_hand.missed == MISSED {
                in_hand.task.abort();
            }
        }
        self.put_off.retain(|name, _| names.contains(name));
        self.seen.retain(|name, _| names.contains(name));
        self.told.retain(|name| names.contains(name));
    }

    /// Letters to remove: answered requests, and answers that were not read.
    fn old(&mut self, names: &BTreeSet<Name>) -> Vec<Name> {
        let is_old = |name: &&Name| match name.kind {
            Kind::Request => self.answered.has(**name) && !self.in_hand.contains_key(name),
            Kind::Answer => self.seen.entry(**name).or_insert_with(Instant::now).elapsed() > KEPT,
        };
        names.iter().filter(is_old).copied().collect()
    }

    fn may_take(&self, name: Name) -> bool {
        let is_due = self.put_off.get(&name).is_none_or(|put_off| put_off.until <= Instant::now());
        name.kind == Kind::Request && is_due && !self.answered.has(name) && !self.in_hand.contains_key(&name)
    }

    fn take(&mut self, name: Name, spawn: impl FnOnce(&mut JoinSet<io::Result<bool>>) -> AbortHandle) {
        let task = spawn(&mut self.tasks);
        self.by_task.insert(task.id(), name);
        self.in_hand.insert(name, InHand { task, missed: 0 });
    }
}

/// Requests that were answered. A second letter of that name is a replay, and is removed.
#[derive(Debug, Default)]
struct Answered(BTreeMap<(u32, u64), Numbers>);

/// The last numbers of an outpost one by one; all before them count as answered.
#[derive(Debug, Default)]
struct Numbers {
    highest: u64,
    last: BTreeSet<u64>,
}

impl Numbers {
    fn lowest(&self) -> u64 {
        self.highest.saturating_sub(WINDOW)
    }
}

impl Answered {
    fn note(&mut self, name: Name) {
        let numbers = self.0.entry((name.rank, name.outpost)).or_default();
        numbers.highest = numbers.highest.max(name.number);
        numbers.last.insert(name.number);
        numbers.last = numbers.last.split_off(&numbers.lowest());
    }

    fn has(&self, name: Name) -> bool {
        let numbers = self.0.get(&(name.rank, name.outpost));
        numbers.is_some_and(|numbers| name.number < numbers.lowest() || numbers.last.contains(&name.number))
    }
}

/// The letters that are there, and whether these are all.
fn look(opened: Opened) -> io::Result<(Opened, BTreeSet<Name>, bool)> {
    let (entries, are_all) = opened.folder.some_entries(MOST_ENTRIES)?;
    let names = entries.iter().filter(|entry| entry.is_file).filter_map(|entry| Name::read(&entry.name)).collect();
    Ok((opened, names, are_all))
}

/// Removes a mailbox from its storage, as far as its files are letters. One that is not there is no
/// error. Blocks.
///
/// # Errors
/// Something is left.
pub fn clear(storage: &Folder, name: &str) -> io::Result<()> {
    let Some(folder) = crate::beneath::present(storage.folder(name))? else { return Ok(()) };
    let is_ours = |name: &str| name == HERE || Name::read(name).is_some();
    for entry in folder.entries()?.into_iter().filter(|entry| entry.is_file && is_ours(&entry.name)) {
        // Others may be removed, and the folder then tells.
        let _ = folder.remove_file(entry.name);
    }
    storage.remove_empty_folder(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_far_below_the_highest_count_as_answered() {
        let mut answered = Answered::default();
        let name = |number| Name { kind: Kind::Request, rank: 0, outpost: 7, number };
        // As after a daemon that has answered all before.
        let first = 2 * WINDOW;
        for number in [first, first + 2, first + WINDOW] {
            answered.note(name(number));
        }
        let asked = [1, first - 1, first, first + 1, first + 2, first + 3, first + WINDOW, first + WINDOW + 1];
        let has = asked.map(|number| answered.has(name(number)));
        assert_eq!(has, [true, true, true, false, true, false, true, false]);
        assert!(!answered.has(Name { rank: 1, ..name(1) }) && !answered.has(Name { outpost: 8, ..name(1) }));
        answered.note(name(10 * WINDOW));
        assert_eq!(answered.0[&(0, 7)].last.len(), 1);
    }
}
