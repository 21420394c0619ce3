//! The resource limits of the process. The daemon raises its limit of descriptors to the hard
//! limit: the usual 1024 is meant for programs that use select(2), and each watcher and runner
//! costs the daemon some. Runners keep the usual limit. Neither the daemon nor its children write
//! core files: their memory holds data and tokens.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Settings;

/// Raises the limit of descriptors to the hard limit. Returns the soft limit from before, if there
/// was one.
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

/// Forbids core dumps, here and in all that we start.
pub(super) fn forbid_core_dumps() {
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "core dumps cannot be forbidden");
    }
}

/// Keeps this process to the limits of the settings, and the parents of runners with it. The hard
/// limits stay: runners and programs are lifted to these.
pub(super) fn limit_ourselves(settings: &Settings) {
    let limits = [
        (Resource::Fsize, "daemon.max_file_bytes", settings.daemon_max_file_bytes),
        (Resource::As, "daemon.max_address_space_bytes", settings.daemon_max_address_space_bytes),
    ];
    for (resource, key, most) in limits {
        let Some(most) = most else { continue };
        let maximum = getrlimit(resource).maximum;
        let current = maximum.map_or(most, |hard| hard.min(most));
        if let Err(error) = setrlimit(resource, Rlimit { current: Some(current), maximum }) {
            tracing::warn!(%error, key, most, "torchd cannot be kept to this limit");
        }
    }
}

/// Warns of a limit of the address space. Runners inherit it, and few failures name it as their
/// cause.
pub(super) fn tell_address_space() {
    if let Some(limit) = getrlimit(Resource::As).current {
        tracing::warn!(
            limit,
            "the address space of torchd and of its runners is limited to {limit} bytes (LimitAS= in a unit, `ulimit -v` in a shell); libtorch \
             maps several gigabytes, and what exceeds the limit fails for want of memory"
        );
    }
}
