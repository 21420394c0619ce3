//! Why a launch does not get on, and whether anybody minds.

use std::time::{Duration, Instant};

use super::launch::Launch;

/// A look counts for so long. There are several in a second.
const FRESH: Duration = Duration::from_secs(5);

impl Launch {
    /// The job's folder has taken what came of a rank, or not: then `error` tells why.
    pub fn note_disk(&self, rank: u32, error: Option<String>) {
        if let Some(place) = self.parts().ranks.get_mut(rank as usize) {
            place.disk = error;
        }
    }

    /// There is room for files of a rank that are to come whole, or not: then `error` tells why.
    pub fn note_room(&self, rank: u32, error: Option<String>) {
        if let Some(place) = self.parts().ranks.get_mut(rank as usize) {
            place.room = error;
        }
    }

    /// Why the job's folder does not take what comes; None where it does.
    pub fn disk_trouble(&self) -> Option<String> {
        let parts = self.parts();
        let mut living = parts.ranks.iter().filter(|rank| rank.end.is_none());
        living.find_map(|rank| rank.disk.as_ref().or(rank.room.as_ref()).cloned())
    }

    /// Nobody wants what it has not brought home yet: its job was cancelled.
    pub fn let_go(&self) {
        self.parts().is_unwanted = true;
    }

    /// Whether nobody wants what it has not brought home yet.
    pub fn is_unwanted(&self) -> bool {
        self.parts().is_unwanted
    }

    /// Its mailbox has been looked at; `trouble` tells why that did not succeed, or takes long.
    pub fn note_look(&self, trouble: Option<String>) {
        self.parts().looks.note(trouble, Instant::now());
    }

    /// Why its mailbox cannot be looked at; None where it can.
    pub fn mailbox_trouble(&self) -> Option<String> {
        self.parts().looks.trouble.clone()
    }
}

/// Looks at a mailbox.
pub(super) struct Looks {
    /// When one was good, or the launch was begun or taken over.
    since: Instant,
    is_seen: bool,
    /// The time without good looks.
    blind: Duration,
    trouble: Option<String>,
}

impl Looks {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, is_seen: false, blind: Duration::ZERO, trouble: None }
    }

    fn note(&mut self, trouble: Option<String>, now: Instant) {
        if trouble.is_none() {
            let gap = now.saturating_duration_since(self.since);
            if gap > FRESH {
                self.blind += gap;
            }
            (self.since, self.is_seen) = (now, true);
        }
        self.trouble = trouble;
    }

    /// Whether ranks are heard by it.
    pub(super) fn are_good(&self, now: Instant) -> bool {
        self.is_seen && now.saturating_duration_since(self.since) < FRESH
    }

    /// The time without good looks, up to the last good one.
    pub(super) fn blind(&self) -> Duration {
        self.blind
    }
}
