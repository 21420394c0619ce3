//! A bound on a rate.

use std::time::{Duration, Instant};

/// Takes so much in a second, and no more.
#[derive(Debug)]
pub(super) struct Rate {
    most: usize,
    since: Option<Instant>,
    taken: usize,
}

impl Rate {
    pub(super) fn new(most: usize) -> Self {
        Self { most, since: None, taken: 0 }
    }

    /// Whether so much more is taken at that time.
    pub(super) fn takes(&mut self, count: usize, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            (self.since, self.taken) = (Some(now), 0);
        }
        let is_taken = self.taken.saturating_add(count) <= self.most;
        if is_taken {
            self.taken += count;
        }
        is_taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_room_for_so_much() {
        let (mut rate, begin) = (Rate::new(10), Instant::now());
        assert!(rate.takes(6, begin) && !rate.takes(5, begin) && rate.takes(4, begin));
        assert!(!rate.takes(1, begin + Duration::from_millis(999)));
        assert!(rate.takes(10, begin + Duration::from_secs(1)) && !rate.takes(usize::MAX, begin));
    }
}
