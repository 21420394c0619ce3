//! Makes the files of this process private by its umask, and opens single files to others.
//!
//! The umask holds for the process and its children, so that every new file in the state folder is
//! private by default. Files outside the state folder are meant for others, and get the modes that
//! the inherited umask allows.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::Mode;
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

/// Gives a file or a folder the mode that the inherited umask allows. File systems without modes
/// refuse that, which is fine: every user can read them anyway.
pub fn open_to_others(file: &File) {
    if let (Some(umask), Ok(about)) = (INHERITED.get(), file.metadata()) {
        let most = if about.is_dir() { 0o777 } else { 0o666 };
        let _ = file.set_permissions(Permissions::from_mode(most & !umask));
    }
}

/// Makes a folder for others, with its missing parents.
pub fn make_folder_for_others(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => open_to_others(&File::open(path)?),
        Err(_) if path.is_dir() => {}
        Err(error) => match path.parent().filter(|_| error.kind() == io::ErrorKind::NotFound) {
            Some(parent) => {
                make_folder_for_others(parent)?;
                return make_folder_for_others(path);
            }
            None => return Err(error),
        },
    }
    Ok(())
}
