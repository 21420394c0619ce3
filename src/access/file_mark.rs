//! The state of a file, by which a change of it is seen.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A state of a file. One that is put in its place has another inode, however alike it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMark {
    /// Seconds and nanoseconds of its last change.
    changed: (i64, i64),
    bytes: u64,
    inode: u64,
}

impl FileMark {
    /// The state now; None for no file.
    pub fn of(path: &Path) -> Option<Self> {
        let about = fs::metadata(path).ok()?;
        Some(Self { changed: (about.ctime(), about.ctime_nsec()), bytes: about.len(), inode: about.ino() })
    }
}
