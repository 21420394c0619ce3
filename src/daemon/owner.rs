//! The owner of a state folder, and how root goes on as that user. The contents of the folder are
//! the owner's: links and names that the owner has planted there must not make root read, write or
//! give away files of others.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Uid, User, initgroups, setgroups, setresgid, setresuid};

/// Makes this process one of the folder's owner, for good, where root runs it and the folder is
/// another user's. Its files then need not be given to anybody. Called before any other thread
/// exists.
pub(super) fn become_owner_of(folder: &Path) -> io::Result<()> {
    let about = fs::metadata(folder)?;
    let (user, group) = (Uid::from_raw(about.uid()), Gid::from_raw(about.gid()));
    if !Uid::effective().is_root() || user.is_root() {
        return Ok(());
    }
    // The groups may be what lets the user read its data.
    match User::from_uid(user)? {
        Some(known) => initgroups(&CString::new(known.name)?, group)?,
        None => setgroups(&[group])?,
    }
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    Ok(())
}
