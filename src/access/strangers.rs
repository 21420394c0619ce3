//! Strangers: connections over which no known caller has called yet. They are bounded in number, by
//! origin and together. Where there are too many, the oldest is closed, of the origin that has the
//! most of them: a client with credentials shows these with its first call, and is no stranger from
//! then on.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, getrlimit};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::connection::Connection;
use super::origin::Origin;

/// Strangers of all origins, where there are enough descriptors; half of them may be of one origin.
/// One takes some 17 kB without TLS.
const MOST: usize = 2048;

/// The strangers of all doors; cheap to clone.
#[derive(Debug, Clone)]
pub struct Strangers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    present: Mutex<Present>,
}

#[derive(Debug, Default)]
struct Present {
    next: u64,
    /// In the order of their coming.
    all: BTreeMap<u64, (Origin, CancellationToken)>,
    of: HashMap<Origin, usize>,
}

/// A connection's place among the strangers, which it leaves with this.
#[derive(Debug)]
pub struct Guest {
    standing: Standing,
    end: CancellationToken,
}

/// Whether the caller of a connection is known; cheap to clone.
#[derive(Debug, Clone)]
struct Standing(Arc<Place>);

#[derive(Debug)]
struct Place {
    strangers: Strangers,
    number: u64,
    is_known: AtomicBool,
}

/// A connection, as calls over it see it; cheap to clone.
#[derive(Debug, Clone)]
pub struct Visit {
    /// Its other end.
    pub connection: Connection,
    standing: Standing,
}

impl Strangers {
    /// Nobody yet. They get at most half of the descriptors that this process may open.
    pub fn new() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.and_then(|most| usize::try_from(most).ok());
        Self::at_most(descriptors.map_or(MOST, |most| (most / 2).clamp(2, MOST)))
    }

    fn at_most(most: usize) -> Self {
        Self(Arc::new(Shared { most, present: Mutex::default() }))
    }

    /// A connection has come. Another one may have to go.
    pub fn enter(&self, connection: &Connection) -> Guest {
        let (origin, end) = (Origin::of(connection), CancellationToken::new());
        let mut present = self.present();
        let of_origin = present.of.get(&origin).copied().unwrap_or(0);
        // A crowd of that size, of this origin or of any, has to make room.
        let crowd = match of_origin >= self.0.most / 2 {
            true => Some((of_origin, Some(origin))),
            false if present.all.len() >= self.0.most => present.of.values().max().map(|most| (*most, None)),
            false => None,
        };
        if let Some((size, from)) = crowd
            && let Some(oldest) = present.oldest(size, from)
            && let Some(gone) = present.leave(oldest)
        {
            gone.cancel();
        }
        let number = present.next;
        present.next += 1;
        present.all.insert(number, (origin, end.clone()));
        *present.of.entry(origin).or_default() += 1;
        let place = Place { strangers: self.clone(), number, is_known: AtomicBool::new(false) };
        Guest { standing: Standing(Arc::new(place)), end }
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.0.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Strangers {
    fn default() -> Self {
        Self::new()
    }
}

impl Present {
    /// The oldest one of an origin with so many; of that origin, if one is given.
    fn oldest(&self, size: usize, from: Option<Origin>) -> Option<u64> {
        let is_it = |origin: &Origin| from.is_none_or(|from| from == *origin) && self.of.get(origin) == Some(&size);
        self.all.iter().find(|(_, (origin, _))| is_it(origin)).map(|(number, _)| *number)
    }

    /// The end of the one that leaves; None where it has left.
    fn leave(&mut self, number: u64) -> Option<CancellationToken> {
        let (origin, end) = self.all.remove(&number)?;
        if let Some(left) = self.of.get_mut(&origin) {
            *left -= 1;
            if *left == 0 {
                self.of.remove(&origin);
            }
        }
        Some(end)
    }
}

impl Standing {
    fn leave(&self) {
        self.0.strangers.present().leave(self.0.number);
    }
}

impl Guest {
    /// The connection, as calls over it see it.
    pub fn visit(&self, connection: Connection) -> Visit {
        Visit { connection, standing: self.standing.clone() }
    }

    /// There when the connection has to be closed.
    pub fn end(&self) -> WaitForCancellationFutureOwned {
        self.end.clone().cancelled_owned()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.standing.leave();
    }
}

impl Visit {
    /// Takes note that the caller is known.
    pub fn note_caller(&self) {
        if !self.standing.0.is_known.swap(true, Ordering::Relaxed) {
            self.standing.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: [u8; 4], port: u16) -> Connection {
        Connection::Tls { from: (address, port).into(), certificate: None }
    }

    fn is_closed(guest: &Guest) -> bool {
        guest.end.is_cancelled()
    }

    #[test]
    fn the_oldest_stranger_of_the_largest_crowd_goes_and_known_callers_stay() {
        let strangers = Strangers::at_most(8);
        let (crowd, other) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let known = from(crowd, 1);
        let known = (strangers.enter(&known), known);
        known.0.visit(known.1.clone()).note_caller();
        let quiet = strangers.enter(&from(other, 1));
        let of_crowd: Vec<_> = (2..8).map(|port| strangers.enter(&from(crowd, port))).collect();
        // Half of them may be of one origin.
        assert_eq!(of_crowd.iter().map(is_closed).collect::<Vec<_>>(), [true, true, false, false, false, false]);
        let others: Vec<_> = (1..5).map(|last| strangers.enter(&from([10, 0, 1, last], 1))).collect();
        assert_eq!(of_crowd.iter().filter(|guest| is_closed(guest)).count(), 3, "one more made room for the ninth");
        assert!(!is_closed(&known.0) && !is_closed(&quiet) && !others.iter().any(is_closed));
    }

    #[test]
    fn who_leaves_makes_room() {
        let strangers = Strangers::at_most(4);
        for port in 0..100 {
            let one = strangers.enter(&from([10, 0, 0, 1], port));
            one.visit(from([10, 0, 0, 1], port)).note_caller();
            let other = strangers.enter(&from([10, 0, 0, 1], port));
            assert!(!is_closed(&one) && !is_closed(&other));
        }
        let present = strangers.present();
        assert!(present.all.is_empty() && present.of.is_empty());
    }
}
