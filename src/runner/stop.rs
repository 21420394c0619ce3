//! SIGTERM, the one thing that the daemon can say: it is blocked for all threads at the start, and asked for between steps.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Whether we were asked to end.
pub(crate) struct Stop {
    signals: SignalFd,
    asked: bool,
}

impl Stop {
    /// Call before any other thread exists: threads inherit the mask.
    pub(crate) fn new() -> nix::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGTERM);
        mask.add(Signal::SIGINT);
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { signals, asked: false })
    }

    /// Whether we were asked to end by now.
    pub(crate) fn is_asked(&mut self) -> bool {
        self.asked = self.asked || matches!(self.signals.read_signal(), Ok(Some(_)));
        self.asked
    }
}
