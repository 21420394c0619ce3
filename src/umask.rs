//! Makes the files of this process private by its umask, and opens single files to others.
//!
//! The umask holds for the process and its children, so that every new file in the state folder is
//! private by default. Files outside the state folder are meant for others, and get the modes that
//! the inherited umask allows.

use std::os::fd::AsFd;
use std::sync::OnceLock;

use rustix::fs::{FileType, Mode, fchmod, fstat};
use rustix::process::umask;

/// Only the owner has access.
const PRIVATE: u32 = 0o077;
/// The group may read; others have no access.
const GROUP_READS: u32 = 0o027;

/// The umask with which the process was started.
static INHERITED: OnceLock<u32> = OnceLock::new();

/// Makes all files private that are made from now on.
pub fn make_private() {
    let before = umask(Mode::from_raw_mode(PRIVATE));
    INHERITED.get_or_init(|| before.as_raw_mode());
}

/// Starts a child whose files the group may read. Only for a process with one thread: the umask is
/// changed for all of them meanwhile.
pub fn where_group_reads<T>(start: impl FnOnce() -> T) -> T {
    let before = umask(Mode::from_raw_mode(GROUP_READS));
    let started = start();
    umask(before);
    started
}

/// Lets the group read and write a file or a folder, whose entries get its group. Some file systems
/// have no modes and refuse.
pub fn open_to_group(file: &impl AsFd) {
    if let Ok(about) = fstat(file) {
        let is_folder = FileType::from_raw_mode(about.st_mode) == FileType::Directory;
        let _ = fchmod(file, Mode::from_raw_mode(if is_folder { 0o2770 } else { 0o660 }));
    }
}

/// Gives a file or a folder the mode that the umask of our start would have given it. Some file
/// systems have no modes and refuse: there is nothing to open then.
pub fn open_to_others(file: &impl AsFd) {
    if let (Some(umask), Ok(about)) = (INHERITED.get(), fstat(file)) {
        let is_folder = FileType::from_raw_mode(about.st_mode) == FileType::Directory;
        let most = if is_folder { 0o777 } else { 0o666 };
        // A folder that was made in one that hands its group on does so too, and is for that group.
        let hands_on = is_folder && about.st_mode & 0o2000 != 0;
        let kept = if hands_on { 0o2070 } else { 0 };
        let _ = fchmod(file, Mode::from_raw_mode(most & !umask | kept));
    }
}
