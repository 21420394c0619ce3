//! SIGTERM, the one thing that the daemon can say: it is blocked for all threads at the start, and
//! asked for between steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Whether we were asked to end. Copies share what they have heard.
#[derive(Clone)]
pub(crate) struct Stop {
    signals: Arc<SignalFd>,
    asked: Arc<AtomicBool>,
}

impl Stop {
    /// Call before any other thread exists: threads inherit the mask.
    pub(crate) fn new() -> nix::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGTERM);
        mask.add(Signal::SIGINT);
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { signals: Arc::new(signals), asked: Arc::default() })
    }

    /// Whether we were asked to end by now.
    pub(crate) fn is_asked(&self) -> bool {
        if matches!(self.signals.read_signal(), Ok(Some(_))) {
            self.asked.store(true, Ordering::Relaxed);
        }
        self.asked.load(Ordering::Relaxed)
    }
}
