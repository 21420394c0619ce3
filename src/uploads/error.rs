//! Why something about uploads was refused, or could not be done.

use std::io;

use super::name::Name;

/// Why something about uploads was refused, or could not be done.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The owner has nothing of that name.
    #[error("there is no uploaded file {name:?}; torchctl files, or ListFiles, tells which there are", name = .0.as_str())]
    Unknown(Name),
    /// The name is taken.
    #[error("{name:?} is there already; `overwrite` replaces it", name = .0.as_str())]
    Exists(Name),
    /// Another call sends a file of that name.
    #[error("{name:?} is being uploaded by another call", name = .0.as_str())]
    Active(Name),
    /// The owner has as many calls in hand as an owner may have.
    #[error("{0} uploads of this owner are under way, and there can be no more at once")]
    TooManyAtOnce(usize),
    /// A folder has the name, or a file the name of a folder on the way to it.
    #[error("{name:?} cannot name a file: {found}", name = .name.as_str())]
    NotAFile {
        /// The name.
        name: Name,
        /// Bytes that are there.
        found: &'static str,
    },
    /// The owner would have more bytes than one may have.
    #[error(
        "{needed} bytes do not fit beside {used} that this owner has, with what is on its way; at most {quota} are \
         allowed (uploads.quota_bytes)"
    )]
    Quota {
        /// Bytes of the file.
        needed: u64,
        /// Bytes of all files and all that are on their way.
        used: u64,
        /// The most bytes.
        quota: u64,
    },
    /// The owner would have more files than one may have.
    #[error("this owner has {0} files, with what is on its way, and may have no more (uploads.max_files)")]
    TooManyFiles(usize),
    /// The disk has no room.
    #[error("{needed} bytes do not fit on the disk of the uploads, which has {left} left for them")]
    NoRoom {
        /// Bytes that are still to come.
        needed: u64,
        /// Bytes that are free and not for other uploads.
        left: u64,
    },
    /// The disk became full.
    #[error("the disk of the uploads is full: {0}")]
    DiskFull(io::Error),
    /// The call begins behind the bytes that are there.
    #[error("offset_bytes is {offset}, and {received} bytes of {name:?} are there", name = .name.as_str())]
    BehindTheEnd {
        /// The name.
        name: Name,
        /// The first byte that the call sends.
        offset: u64,
        /// Bytes that are there.
        received: u64,
    },
    /// The call goes on with the upload of another file.
    #[error(
        "the partial upload of {name:?} is that of another file, of {size_bytes} bytes with the checksum {sha256}; \
         an offset of 0 begins anew", name = .name.as_str()
    )]
    OtherFile {
        /// The name.
        name: Name,
        /// Bytes of that file.
        size_bytes: u64,
        /// Its checksum.
        sha256: String,
    },
    /// The call sends more than it has told.
    #[error("data goes on behind the {0} bytes that size_bytes told")]
    TooLong(u64),
    /// The bytes are not those that were meant.
    #[error(
        "{name:?} did not arrive as it was sent: its checksum is {found} instead of {told}; what arrived is removed",
        name = .name.as_str()
    )]
    WrongChecksum {
        /// The name.
        name: Name,
        /// The checksum of what has arrived.
        found: String,
        /// The checksum that the client has told.
        told: String,
    },
    /// The state folder cannot be read or written.
    #[error("the folder of uploads cannot be used: {0}")]
    Io(#[source] io::Error),
}

impl From<io::Error> for UploadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull(error),
            _ => Self::Io(error),
        }
    }
}
