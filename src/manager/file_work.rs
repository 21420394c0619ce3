//! Threads for work on files that requests name. Such work is long, or hangs where a file system
//! does not answer.
//!
//! Turns bound how much is done at a time. Work that keeps its turn for too long loses it and goes
//! on, so that others are served beside it; its client is answered when the limit has passed. The
//! threads are bounded, and requests for the same files may take only some of them. Work of the
//! daemon itself must not be done here: the blocking pool is for that, and clients cannot fill it
//! from here.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use super::JobError;
pub(super) use crate::gate::Wanted;

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
    /// Threads of them for requests that name the same files.
    pub(super) threads_of_same: usize,
}

/// The threads.
#[derive(Debug)]
pub(super) struct FileWork {
    limits: Limits,
    turns: Arc<Semaphore>,
    threads: Arc<Semaphore>,
    /// What is left of `threads_of_same`, by files.
    same: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl FileWork {
    pub(super) fn new(limits: Limits) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { limits, turns: semaphore(limits.at_once), threads: semaphore(limits.threads), same: Mutex::default() }
    }

    /// Does some work on a thread. `files` tells in words which files it is about. Work that has
    /// begun goes on where the client leaves; what it returns is dropped then.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        files: String,
        work: impl FnOnce(&Wanted) -> T + Send + 'static,
    ) -> Result<T, JobError> {
        let Limits { turn, answer, threads, .. } = self.limits;
        let late = || JobError::FilesUnavailable(format!("{files} did not answer within {answer:?}"));
        let same = timeout(answer, self.same(&files).acquire_owned()).await.map_err(|_| late())?;
        let permit = |acquired: Result<OwnedSemaphorePermit, _>| acquired.map_err(|_| JobError::Gone);
        let same = permit(same)?;
        let held = permit(self.turns.clone().acquire_owned().await)?;
        // Those that have a turn are fewer than the threads: the others hang.
        let place = self.threads.clone().try_acquire_owned().map_err(|_| {
            JobError::FilesUnavailable(format!("{threads} requests are busy with files that are slow or do not answer"))
        })?;
        let (_client, wanted) = Wanted::new();
        let (done, result) = oneshot::channel();
        let (working, finished) = oneshot::channel::<Infallible>();
        let body = move || {
            let _held = (same, place, working);
            // The client may have left.
            let _ = done.send(work(&wanted));
        };
        let started = thread::Builder::new().name("files".into()).spawn(body);
        started
            .map_err(|error| JobError::FilesUnavailable(format!("no thread can be started for {files}: {error}")))?;
        tokio::spawn(async move {
            let _ = timeout(turn, finished).await;
            drop(held);
        });
        timeout(answer, result).await.map_err(|_| late())?.map_err(|_| JobError::Gone)
    }

    fn same(&self, files: &str) -> Arc<Semaphore> {
        let mut known = self.same.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = known.get(files).and_then(Weak::upgrade) {
            return same;
        }
        known.retain(|_, same| same.strong_count() > 0);
        let same = Arc::new(Semaphore::new(self.limits.threads_of_same));
        known.insert(files.to_owned(), Arc::downgrade(&same));
        same
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LIMITS: Limits = Limits {
        at_once: 2,
        turn: Duration::from_millis(1),
        answer: Duration::from_secs(600),
        threads: 5,
        threads_of_same: 2,
    };

    fn unavailable<T: std::fmt::Debug>(result: Result<T, JobError>) -> String {
        match result {
            Err(JobError::FilesUnavailable(what)) => what,
            other => panic!("{other:?}"),
        }
    }

    /// Work that hangs until the sender is gone; returns once it has begun.
    async fn hang(work: &Arc<FileWork>, files: &str, until: &Arc<Mutex<mpsc::Receiver<()>>>) {
        let (begun, has_begun) = oneshot::channel();
        let (work, files, until) = (work.clone(), files.to_owned(), until.clone());
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
        hang(&work, "a", &until).await;
        hang(&work, "a", &until).await;
        // As much as may be done at once hangs, and as much as may be about the same files.
        assert_eq!(work.run("b".into(), |_| 7).await.unwrap(), 7);
        assert!(unavailable(work.run("a".into(), |_| 7).await).contains("a did not answer within 50ms"));
        for files in ["b", "b", "c"] {
            hang(&work, files, &until).await;
        }
        assert!(unavailable(work.run("d".into(), |_| 7).await).contains("5 requests are busy with files"));
        drop(release);
        // The threads come back.
        while work.threads.available_permits() < LIMITS.threads {
            tokio::task::yield_now().await;
        }
        assert_eq!(work.run("a".into(), |_| 7).await.unwrap(), 7);
        assert!(work.same.lock().unwrap().len() <= 2, "files that nobody works on are forgotten");
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_noticed_by_its_work_whose_result_is_dropped() {
        let work = FileWork::new(LIMITS);
        let (begun, has_begun) = oneshot::channel();
        let (dropped, is_dropped) = oneshot::channel::<()>();
        let client = work.run("a".into(), move |wanted| {
            assert!(wanted.is_wanted());
            begun.send(()).unwrap();
            while wanted.is_wanted() {
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
