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
    heard: Arc<AtomicBool>,
    /// Whether all ranks have agreed to end; None where this process is alone.
    agreed: Option<Arc<AtomicBool>>,
}

impl Stop {
    /// Call before any other thread exists: threads inherit the mask.
    pub(crate) fn new() -> nix::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGTERM);
        mask.add(Signal::SIGINT);
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { signals: Arc::new(signals), heard: Arc::default(), agreed: None })
    }

    /// The same for one of several ranks, which end together.
    pub(crate) fn shared(&self) -> Self {
        Self { agreed: Some(Arc::default()), ..self.clone() }
    }

    /// Whether this process was asked to end by now.
    pub(crate) fn is_heard(&self) -> bool {
        if matches!(self.signals.read_signal(), Ok(Some(_))) {
            self.heard.store(true, Ordering::Relaxed);
        }
        self.heard.load(Ordering::Relaxed)
    }

    /// Whether we are to end now: of several ranks all are, in the same step.
    pub(crate) fn is_asked(&self) -> bool {
        self.agreed.as_ref().map_or_else(|| self.is_heard(), |agreed| agreed.load(Ordering::Relaxed))
    }

    /// All ranks have heard that one was asked to end.
    pub(crate) fn agree(&self) {
        self.agreed.iter().for_each(|agreed| agreed.store(true, Ordering::Relaxed));
    }
}
