//! Counts failed authentication by origin, and bounds its cost.
//!
//! A right token is never held up: it is cheap to check, and users behind one address must not lock
//! each other out. A password costs more, and is not checked after many wrong ones.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::origin::Origin;

/// Failures of one origin within `WINDOW` that are told one by one; as many wrong passwords are
/// checked.
const MOST: u32 = 20;
/// The time after which failures are forgotten.
const WINDOW: Duration = Duration::from_secs(60);
/// Failures of strangers within `WINDOW`, of all origins together, that are told: a flood from many
/// networks must not push everything else out of the audit.
const MOST_OF_STRANGERS: u32 = 600;
/// Origins that are remembered.
const MOST_ORIGINS: usize = 4096;

/// A kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The caller is known, and may not do this.
    OfKnown,
    /// The caller is not known.
    OfStranger,
    /// A password was checked, and is wrong.
    WrongPassword,
}

/// A number of events since a time.
#[derive(Debug, Clone, Copy)]
struct Count {
    begun: Instant,
    number: u32,
}

impl Count {
    fn new(begun: Instant) -> Self {
        Self { begun, number: 0 }
    }

    /// The number, with this event. It begins again with the window.
    fn add(&mut self, now: Instant) -> u32 {
        if now.duration_since(self.begun) >= WINDOW {
            *self = Self::new(now);
        }
        self.number = self.number.saturating_add(1);
        self.number
    }

    fn are_many(&self, now: Instant) -> bool {
        now.duration_since(self.begun) < WINDOW && self.number >= MOST
    }
}

/// The failures of an origin.
#[derive(Debug)]
struct Failed {
    all: Count,
    passwords: Count,
}

/// The treatment of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// It is told.
    Told,
    /// It is told as the last one from there within a minute.
    LastFromThere,
    /// It is told as the last one of a stranger within a minute.
    LastOfStrangers,
    /// There were too many before.
    Counted,
}

/// The failures of all origins.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    of: HashMap<Origin, Failed>,
    strangers: Option<Count>,
}

impl Failures {
    /// Whether so many passwords were wrong that none is checked for this caller.
    pub(super) fn are_many(&self, connection: &Connection) -> bool {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = counts.of.get(&Origin::of(connection));
        failed.is_some_and(|failed| failed.passwords.are_many(Instant::now()))
    }

    /// Notes another one.
    pub(super) fn note(&self, connection: &Connection, failure: Failure) -> Noted {
        self.note_at(Origin::of(connection), failure, Instant::now())
    }

    fn note_at(&self, origin: Origin, failure: Failure, now: Instant) -> Noted {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = counts.of(origin, now);
        if failure == Failure::WrongPassword {
            failed.passwords.add(now);
        }
        let noted = match failed.all.add(now) {
            ..=MOST => Noted::Told,
            number if number == MOST + 1 => Noted::LastFromThere,
            _ => Noted::Counted,
        };
        if noted == Noted::Counted || failure == Failure::OfKnown {
            return noted;
        }
        match counts.strangers.get_or_insert(Count::new(now)).add(now) {
            ..=MOST_OF_STRANGERS => noted,
            number if number == MOST_OF_STRANGERS + 1 => Noted::LastOfStrangers,
            _ => Noted::Counted,
        }
    }
}

impl Counts {
    fn of(&mut self, origin: Origin, now: Instant) -> &mut Failed {
        if self.of.len() >= MOST_ORIGINS && !self.of.contains_key(&origin) {
            self.of.retain(|_, failed| now.duration_since(failed.all.begun) < WINDOW);
            // A flood from more places than that within a minute: the oldest are forgotten.
            if self.of.len() >= MOST_ORIGINS
                && let Some(oldest) =
                    self.of.iter().min_by_key(|(_, failed)| failed.all.begun).map(|(origin, _)| *origin)
            {
                self.of.remove(&oldest);
            }
        }
        self.of.entry(origin).or_insert_with(|| Failed { all: Count::new(now), passwords: Count::new(now) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_failures_are_told_as_one_and_forgotten_after_a_minute() {
        let (failures, now) = (Failures::default(), Instant::now());
        let origin = Origin::V4([10, 0, 0, 7]);
        let note = |origin, now| failures.note_at(origin, Failure::OfKnown, now);
        let noted: Vec<_> = (0..MOST + 3).map(|_| note(origin, now)).collect();
        assert!(noted[..MOST as usize].iter().all(|noted| *noted == Noted::Told));
        assert_eq!(noted[MOST as usize..], [Noted::LastFromThere, Noted::Counted, Noted::Counted]);
        assert_eq!(note(Origin::V4([10, 0, 0, 8]), now), Noted::Told);
        assert_eq!(note(origin, now + WINDOW), Noted::Told);
    }

    #[test]
    fn strangers_of_many_origins_are_told_as_one_and_hide_no_failure_of_a_known_caller() {
        let (failures, now) = (Failures::default(), Instant::now());
        let strange = |number: u32, now| failures.note_at(Origin::V4(number.to_be_bytes()), Failure::OfStranger, now);
        let noted: Vec<_> = (0..MOST_OF_STRANGERS + 3).map(|number| strange(number, now)).collect();
        assert!(noted[..MOST_OF_STRANGERS as usize].iter().all(|noted| *noted == Noted::Told));
        assert_eq!(noted[MOST_OF_STRANGERS as usize..], [Noted::LastOfStrangers, Noted::Counted, Noted::Counted]);
        assert_eq!(failures.note_at(Origin::User(7), Failure::OfKnown, now), Noted::Told);
        assert_eq!(strange(1_000_000, now + WINDOW), Noted::Told);
    }

    #[test]
    fn wrong_passwords_alone_keep_passwords_from_being_checked() {
        let failures = Failures::default();
        let connection = Connection::Tls { from: "10.0.0.7:1".parse().unwrap(), certificate: None };
        (0..10 * MOST).for_each(|_| _ = failures.note(&connection, Failure::OfStranger));
        assert!(!failures.are_many(&connection));
        (0..MOST).for_each(|_| _ = failures.note(&connection, Failure::WrongPassword));
        assert!(failures.are_many(&connection));
    }

    #[test]
    fn more_origins_than_are_remembered_take_no_more_memory() {
        let (failures, now) = (Failures::default(), Instant::now());
        for number in 0..2 * MOST_ORIGINS as u32 {
            let time = now + Duration::from_micros(number.into());
            failures.note_at(Origin::User(number), Failure::OfStranger, time);
        }
        assert_eq!(failures.0.lock().unwrap().of.len(), MOST_ORIGINS);
    }
}
