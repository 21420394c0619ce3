//! Keeps the copies that jobs want of their results: while a job is there every so often, and once more when it has ended, again and again
//! until that has worked. A copy that cannot be written holds up nobody: the job goes on, and tells of it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Semaphore, watch};

use crate::job::{Job, JobId};
use crate::journal::JobFolder;
use crate::mirror::{self, Mirror, Pulse, Roots};
use crate::proto::v1;

/// A pass that failed is tried again after this, then after twice as long, ...
const AGAIN: Duration = Duration::from_secs(1);
/// ... and so on up to this.
const AGAIN_AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// Copies that are written at the same time: a file system that hangs takes no more threads than that.
static COPIED_AT_ONCE: Semaphore = Semaphore::const_new(4);

/// The copies of all jobs; cheap to clone.
#[derive(Clone)]
pub(super) struct Mirrors {
    kept: Arc<Mutex<HashMap<JobId, Kept>>>,
    roots: Arc<Roots>,
    interval: Duration,
}

struct Kept {
    state: v1::MirrorState,
    ended: watch::Sender<bool>,
    /// Passes that somebody waits for, counted.
    wanted: watch::Sender<u64>,
    /// The last of these that was made, whether it could write or not.
    made: watch::Receiver<u64>,
}

/// What the task of a copy hears and says.
struct Told {
    ended: watch::Receiver<bool>,
    wanted: watch::Receiver<u64>,
    made: watch::Sender<u64>,
}

/// The state of a copy that was complete before this daemon began.
pub(super) fn complete(folder: &JobFolder) -> Option<v1::MirrorState> {
    let (target, time) = mirror::done(folder)?;
    Some(v1::MirrorState { folder: target, last_success_time: Some(time.into()), error: String::new(), complete: true })
}

impl Mirrors {
    pub(super) fn new(roots: Arc<Roots>, interval: Duration) -> Self {
        Self { kept: Arc::default(), roots, interval }
    }

    /// Keeps the copy of a job from now on, if it wants one. Asking twice is fine.
    pub(super) fn keep(&self, job: &Job, folder: JobFolder) {
        let wanted = job.spec.output.as_ref().map_or("", |output| output.mirror.as_str());
        if wanted.is_empty() {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept.get(&job.id) {
            known
                .ended
                .send_if_modified(|ended| std::mem::replace(ended, job.state.is_final()) != job.state.is_final());
            return;
        }
        let mirror = Mirror::new(folder, self.roots.clone(), Path::new(wanted), job.id.as_str());
        let state = v1::MirrorState { folder: mirror.target().display().to_string(), ..v1::MirrorState::default() };
        let (ended, is_ended) = watch::channel(job.state.is_final());
        let (wanted, is_wanted) = watch::channel(0);
        let (is_made, made) = watch::channel(0);
        kept.insert(job.id.clone(), Kept { state, ended, wanted, made });
        let told = Told { ended: is_ended, wanted: is_wanted, made: is_made };
        tokio::spawn(self.clone().follow(job.id.clone(), mirror, told));
    }

    /// How the copy of a job is; None where there is none, or nothing is known of it any more.
    pub(super) fn state(&self, id: &JobId) -> Option<v1::MirrorState> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(id).map(|kept| kept.state.clone())
    }

    /// Copies what is new of all jobs now, and returns when that was tried: this machine may be about to go.
    pub(super) async fn flush(&self) {
        let waits: Vec<_> = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let ask = |kept: &Kept| {
                kept.wanted.send_modify(|wanted| *wanted += 1);
                (*kept.wanted.borrow(), kept.made.clone())
            };
            kept.values().filter(|kept| !kept.state.complete).map(ask).collect()
        };
        for (wanted, mut made) in waits {
            // One that has ended meanwhile is complete.
            let _ = made.wait_for(|made| *made >= wanted).await;
        }
    }

    /// Forgets a job that is gone.
    pub(super) fn forget(&self, id: &JobId) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    async fn follow(self, id: JobId, mut mirror: Mirror, told: Told) {
        let Told { mut ended, mut wanted, made } = told;
        let mut pause = AGAIN;
        loop {
            let is_last = *ended.borrow_and_update();
            let number = *wanted.borrow_and_update();
            let Ok(turn) = COPIED_AT_ONCE.acquire().await else { return };
            let pass = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                let done = mirror.pass(is_last, &Pulse::default());
                (mirror, done)
            });
            let Ok((same, done)) = pass.await else { return };
            mirror = same;
            let wait = match &done {
                Ok(_) if is_last => {
                    self.tell(&id, |state| {
                        state.error.clear();
                        state.complete = true;
                        state.last_success_time = Some(SystemTime::now().into());
                    });
                    return tracing::info!(job.id = %id, folder = %mirror.target().display(), "the copy of the job is complete");
                }
                Ok(_) => {
                    self.tell(&id, |state| {
                        state.error.clear();
                        state.last_success_time = Some(SystemTime::now().into());
                    });
                    pause = AGAIN;
                    self.interval
                }
                Err(error) => {
                    let words = error.to_string();
                    if self.tell(&id, |state| state.error.clone_from(&words)) {
                        tracing::error!(job.id = %id, %error, "the copy of the job cannot be written and will be tried again");
                    }
                    pause = (pause * 2).min(AGAIN_AT_LEAST_EVERY);
                    pause / 2
                }
            };
            let has_failed = done.is_err();
            made.send_replace(number);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                changed = ended.changed(), if !has_failed => if changed.is_err() { return },
                changed = wanted.changed() => if changed.is_err() { return },
            }
            if ended.has_changed().is_err() {
                // The job was deleted.
                return;
            }
        }
    }

    /// Changes what is known; whether that is news.
    fn tell(&self, id: &JobId, change: impl FnOnce(&mut v1::MirrorState)) -> bool {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get_mut(id).is_some_and(|kept| {
            let before = kept.state.clone();
            change(&mut kept.state);
            kept.state != before
        })
    }
}
