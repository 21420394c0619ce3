//! Tells those who wait for a copy whether it goes on, and where it is.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Beats whenever a copy gets on.
#[derive(Debug)]
pub struct Pulse {
    /// The folder of the copy.
    target: PathBuf,
    beats: AtomicU64,
    /// The file in hand, in that folder; empty before the first.
    at: Mutex<String>,
}

impl Pulse {
    /// The pulse of a copy to that folder, which has not begun.
    pub fn new(target: PathBuf) -> Self {
        Self { target, beats: AtomicU64::default(), at: Mutex::default() }
    }

    /// How often it has beaten so far.
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// The file in hand, or the folder of the copy before the first.
    pub fn at(&self) -> PathBuf {
        let at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        if at.is_empty() { self.target.clone() } else { self.target.join(&*at) }
    }

    /// The copy has got to this file, or on in it.
    pub(super) fn beat(&self, path: &str) {
        self.beats.fetch_add(1, Ordering::Relaxed);
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        if *at != path {
            path.clone_into(&mut at);
        }
    }

    /// Beats with each read.
    pub(super) fn reader<'a>(&'a self, from: impl Read + 'a) -> impl Read + 'a {
        Beating { from, pulse: self }
    }
}

struct Beating<'a, R> {
    from: R,
    pulse: &'a Pulse,
}

impl<R: Read> Read for Beating<'_, R> {
    fn read(&mut self, block: &mut [u8]) -> io::Result<usize> {
        self.pulse.beats.fetch_add(1, Ordering::Relaxed);
        self.from.read(block)
    }
}
