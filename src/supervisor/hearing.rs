//! How long a runner has told nothing, as far as somebody has listened.
//!
//! A look at the journal that fails says nothing about the runner: then the length of the file
//! tells whether it has told something, and where that cannot be had either the time does not
//! count. Looks are counted, and no time between them: a clock goes on while the daemon stands
//! still and hears nobody.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::beneath::present;

/// A look counts for the time since the look before, but for no more than this.
const MOST_OF_A_LOOK: Duration = Duration::from_secs(1);

/// How long a runner has been silent: written by its follower, read by others.
#[derive(Debug, Clone, Default)]
pub(super) struct Silence(Arc<AtomicU64>);

impl Silence {
    pub(super) fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    pub(super) fn set(&self, silence: Duration) {
        self.0.store(u64::try_from(silence.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// The result of a look at a runner's journal.
#[derive(Debug)]
pub(super) enum Heard {
    /// It has told something.
    Something,
    /// It has told nothing since the look before.
    Nothing,
    /// Whether it has told anything cannot be determined.
    Unknown(io::Error),
}

/// Adds looks up.
#[derive(Debug)]
pub(super) struct Hearing {
    silence: Silence,
    looked: Instant,
}

impl Hearing {
    /// Of a runner that is listened to from now on.
    pub(super) fn new(silence: Silence, now: Instant) -> Self {
        silence.set(Duration::ZERO);
        Self { silence, looked: now }
    }

    /// A look has brought that.
    pub(super) fn note(&mut self, heard: &Heard, now: Instant) {
        let since = (now - self.looked).min(MOST_OF_A_LOOK);
        self.looked = now;
        match heard {
            Heard::Something => self.silence.set(Duration::ZERO),
            Heard::Nothing => self.silence.set(self.silence.get() + since),
            Heard::Unknown(_) => {}
        }
    }
}

/// Whether a journal grows, by its length: that needs no descriptor, and no disk that can be read.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// Bytes at the last look.
    length: u64,
}

impl Growth {
    /// Looks at a journal, which need not be there.
    pub(super) fn look(&mut self, journal: &Path) -> Heard {
        match present(std::fs::metadata(journal)) {
            Ok(found) => {
                let length = found.map_or(0, |found| found.len());
                let has_grown = std::mem::replace(&mut self.length, length) != length;
                if has_grown { Heard::Something } else { Heard::Nothing }
            }
            Err(error) => Heard::Unknown(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_looks_that_hear_nothing_count_as_silence() {
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let silence = Silence::default();
        let mut hearing = Hearing::new(silence.clone(), begun);
        let mut after = |heard: Heard, millis| {
            hearing.note(&heard, at(millis));
            silence.get().as_millis()
        };
        assert_eq!(after(Heard::Nothing, 100), 100);
        assert_eq!(after(Heard::Nothing, 250), 250);
        for millis in [1_000, 60_000] {
            assert_eq!(after(Heard::Unknown(io::ErrorKind::Other.into()), millis), 250, "nobody could listen");
        }
        assert_eq!(after(Heard::Nothing, 60_100), 350, "what was said before counts on");
        assert_eq!(after(Heard::Nothing, 3_600_000), 1350, "the daemon stood still for an hour");
        assert_eq!(after(Heard::Something, 3_600_100), 0);
    }

    #[test]
    fn a_journal_grows_or_not_or_nobody_knows() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("journal");
        let mut growth = Growth::default();
        assert!(matches!(growth.look(&journal), Heard::Nothing), "there is none");
        std::fs::write(&journal, "word").unwrap();
        assert!(matches!(growth.look(&journal), Heard::Something));
        assert!(matches!(growth.look(&journal), Heard::Nothing));
        let looped = folder.path().join("loop");
        std::os::unix::fs::symlink(&looped, &looped).unwrap();
        assert!(matches!(growth.look(&looped), Heard::Unknown(_)));
        assert!(matches!(growth.look(&journal), Heard::Nothing), "a failed look forgets nothing");
    }
}
