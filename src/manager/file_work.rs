//! Threads for work on files that requests name. Such work is long, or hangs where a file system
//! does not answer.
//!
//! Two bounds hold it. Turns bound how much is done at a time: work that keeps its turn for too
//! long loses it and goes on, so that others are served beside it. Threads bound how much may hang:
//! requests that lead into the same part of the file system get only some of them, so that a part
//! that does not answer leaves threads for the others. A client is answered when its limit has
//! passed. Work of the daemon itself must not be done here: the blocking pool is for that, and
//! clients cannot fill it from here.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::timeout;

use super::JobError;
use crate::gate::Wanted;

/// How much is done, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Work that is done at the same time; the rest waits.
    pub(super) at_once: usize,
    /// Work loses its turn after this.
    pub(super) turn: Duration,
    /// A client waits for its work for no longer than this.
    pub(super) answer: Duration,
    /// Threads, those included that have lost their turns.
    pub(super) threads: usize,
    /// Threads of them for requests that lead below the same root.
    pub(super) threads_of_root: usize,
    /// Threads of them for requests that lead into the same part of it.
    pub(super) threads_of_part: usize,
}

/// The files of some work.
#[derive(Debug, Clone)]
pub(super) struct Files {
    /// Which they are, for messages.
    words: String,
    /// The roots that they lie below, and the parts of these.
    places: BTreeMap<PathBuf, Extent>,
}

/// How large a part of the file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Part,
    Root,
}

impl Files {
    /// Files by their names in words, and by the parts of the file system that they lead into: each
    /// with its root.
    pub(super) fn new(words: String, parts: impl IntoIterator<Item = (PathBuf, PathBuf)>) -> Self {
        let mut places = BTreeMap::new();
        for (root, part) in parts {
            places.entry(part).or_insert(Extent::Part);
            // A file in a root itself counts for the whole root.
            places.insert(root, Extent::Root);
        }
        Self { words, places }
    }

    /// Files in a folder of the daemon's own.
    pub(super) fn in_folder(words: String, folder: PathBuf) -> Self {
        Self::new(words, []).and_in_folder(folder)
    }

    /// These files and some in one folder, under no root, besides.
    pub(super) fn and_in_folder(mut self, folder: PathBuf) -> Self {
        self.places.entry(folder).or_insert(Extent::Part);
        self
    }
}

/// The threads.
#[derive(Debug)]
pub(super) struct FileWork {
    limits: Limits,
    turns: Arc<Semaphore>,
    threads: Arc<Semaphore>,
    busy: Arc<Busy>,
}

/// How many threads work in each place.
#[derive(Debug, Default)]
struct Busy {
    threads: Mutex<HashMap<PathBuf, usize>>,
    freed: Notify,
}

/// A thread's part of the bounds on its places.
#[derive(Debug)]
struct Share {
    busy: Arc<Busy>,
    places: BTreeMap<PathBuf, Extent>,
}

impl Busy {
    /// Waits until each of the places has a thread left, and takes one of each at once: who waits
    /// for one place takes nothing from the others.
    async fn share(self: &Arc<Self>, places: BTreeMap<PathBuf, Extent>, limits: &Limits) -> Share {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Before the look, so that nothing is freed unheard between the two.
            freed.as_mut().enable();
            if self.take(&places, limits) {
                return Share { busy: self.clone(), places };
            }
            freed.await;
        }
    }

    fn take(&self, places: &BTreeMap<PathBuf, Extent>, limits: &Limits) -> bool {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = |(place, extent): (&PathBuf, &Extent)| {
            let most = match extent {
                Extent::Part => limits.threads_of_part,
                Extent::Root => limits.threads_of_root,
            };
            threads.get(place).is_none_or(|busy| *busy < most)
        };
        if !places.iter().all(has_room) {
            return false;
        }
        for place in places.keys() {
            *threads.entry(place.clone()).or_default() += 1;
        }
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut threads = self.busy.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for place in self.places.keys() {
            if let Some(busy) = threads.get_mut(place) {
                *busy -= 1;
            }
        }
        threads.retain(|_, busy| *busy > 0);
        drop(threads);
        self.busy.freed.notify_waiters();
    }
}

impl FileWork {
    pub(super) fn new(limits: Limits) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { limits, turns: semaphore(limits.at_once), threads: semaphore(limits.threads), busy: Arc::default() }
    }

    /// Does some work on a thread of its own. Where the client leaves, or its limit has passed, the
    /// work learns it from [`Wanted`], and its result is dropped.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        files: Files,
        work: impl FnOnce(&Wanted) -> T + Send + 'static,
    ) -> Result<T, JobError> {
        let Limits { turn, answer, threads, .. } = self.limits;
        let Files { words, places } = files;
        let late = || JobError::FilesUnavailable(format!("{words} did not answer within {answer:?}"));
        let share = timeout(answer, self.busy.share(places, &self.limits)).await.map_err(|_| late())?;
        let held = self.turns.clone().acquire_owned().await.map_err(|_| JobError::Gone)?;
        // Those that have a turn are fewer than the threads: the others hang.
        let place = self.threads.clone().try_acquire_owned().map_err(|_| {
            JobError::FilesUnavailable(format!("{threads} requests are busy with files that are slow or do not answer"))
        })?;
        let (_client, wanted) = Wanted::by_caller();
        let (done, result) = oneshot::channel();
        let (working, finished) = oneshot::channel::<Infallible>();
        let body = move || {
            let _held = (share, place, working);
            // The client may have left.
            let _ = done.send(work(&wanted));
        };
        let started = thread::Builder::new().name("files".into()).spawn(body);
        started
            .map_err(|error| JobError::FilesUnavailable(format!("no thread can be started for {words}: {error}")))?;
        tokio::spawn(async move {
            let _ = timeout(turn, finished).await;
            drop(held);
        });
        timeout(answer, result).await.map_err(|_| late())?.map_err(|_| JobError::Gone)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc;

    use super::*;

    const LIMITS: Limits = Limits {
        at_once: 2,
        turn: Duration::from_millis(1),
        answer: Duration::from_secs(600),
        threads: 6,
        threads_of_root: 4,
        threads_of_part: 2,
    };

    fn unavailable<T: std::fmt::Debug>(result: Result<T, JobError>) -> String {
        match result {
            Err(JobError::FilesUnavailable(what)) => what,
            other => panic!("{other:?}"),
        }
    }

    /// Files in a part of the root `/r`.
    fn of(part: &str) -> Files {
        below("/r", part)
    }

    fn below(root: &str, part: &str) -> Files {
        Files::new(part.into(), [(root.into(), Path::new(root).join(part))])
    }

    /// Work that hangs until the sender is gone; returns once it has begun.
    async fn hang(work: &Arc<FileWork>, files: Files, until: &Arc<Mutex<mpsc::Receiver<()>>>) {
        let (begun, has_begun) = oneshot::channel();
        let (work, until) = (work.clone(), until.clone());
        let hangs = async move {
            let hangs = move |_: &Wanted| {
                let _ = begun.send(());
                let _ = until.lock().unwrap().recv();
            };
            work.run(files, hangs).await
        };
        tokio::spawn(hangs);
        has_begun.await.unwrap();
    }

    #[tokio::test]
    async fn work_that_hangs_holds_up_neither_other_work_nor_more_than_its_share_of_the_threads() {
        let work = Arc::new(FileWork::new(Limits { answer: Duration::from_millis(50), ..LIMITS }));
        let (release, until) = mpsc::channel::<()>();
        let until = Arc::new(Mutex::new(until));
        hang(&work, of("a"), &until).await;
        hang(&work, of("a"), &until).await;
        // As much as may be done at once hangs, and as much as may lead into the same part.
        assert_eq!(work.run(of("b"), |_| 7).await.unwrap(), 7);
        assert!(unavailable(work.run(of("a"), |_| 7).await).contains("a did not answer within 50ms"));
        // Other files beside them are no way around that.
        let both = Files::new("both".into(), ["a", "b"].map(|part| ("/r".into(), Path::new("/r").join(part))));
        assert!(unavailable(work.run(both, |_| 7).await).contains("both did not answer"));
        for files in ["b", "c"] {
            hang(&work, of(files), &until).await;
        }
        // As much as may lead below the same root.
        assert!(unavailable(work.run(of("d"), |_| 7).await).contains("d did not answer"));
        assert!(unavailable(work.run(of(""), |_| 7).await).contains("did not answer"));
        for files in ["a", "b"] {
            hang(&work, below("/s", files), &until).await;
        }
        assert!(unavailable(work.run(below("/t", "a"), |_| 7).await).contains("6 requests are busy with files"));
        drop(release);
        // The threads come back.
        while work.threads.available_permits() < LIMITS.threads {
            tokio::task::yield_now().await;
        }
        assert_eq!(work.run(of("a"), |_| 7).await.unwrap(), 7);
        while !work.busy.threads.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_waits_for_one_place_holds_up_nobody_at_another_and_is_served_when_it_is_free() {
        let work = Arc::new(FileWork::new(Limits { threads_of_part: 1, ..LIMITS }));
        let (release, until) = mpsc::channel::<()>();
        let until = Arc::new(Mutex::new(until));
        hang(&work, of("a"), &until).await;
        let both = Files::new("both".into(), ["a", "b"].map(|part| ("/r".into(), Path::new("/r").join(part))));
        let waits = tokio::spawn({
            let work = work.clone();
            async move { work.run(both, |_| 7).await.unwrap() }
        });
        tokio::task::yield_now().await;
        assert_eq!(work.run(of("b"), |_| 8).await.unwrap(), 8);
        assert!(!waits.is_finished());
        drop(release);
        assert_eq!(waits.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_noticed_by_its_work_whose_result_is_dropped() {
        let work = FileWork::new(LIMITS);
        let (begun, has_begun) = oneshot::channel();
        let (dropped, is_dropped) = oneshot::channel::<()>();
        let client = work.run(of("a"), move |wanted| {
            wanted.check().unwrap();
            begun.send(()).unwrap();
            while wanted.check().is_ok() {
                thread::yield_now();
            }
            dropped
        });
        tokio::select! {
            _ = client => panic!("it is not done"),
            _ = has_begun => {}
        }
        // The sender is dropped with the result.
        is_dropped.await.unwrap_err();
    }
}
