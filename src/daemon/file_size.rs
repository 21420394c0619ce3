//! The behaviour when a file reaches the limit on the size of files (`ulimit -f`): the write fails
//! with EFBIG, as on a full disk, and the writer carries on. By default a signal ends the program.

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};

/// Ignores SIGXFSZ from now on, here and in what we start.
pub(super) fn outlive_limit() -> Result<(), Errno> {
    // SAFETY: no handler of ours is installed that could run anything, and none was there before.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.map(drop)
}
