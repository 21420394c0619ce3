//! Facts about processes that are read from the kernel at each call.

use std::fs;

use nix::unistd::Pid;

use crate::config::Environment;
use crate::node::NodeSource;

/// Our children, as the kernel lists them.
pub(super) fn children() -> Vec<Pid> {
    let list = fs::read_to_string(format!("/proc/self/task/{}/children", nix::unistd::gettid())).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}

/// Processes that the kernel has killed because memory ran out: on this machine, and in our control
/// group.
pub(super) fn memory_kills() -> u64 {
    NodeSource::new(Environment::new(), None).memory_kills()
}
