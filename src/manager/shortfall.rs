//! The reason that keeps the machine from starting any runner for now, and the time of the next
//! try. It says nothing about the jobs: they stay in the queue. It must not decide what the
//! machine's fault is; the supervisor does.

use std::time::Duration;

use tokio::time::Instant;

/// The first try follows after this, the next ones after twice as long each, ...
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// ... and so on up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Whether the machine can start runners, as far as is known.
#[derive(Debug, Default)]
pub(super) struct Shortfall(Option<Met>);

#[derive(Debug)]
struct Met {
    words: String,
    pause: Duration,
    /// When to try again; None while somebody may try.
    again: Option<Instant>,
    /// At the last try that was due nobody could be started, for want of room.
    is_untried: bool,
}

impl Shortfall {
    /// A runner could not be started, for that reason.
    pub(super) fn meet(&mut self, words: String, now: Instant) {
        let pause = match &self.0 {
            None => FIRST_PAUSE,
            // Of the same moment.
            Some(Met { pause, again: Some(_), .. }) => *pause,
            Some(Met { pause, again: None, .. }) => (*pause * 2).min(LONGEST_PAUSE),
        };
        self.0 = Some(Met { words, pause, again: Some(now + pause), is_untried: false });
    }

    /// A runner was started: whether that is news.
    pub(super) fn clear(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// A try was due, and no job could be started for want of room: the next one is due after twice
    /// the pause. After the longest the shortfall is old news, and forgotten.
    pub(super) fn untried(&mut self, now: Instant) {
        if let Some(met) = &mut self.0 {
            met.pause = (met.pause * 2).min(LONGEST_PAUSE);
            met.again = Some(now + met.pause);
            met.is_untried = true;
        }
    }

    /// When the next try is due.
    pub(super) fn again(&self) -> Option<Instant> {
        self.0.as_ref()?.again
    }

    /// How many runners may be started now: one, which tries for all, where none could be started
    /// before.
    pub(super) fn allows(&mut self, now: Instant) -> usize {
        match &mut self.0 {
            None => usize::MAX,
            Some(Met { again: Some(again), .. }) if *again > now => 0,
            Some(Met { is_untried: true, pause: LONGEST_PAUSE, .. }) => {
                self.0 = None;
                usize::MAX
            }
            Some(met) => {
                met.again = None;
                1
            }
        }
    }

    /// Why jobs wait, where they wait for this.
    pub(super) fn words(&self) -> Option<String> {
        let Met { words, pause, .. } = self.0.as_ref()?;
        Some(format!("the machine cannot start a runner now, which is tried again every {pause:?}: {words}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failure_one_tries_for_all_at_ever_longer_intervals_until_one_is_started() {
        let mut now = Instant::now();
        let mut shortfall = Shortfall::default();
        assert_eq!(shortfall.allows(now), usize::MAX);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            // Two that were started at once.
            shortfall.meet("first".into(), now);
            shortfall.meet("second".into(), now);
            assert_eq!(shortfall.allows(now), 0);
            let again = shortfall.again().unwrap();
            pauses.push((again - now).as_secs());
            now = again;
            assert_eq!((shortfall.allows(now), shortfall.again()), (1, None));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        let words = shortfall.words().unwrap();
        assert!(words.ends_with("tried again every 60s: second"), "{words}");
        assert!(shortfall.clear() && !shortfall.clear());
        assert_eq!((shortfall.allows(now), shortfall.words()), (usize::MAX, None));
    }

    #[test]
    fn a_shortfall_that_nobody_can_try_is_forgotten_after_the_longest_pause() {
        let mut now = Instant::now();
        let mut shortfall = Shortfall::default();
        shortfall.meet("words".into(), now);
        let mut pauses = Vec::new();
        while let Some(again) = shortfall.again() {
            pauses.push((again - now).as_secs());
            now = again;
            if shortfall.allows(now) == 1 {
                shortfall.untried(now);
            }
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60]);
        assert_eq!((shortfall.allows(now), shortfall.words()), (usize::MAX, None));
    }
}
