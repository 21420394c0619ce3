//! The limits of resources that runners get besides those that they set for themselves.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limits of the settings; None for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunnerLimits {
    /// The largest file that a runner may write, in bytes: a write beyond fails as on a full disk.
    pub file_bytes: Option<u64>,
    /// The address space of a runner, in bytes.
    pub address_space_bytes: Option<u64>,
}

/// Lifts this process from the limits of the daemon itself to the hard ones. It allocates nothing.
pub(super) fn lift() -> io::Result<()> {
    for resource in [Resource::Fsize, Resource::As] {
        let maximum = getrlimit(resource).maximum;
        setrlimit(resource, Rlimit { current: maximum, maximum })?;
    }
    Ok(())
}

impl RunnerLimits {
    /// Limits this process, and all that it starts, for good.
    pub(super) fn take(self) -> io::Result<()> {
        for (resource, most) in [(Resource::Fsize, self.file_bytes), (Resource::As, self.address_space_bytes)] {
            let Some(most) = most else { continue };
            // A lower one that is there stays.
            let most = getrlimit(resource).maximum.map_or(most, |before| before.min(most));
            setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
        }
        Ok(())
    }

    /// As arguments of a shim.
    pub(super) fn arguments(self) -> impl Iterator<Item = String> {
        let flags = [("--max-file-bytes", self.file_bytes), ("--max-address-space-bytes", self.address_space_bytes)];
        let given = flags.into_iter().filter_map(|(flag, most)| Some([flag.to_owned(), most?.to_string()]));
        given.flatten()
    }
}
