//! Tells those who wait for a copy whether it goes on, and where it is.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Beats whenever a copy gets on.
#[derive(Debug, Default)]
pub struct Pulse {
    beats: AtomicU64,
    at: Mutex<PathBuf>,
}

impl Pulse {
    /// How often it has beaten so far.
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// The file that is being copied.
    pub fn at(&self) -> PathBuf {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The copy has got to this file, or on in it.
    pub(super) fn beat(&self, at: &Path) {
        self.beats.fetch_add(1, Ordering::Relaxed);
        let mut known = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != at {
            at.clone_into(&mut known);
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
