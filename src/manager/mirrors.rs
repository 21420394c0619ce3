//! Decides when the copies of results are made: at an interval while a job is there, once more
//! after its end, and again with a back-off until that has worked.
//!
//! A copy that cannot be written, or that hangs, delays neither its job nor the copies below other
//! roots; the state of the job tells of it.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::timeout;

use crate::job::{Job, JobId};
use crate::journal::JobFolder;
use crate::mirror::{self, Mirror, Pulse, Roots};
use crate::proto::v1;

/// A pass that failed is tried again after this or the interval, whichever is shorter, then after
/// twice as long, ...
const AGAIN: Duration = Duration::from_secs(1);
/// ... and so on up to this.
const AGAIN_AT_LEAST_EVERY: Duration = Duration::from_secs(60);
/// Copies that are written at the same time below one root. Each has a thread of its own: a file
/// system that hangs takes no more threads than that, and none that others need.
const AT_ONCE: usize = 4;

/// The copies of all jobs; cheap to clone.
#[derive(Clone)]
pub(super) struct Mirrors {
    kept: Arc<Mutex<HashMap<JobId, Kept>>>,
    roots: Arc<Roots>,
    /// The turns of each root.
    lanes: Arc<HashMap<PathBuf, Arc<Semaphore>>>,
    /// The turns of copies that lie below none of the roots by their name.
    other: Arc<Semaphore>,
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

/// The ends of the channels that the task of a copy holds.
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
        let turns = || Arc::new(Semaphore::new(AT_ONCE));
        let lanes = Arc::new(roots.paths().iter().map(|root| (root.clone(), turns())).collect());
        Self { kept: Arc::default(), roots, lanes, other: turns(), interval }
    }

    /// Keeps the copy of a job from now on, if it wants one. Asking twice is fine. `is_over` tells
    /// that nothing of its folder will change: the next copy is the last.
    pub(super) fn keep(&self, job: &Job, folder: JobFolder, is_over: bool) {
        let wanted = job.spec.mirror.as_deref().unwrap_or_default();
        if wanted.is_empty() {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept.get(&job.id) {
            known.ended.send_if_modified(|ended| std::mem::replace(ended, is_over) != is_over);
            return;
        }
        let mirror = Mirror::new(folder, self.roots.clone(), Path::new(wanted), job.id.as_str());
        let state = v1::MirrorState { folder: mirror.target().display().to_string(), ..v1::MirrorState::default() };
        let (ended, is_ended) = watch::channel(is_over);
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

    /// Copies what is new of all jobs now, and returns when that was tried: this machine may be
    /// about to go.
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

    async fn follow(self, id: JobId, mirror: Mirror, told: Told) {
        let Told { mut ended, mut wanted, made } = told;
        let target = mirror.target().to_owned();
        let mirror = Arc::new(Mutex::new(mirror));
        let again = AGAIN.min(self.interval);
        let mut pause = again;
        loop {
            let is_last = *ended.borrow_and_update();
            let number = *wanted.borrow_and_update();
            let done = tokio::select! {
                done = self.pass(&id, &target, &mirror, is_last) => done,
                // The job was deleted.
                () = made.closed() => return,
            };
            let wait = match &done {
                Ok(()) if is_last => {
                    self.tell(&id, |state| {
                        state.error.clear();
                        state.complete = true;
                        state.last_success_time = Some(SystemTime::now().into());
                    });
                    return tracing::info!(job.id = %id, folder = %target.display(), "the copy of the job is complete");
                }
                Ok(()) => {
                    self.tell(&id, |state| {
                        state.error.clear();
                        state.last_success_time = Some(SystemTime::now().into());
                    });
                    pause = again;
                    self.interval
                }
                Err(error) => {
                    if self.tell_error(&id, error.to_string()) {
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

    /// Waits for a turn and copies what is new, and tells when that does not get on.
    async fn pass(&self, id: &JobId, target: &Path, mirror: &Arc<Mutex<Mirror>>, is_last: bool) -> io::Result<()> {
        let root = self.roots.root_of(target);
        let lane = root.and_then(|root| self.lanes.get(root)).unwrap_or(&self.other);
        let mut turn = pin!(lane.clone().acquire_owned());
        let mut is_told = false;
        let turn = loop {
            match timeout(self.silence(), &mut turn).await {
                Ok(turn) => break turn.map_err(io::Error::other)?,
                Err(_) => {
                    is_told = true;
                    let root = root.unwrap_or(target).display();
                    let words = format!("waits for other copies below {root}; {AT_ONCE} are written at once");
                    self.tell_standstill(id, words);
                }
            }
        };
        let pulse = Arc::new(Pulse::new(target.to_owned()));
        let mut done = start(mirror.clone(), turn, is_last, pulse.clone())?;
        let mut beats = 0;
        loop {
            match timeout(self.silence(), &mut done).await {
                Ok(done) => {
                    return done.unwrap_or_else(|_| Err(io::Error::other("the thread that copies has died")));
                }
                Err(_) if pulse.beats() == beats => {
                    is_told = true;
                    let (at, silence) = (pulse.at(), self.silence().as_secs());
                    let at = at.display();
                    let words = format!("{at}: has not got on for {silence} s; the file system may not answer");
                    self.tell_standstill(id, words);
                }
                Err(_) => {
                    beats = pulse.beats();
                    if std::mem::take(&mut is_told) {
                        self.tell_error(id, String::new());
                    }
                }
            }
        }
    }

    /// A copy that does not get on for this long is told.
    fn silence(&self) -> Duration {
        self.interval.clamp(Duration::from_secs(1), Duration::from_secs(60))
    }

    fn tell_standstill(&self, id: &JobId, words: String) {
        if self.tell_error(id, words.clone()) {
            tracing::error!(job.id = %id, "the copy of the job does not get on: {words}");
        }
    }

    /// Tells why a copy is not up to date; whether that is news.
    fn tell_error(&self, id: &JobId, words: String) -> bool {
        self.tell(id, |state| state.error = words)
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

/// Copies what is new on a thread of its own, which keeps its turn for as long as it takes.
fn start(
    mirror: Arc<Mutex<Mirror>>,
    turn: OwnedSemaphorePermit,
    is_last: bool,
    pulse: Arc<Pulse>,
) -> io::Result<oneshot::Receiver<io::Result<()>>> {
    let (sender, done) = oneshot::channel();
    std::thread::Builder::new().name("mirror".into()).spawn(move || {
        let _turn = turn;
        let mut mirror = mirror.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody waits for the copy of a job that was deleted.
        let _ = sender.send(mirror.pass(is_last, &pulse).map(drop));
    })?;
    Ok(done)
}
