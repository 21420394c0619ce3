//! A shim without a daemon: after how long it asks its runner to stop, and then kills it.

use std::path::Path;
use std::time::{Duration, Instant};

use super::hearing::Growth;
use super::stopping::Patience;
use crate::journal::{JobFolder, JobLock, is_held};

/// Interval between two looks for the daemon.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long there has been no daemon, or none that could find us.
pub(super) struct Alone<'a> {
    job: &'a Path,
    held: &'a JobLock,
    daemon_lock: &'a Path,
    /// In seconds.
    orphan_timeout: f64,
    folder: JobFolder,
    is_lost: bool,
    looked: Instant,
    since: Option<Instant>,
    told: Option<Instant>,
    patience: Patience,
    growth: Growth,
}

/// The consequence of a time without a daemon.
pub(super) enum Consequence {
    /// There is one, or the time is not over.
    Nothing,
    /// The runner is asked to stop, for this reason.
    Stop(String),
    /// It is killed.
    Kill,
}

impl<'a> Alone<'a> {
    /// The time begins now. `grace` is the time from asking the runner to killing it, in seconds.
    pub(super) fn new(
        job: &'a Path,
        held: &'a JobLock,
        daemon_lock: &'a Path,
        orphan_timeout: f64,
        grace: f64,
    ) -> Self {
        let now = Instant::now();
        Self {
            job,
            held,
            daemon_lock,
            orphan_timeout,
            folder: JobFolder::new(job.to_owned()),
            is_lost: false,
            looked: now,
            since: None,
            told: None,
            patience: Patience::new(Duration::try_from_secs_f64(grace).unwrap_or(Duration::MAX), now),
            growth: Growth::default(),
        }
    }

    /// Looks for the daemon, where it is time to.
    pub(super) fn judge(&mut self) -> Consequence {
        let now = Instant::now();
        if now - self.looked < LOOK_EVERY {
            return Consequence::Nothing;
        }
        self.looked = now;
        self.patience.hear(&self.growth.look(&self.folder.journal()), now);
        match (self.told, self.why(now)) {
            (None, Some(words)) => {
                self.told = Some(now);
                Consequence::Stop(format!("[torchd: {words}; the runner is asked to stop]\n"))
            }
            // As a daemon would wait for it.
            (Some(told), Some(_)) if self.patience.is_over(told, now) => Consequence::Kill,
            _ => Consequence::Nothing,
        }
    }

    /// Why the runner should not go on, if there is a reason.
    fn why(&mut self, now: Instant) -> Option<String> {
        // A daemon that does not find our lock declares the attempt over. A lock that is there
        // again at the next look was not removed.
        let is_lost = self.held.is_lost(&self.folder.shim());
        if std::mem::replace(&mut self.is_lost, is_lost) && is_lost {
            return Some(format!("{} or the lock in it was removed", self.job.display()));
        }
        match is_held(self.daemon_lock) {
            Ok(true) => {
                self.since = None;
                return None;
            }
            Ok(false) => {}
            // Whether there is a daemon cannot be told now.
            Err(_) => return None,
        }
        let alone = now - *self.since.get_or_insert(now);
        let is_long = alone.as_secs_f64() >= self.orphan_timeout;
        is_long.then(|| format!("there has been no daemon for {} s", self.orphan_timeout))
    }
}
