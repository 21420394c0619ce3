//! Counts failed authentication by origin, and bounds its cost.
//!
//! A right token is never held up: it is cheap to check, and users behind one address must not lock
//! each other out. A password costs more, and is not checked after many failures.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::connection::Connection;

/// Failures of one origin within `WINDOW` that are told one by one.
const MOST: u32 = 20;
/// The time after which an origin's failures are forgotten.
const WINDOW: Duration = Duration::from_secs(60);
/// Origins that are remembered.
const MOST_ORIGINS: usize = 4096;

/// Where a caller comes from. A whole network of IPv6 is one: a caller has one for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Origin {
    User(u32),
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Origin {
    fn of(connection: &Connection) -> Self {
        match connection {
            Connection::Unix(peer) => Self::User(peer.uid),
            Connection::Plain { from, .. } | Connection::Tls { from, .. } => match from.ip().to_canonical() {
                IpAddr::V4(address) => Self::V4(address.octets()),
                IpAddr::V6(address) => {
                    let mut network = [0; 8];
                    network.copy_from_slice(&address.octets()[..8]);
                    Self::V6(network)
                }
            },
        }
    }
}

/// The failures of a minute.
#[derive(Debug)]
struct Count {
    begun: Instant,
    failures: u32,
}

/// The treatment of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// It is told.
    Told,
    /// It is the first of too many: they are told as one.
    First,
    /// There were too many before.
    Counted,
}

/// The failures of all origins.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<HashMap<Origin, Count>>);

impl Failures {
    /// Whether there were so many that nothing expensive is done for this caller.
    pub(super) fn are_many(&self, connection: &Connection) -> bool {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&Origin::of(connection));
        count.is_some_and(|count| count.begun.elapsed() < WINDOW && count.failures >= MOST)
    }

    /// Notes another one.
    pub(super) fn note(&self, connection: &Connection) -> Noted {
        self.note_at(Origin::of(connection), Instant::now())
    }

    fn note_at(&self, origin: Origin, now: Instant) -> Noted {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= MOST_ORIGINS && !counts.contains_key(&origin) {
            counts.retain(|_, count| now.duration_since(count.begun) < WINDOW);
            // A flood from more places than that within a minute: the oldest are forgotten.
            if counts.len() >= MOST_ORIGINS
                && let Some(oldest) = counts.iter().min_by_key(|(_, count)| count.begun).map(|(origin, _)| *origin)
            {
                counts.remove(&oldest);
            }
        }
        let count = counts.entry(origin).or_insert(Count { begun: now, failures: 0 });
        if now.duration_since(count.begun) >= WINDOW {
            *count = Count { begun: now, failures: 0 };
        }
        count.failures = count.failures.saturating_add(1);
        match count.failures {
            ..=MOST => Noted::Told,
            failures if failures == MOST + 1 => Noted::First,
            _ => Noted::Counted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_failures_are_told_as_one_and_forgotten_after_a_minute() {
        let (failures, now) = (Failures::default(), Instant::now());
        let origin = Origin::V4([10, 0, 0, 7]);
        let noted: Vec<_> = (0..MOST + 3).map(|_| failures.note_at(origin, now)).collect();
        assert!(noted[..MOST as usize].iter().all(|noted| *noted == Noted::Told));
        assert_eq!(noted[MOST as usize..], [Noted::First, Noted::Counted, Noted::Counted]);
        assert_eq!(failures.note_at(Origin::V4([10, 0, 0, 8]), now), Noted::Told);
        assert_eq!(failures.note_at(origin, now + WINDOW), Noted::Told);
    }

    #[test]
    fn more_origins_than_are_remembered_take_no_more_memory() {
        let (failures, now) = (Failures::default(), Instant::now());
        for number in 0..2 * MOST_ORIGINS as u32 {
            failures.note_at(Origin::User(number), now + Duration::from_micros(number.into()));
        }
        assert_eq!(failures.0.lock().unwrap().len(), MOST_ORIGINS);
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_are_one_origin_and_mapped_ones_are_those_of_ipv4() {
        let origin = |from: &str| Origin::of(&Connection::Tls { from: from.parse().unwrap(), certificate: None });
        assert_eq!(origin("[2001:db8:0:1::1]:1"), origin("[2001:db8:0:1::2]:2"));
        assert_ne!(origin("[2001:db8:0:1::1]:1"), origin("[2001:db8:0:2::1]:1"));
        assert_eq!(origin("[::ffff:10.0.0.7]:1"), origin("10.0.0.7:9"));
    }
}
