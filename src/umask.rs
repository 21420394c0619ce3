//! Whose the files are that this process makes: its own, and nobody else's, unless a file is opened to others by name of this module.
//!
//! The umask holds for the whole process and for what it starts, so that a new file in the state folder is private without anybody having
//! thought of it. Files outside of it are meant for others, and get what the umask allowed with which the process was started.

use std::os::fd::AsFd;
use std::sync::OnceLock;

use rustix::fs::{FileType, Mode, fchmod, fstat};
use rustix::process::umask;

/// Nobody but the owner.
const PRIVATE: u32 = 0o077;
/// The group may read, and nobody else anything.
const GROUP_READS: u32 = 0o027;

/// The umask with which the process was started.
static INHERITED: OnceLock<u32> = OnceLock::new();

/// From here on what is made belongs to the owner alone.
pub fn make_private() {
    let before = umask(Mode::from_raw_mode(PRIVATE));
    INHERITED.get_or_init(|| before.as_raw_mode());
}

/// Runs what starts a process whose files the group may read. The process has one thread: others would make files too.
pub fn where_group_reads<T>(start: impl FnOnce() -> T) -> T {
    let before = umask(Mode::from_raw_mode(GROUP_READS));
    let started = start();
    umask(before);
    started
}

/// Gives a file or a folder the mode that the umask of our start would have given it. Some file systems have no modes
/// and refuse: there is nothing to open then.
pub fn open_to_others(file: &impl AsFd) {
    if let (Some(umask), Ok(about)) = (INHERITED.get(), fstat(file)) {
        let most = if FileType::from_raw_mode(about.st_mode) == FileType::Directory { 0o777 } else { 0o666 };
        let _ = fchmod(file, Mode::from_raw_mode(most & !umask));
    }
}
