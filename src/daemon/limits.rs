//! The limits of the process. Of descriptors the daemon may have as many as the machine allows: the usual limit, 1024, is one for programs that
//! use select(2), which the daemon does not; each watcher and each runner costs it some. What a runner does is its own business, so it gets
//! the usual limit.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises our limit to what is allowed; the one that there was before, where there was one.
pub(super) fn raise_open_files() -> Option<u64> {
    let before = getrlimit(Resource::Nofile);
    let shown = |limit: Option<u64>| limit.map_or("none".to_owned(), |limit| limit.to_string());
    match setrlimit(Resource::Nofile, Rlimit { current: before.maximum, maximum: before.maximum }) {
        Ok(()) => {
            let (before, now) = (shown(before.current), shown(before.maximum));
            tracing::debug!(before, now, "the limit of open descriptors is raised");
        }
        Err(error) => tracing::debug!(%error, limit = shown(before.current), "the limit of open descriptors stays"),
    }
    before.current
}

/// Tells of a limit of the address space, which runners inherit: what fails for it seldom says so.
pub(super) fn tell_address_space() {
    if let Some(limit) = getrlimit(Resource::As).current {
        tracing::warn!(
            limit,
            "the address space of torchd and of its runners is limited to {limit} bytes (LimitAS= in a unit, `ulimit -v` in a shell); libtorch \
             maps several gigabytes, and what exceeds the limit fails for want of memory"
        );
    }
}
