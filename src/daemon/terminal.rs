//! The terminal that a daemon was started in: one that is closed sends SIGHUP, and so does whoever
//! wants certificates to be read again.

use std::fs::File;

/// The controlling terminal of a process, by the name that stands for it in every process.
const CONTROLLING: &str = "/dev/tty";

/// The terminal at the start.
pub(super) struct Terminal {
    was_there: bool,
}

impl Terminal {
    /// That of this process; systemd gives services none.
    pub(super) fn of_this_process() -> Self {
        Self { was_there: is_there() }
    }

    /// Whether it was there and is no more: the kernel takes it from every process when it is
    /// closed.
    pub(super) fn is_gone(&self) -> bool {
        self.was_there && !is_there()
    }
}

fn is_there() -> bool {
    File::open(CONTROLLING).is_ok()
}
