//! How a runner is brought to its end: SIGTERM first, a kill by its shim after its grace time, a
//! kill of both where the shim does not do that. It owns the rule for how long a runner is waited
//! for, which the shim has too.
//!
//! It sends nothing and reads no clock: it is told what was heard and what was sent, and tells what
//! is due. A signal that could not be sent stays due.

use std::time::{Duration, Instant};

use super::hearing::Heard;
use super::leftover::Signal;

/// The daemon waits beyond the grace time for a runner that was asked to stop and has told
/// something within this time, ...
const STILL_HEARD: Duration = Duration::from_secs(3);
/// ... or within this multiple of its longest gap between two records, where that is more, ...
const OF_LONGEST_GAP: u32 = 2;
/// ... but no longer than this in all.
const MOST_GRACE: Duration = Duration::from_secs(600);
/// With each record the longest gap counts for this part less: how long loading took does not
/// matter for ever.
const FADING: u32 = 16;
/// A shim kills at once what it is told to kill.
const SHIM_GRACE: Duration = Duration::from_secs(5);

/// How a runner is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    No,
    Gently,
    AtOnce,
}

/// For how long a runner that was asked to stop is waited for.
#[derive(Debug)]
pub(super) struct Patience {
    grace: Duration,
    heard: Instant,
    /// The longest time between two records lately.
    gap: Duration,
}

impl Patience {
    pub(super) fn new(grace: Duration, now: Instant) -> Self {
        Self { grace, heard: now, gap: Duration::ZERO }
    }

    /// Takes the result of a look at the runner's journal. A runner that cannot be heard is not
    /// silent.
    pub(super) fn hear(&mut self, heard: &Heard, now: Instant) {
        match heard {
            Heard::Something => {
                self.gap = (now - self.heard).max(self.gap - self.gap / FADING);
                self.heard = now;
            }
            Heard::Nothing => {}
            Heard::Unknown(_) => self.heard = now,
        }
    }

    /// Whether a runner that was asked to stop at `asked` has had its time. One that tells of a
    /// long validation, of slow steps, or of a checkpoint on a slow disk, is on its way.
    pub(super) fn is_over(&self, asked: Instant, now: Instant) -> bool {
        let (waited, silent) = (now - asked, now - self.heard);
        waited >= self.grace && (silent >= STILL_HEARD.max(self.gap * OF_LONGEST_GAP) || waited >= MOST_GRACE)
    }
}

/// A runner that is being stopped, or not.
#[derive(Debug)]
pub(super) struct Stopping {
    patience: Patience,
    wanted: Stop,
    /// The last signal, and when it was sent.
    sent: Option<(Signal, Instant)>,
}

impl Stopping {
    /// Of a runner that nobody has asked to stop.
    pub(super) fn new(grace: Duration, now: Instant) -> Self {
        Self { patience: Patience::new(grace, now), wanted: Stop::No, sent: None }
    }

    /// A look at what the runner tells has brought that.
    pub(super) fn hear(&mut self, heard: &Heard, now: Instant) {
        self.patience.hear(heard, now);
    }

    /// Asks the runner to end. An earlier, stronger wish is not taken back.
    pub(super) fn want(&mut self, wanted: Stop) {
        self.wanted = self.wanted.max(wanted);
    }

    /// The signal that is to be sent now.
    pub(super) fn due(&self, now: Instant) -> Option<Signal> {
        match (self.sent, self.wanted) {
            (None, Stop::No) => None,
            (None, Stop::Gently) => Some(Signal::Stop),
            (None | Some((Signal::Stop, _)), Stop::AtOnce) => Some(Signal::Kill),
            (Some((Signal::Stop, asked)), _) => self.patience.is_over(asked, now).then_some(Signal::Kill),
            (Some((Signal::Kill, sent)), _) => (now - sent >= SHIM_GRACE).then_some(Signal::KillBoth),
            (Some((Signal::KillBoth, _)), _) => None,
        }
    }

    /// That signal was sent.
    pub(super) fn sent(&mut self, signal: Signal, now: Instant) {
        self.sent = Some((signal, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_runner_is_asked_then_killed_by_its_shim_and_then_from_outside() {
        let begun = Instant::now();
        let mut stopping = Stopping::new(GRACE, begun);
        assert_eq!(stopping.due(begun + seconds(1000)), None);
        stopping.want(Stop::Gently);
        assert_eq!(stopping.due(begun), Some(Signal::Stop));
        assert_eq!(stopping.due(begun + seconds(100)), Some(Signal::Stop), "what could not be sent stays due");
        stopping.sent(Signal::Stop, begun + seconds(100));
        assert_eq!(stopping.due(begun + seconds(109)), None, "its time begins when it has been told");
        assert_eq!(stopping.due(begun + seconds(110)), Some(Signal::Kill));
        stopping.sent(Signal::Kill, begun + seconds(110));
        assert_eq!(stopping.due(begun + seconds(114)), None);
        assert_eq!(stopping.due(begun + seconds(115)), Some(Signal::KillBoth));
        stopping.sent(Signal::KillBoth, begun + seconds(115));
        assert_eq!(stopping.due(begun + seconds(1000)), None);
    }

    #[test]
    fn who_wants_it_at_once_does_not_wait_and_is_not_overruled() {
        let begun = Instant::now();
        let mut stopping = Stopping::new(GRACE, begun);
        stopping.want(Stop::Gently);
        stopping.sent(Signal::Stop, begun);
        stopping.want(Stop::AtOnce);
        stopping.want(Stop::Gently);
        assert_eq!(stopping.due(begun), Some(Signal::Kill));
    }

    /// When the patience with a runner is over that tells something at those seconds and is asked
    /// to stop at 100.
    fn over_at(told: &[u64]) -> u64 {
        let begun = Instant::now();
        let asked = begun + seconds(100);
        let mut patience = Patience::new(GRACE, begun);
        for now in 0..2000 {
            if told.contains(&now) {
                patience.hear(&Heard::Something, begun + seconds(now));
            }
            if now >= 100 && patience.is_over(asked, begun + seconds(now)) {
                return now;
            }
        }
        panic!("it is waited for without end");
    }

    #[test]
    fn a_runner_that_is_heard_is_waited_for_and_a_slow_one_for_as_long_as_it_was_slow_before() {
        let fast: Vec<u64> = (0..100).collect();
        assert_eq!(over_at(&fast), 110, "nothing more was heard");
        let until = |last| fast.iter().copied().chain(100..=last).collect::<Vec<_>>();
        assert_eq!(over_at(&until(109)), 112, "it was heard a second before its time was over");
        assert_eq!(over_at(&until(2000)), 700, "no runner is waited for without end");
        // A validation of batches that take 8 s: the time is over between two of them.
        let slow: Vec<u64> = fast.iter().copied().chain([107, 115, 123, 131]).collect();
        assert_eq!(over_at(&slow), 131 + 16);
        let mut patience = Patience::new(GRACE, Instant::now());
        let asked = patience.heard;
        (0..20).for_each(|now| patience.hear(&Heard::Unknown(std::io::ErrorKind::Other.into()), asked + seconds(now)));
        assert!(!patience.is_over(asked, asked + seconds(21)), "nobody could hear whether it is silent");
        assert!(patience.is_over(asked, asked + seconds(22)));
        // Loading took 60 s, and many records have come since.
        let loaded: Vec<u64> = (60..100).collect();
        assert!((110..125).contains(&over_at(&loaded)), "{}", over_at(&loaded));
    }
}
