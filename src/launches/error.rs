//! Why an outpost is refused.

use std::io;

/// Why an outpost is refused.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The launch has fewer ranks.
    #[error("rank is {rank}; the launch has ranks 0 to {}", count - 1)]
    NoSuchRank {
        /// The rank that was named.
        rank: u32,
        /// How many there are.
        count: u32,
    },
    /// The engine started another number of ranks.
    #[error("world_size is {found}; the launch has {wanted} ranks")]
    WorldSize {
        /// As the engine says.
        found: u32,
        /// As the launch says.
        wanted: u32,
    },
    /// The outpost is another version.
    #[error("version is {found}; the daemon is torchd {wanted}, and both have to be the same")]
    Version {
        /// That of the outpost.
        found: String,
        /// Ours.
        wanted: &'static str,
    },
    /// Another outpost has the rank.
    #[error("rank {rank} has joined already, from {host}; an engine may start each rank once")]
    Taken {
        /// The rank.
        rank: u32,
        /// The host of the other outpost.
        host: String,
    },
    /// The rank has ended, or was given up.
    #[error("rank {0} of this attempt is over")]
    Over(u32),
    /// A name that no file of a rank has.
    #[error("{field} is {found:?}; {right} is right")]
    Name {
        /// The field.
        field: &'static str,
        /// The name that was found.
        found: String,
        /// The right names.
        right: &'static str,
    },
    /// Files did not come as they were told.
    #[error("{0}")]
    Damaged(String),
    /// A rank has written more than it may.
    #[error(
        "the journal of rank {rank} would have {found} bytes; {most} are the most: four times jobs.max_event_bytes, and 1 GiB at least; \
         raise jobs.max_event_bytes in the settings and resume the job"
    )]
    Full {
        /// The rank.
        rank: u32,
        /// The bytes that it would have.
        found: u64,
        /// The bytes that it may have.
        most: u64,
    },
    /// The job's folder refuses.
    #[error("the job's folder: {0}")]
    Folder(#[from] io::Error),
}
