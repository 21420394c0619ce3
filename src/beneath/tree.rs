//! Whole trees of folders that others have made: removed, and measured. They may be deeper than a
//! path can be long, have names in any bytes, and folders that their owner may not enter. No link
//! is followed, and few folders are open at a time.

use std::ffi::{CStr, CString};
use std::io;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, chmodat, fchmod, fstat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use super::{Folder, folder_of};

/// Folders below each other that are open at a time. Deeper ones are moved up before they are
/// removed, and are not measured.
const MOST_DEPTH: usize = 64;

/// Removes a folder with everything in it; a link in its place is removed as a link is.
///
/// # Errors
/// `NotFound` where it is not there; those of the system where a part of it stays.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| super::invalid(path))?;
    let parent = Folder::open(folder_of(path))?;
    match unlinkat(&parent.descriptor, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return Ok(other?),
    }
    let name = CString::new(name.as_encoded_bytes())?;
    let root = enter(&parent, &name)?;
    let mut work = Work::default();
    loop {
        let before = work.done;
        clear(&root, &root, 0, &mut work)?;
        match unlinkat(&parent.descriptor, &*name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY) if work.done > before => {}
            other => return Ok(other?),
        }
    }
}

/// How far a removal is.
#[derive(Default)]
struct Work {
    /// Names that were removed or moved: a pass without one would be followed by others.
    done: u64,
    /// Folders that were moved up.
    moved: u64,
}

/// Empties a folder, but for what was too deep: that lies in `root` then.
fn clear(folder: &Folder, root: &Folder, depth: usize, work: &mut Work) -> io::Result<()> {
    for entry in Dir::read_from(&folder.descriptor)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_own(name) {
            continue;
        }
        match unlinkat(&folder.descriptor, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {
                work.done += 1;
                continue;
            }
            // A folder; POSIX has the second one for that.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        if depth == MOST_DEPTH {
            enter(folder, name)?;
            loop {
                work.moved += 1;
                match renameat(&folder.descriptor, name, &root.descriptor, format!(".deep-{}", work.moved)) {
                    // Others may have names of their own there.
                    Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                    other => break other?,
                }
            }
            work.done += 1;
            continue;
        }
        loop {
            let before = work.done;
            clear(&enter(folder, name)?, root, depth + 1, work)?;
            match unlinkat(&folder.descriptor, name, AtFlags::REMOVEDIR) {
                // Some file systems lose their place in a folder from which something is removed.
                Err(Errno::NOTEMPTY) if work.done > before => {}
                Ok(()) | Err(Errno::NOENT) => break,
                Err(error) => return Err(error.into()),
            }
        }
        work.done += 1;
    }
    Ok(())
}

/// Opens a folder in another one, which becomes one that we may read and change.
fn enter(folder: &Folder, name: &CStr) -> io::Result<Folder> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let descriptor = match openat(&folder.descriptor, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            chmodat(&folder.descriptor, name, Mode::RWXU, AtFlags::empty())?;
            openat(&folder.descriptor, name, flags, Mode::empty())?
        }
        other => other?,
    };
    if !Mode::from_raw_mode(fstat(&descriptor)?.st_mode).contains(Mode::RWXU) {
        fchmod(&descriptor, Mode::RWXU)?;
    }
    Ok(Folder { descriptor })
}

/// Bytes that the files below a folder have on the disk, but for those of folders that are very
/// deep or that we may not enter. Files that go away meanwhile do not count; 0 where the folder is
/// not there.
pub fn bytes_below(path: &Path) -> io::Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(CWD, path, flags, Mode::empty()) {
        Ok(descriptor) => measure(&Folder { descriptor }, 0),
        Err(Errno::NOENT) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn measure(folder: &Folder, depth: usize) -> io::Result<u64> {
    let mut bytes: u64 = 0;
    for entry in Dir::read_from(&folder.descriptor)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_own(name) {
            continue;
        }
        let about = match statat(&folder.descriptor, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(about) => about,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        // A file with holes has less on the disk than it is long.
        let length = u64::try_from(about.st_size).unwrap_or(0);
        let on_disk = u64::try_from(about.st_blocks).unwrap_or(0).saturating_mul(512);
        bytes = bytes.saturating_add(match FileType::from_raw_mode(about.st_mode) {
            FileType::Directory if depth < MOST_DEPTH => below(folder, name, depth)?,
            FileType::Directory => 0,
            _ => length.min(on_disk),
        });
    }
    Ok(bytes)
}

fn below(folder: &Folder, name: &CStr, depth: usize) -> io::Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(&folder.descriptor, name, flags, Mode::empty()) {
        Ok(descriptor) => measure(&Folder { descriptor }, depth + 1),
        // It is gone, something else by now, or closed to us.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Whether a name is that of the folder itself, or of the one above it.
fn is_own(name: &CStr) -> bool {
    [c".", c".."].contains(&name)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::mkdirat;

    use super::*;

    /// Folders below each other, more than a path can name or a process can open.
    fn dig(place: &Path, depth: usize) {
        let mut at = Folder::open(place).unwrap();
        for _ in 0..depth {
            mkdirat(&at.descriptor, "d", Mode::RWXU).unwrap();
            at = at.folder("d").unwrap();
        }
    }

    #[test]
    fn a_tree_is_removed_however_it_was_made_and_nothing_outside() {
        let place = tempfile::tempdir().unwrap();
        let (tree, outside) = (place.path().join("tree"), place.path().join("outside"));
        for folder in [&tree, &outside] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("file"), "12345").unwrap();
        }
        symlink(&outside, tree.join("link")).unwrap();
        symlink(outside.join("file"), tree.join("file-link")).unwrap();
        fs::write(tree.join(OsStr::from_bytes(b"\xff\n")), "").unwrap();
        fs::create_dir(tree.join("closed")).unwrap();
        fs::write(tree.join("closed/file"), "").unwrap();
        fs::set_permissions(tree.join("closed"), fs::Permissions::from_mode(0o0)).unwrap();
        (0..5000).for_each(|number| fs::write(tree.join(number.to_string()), "").unwrap());
        fs::create_dir(tree.join(".deep-1")).unwrap();
        fs::write(tree.join(".deep-1/file"), "").unwrap();
        dig(&tree, 20_000);
        let links = fs::symlink_metadata(tree.join("link")).unwrap().len()
            + fs::symlink_metadata(tree.join("file-link")).unwrap().len();
        let bytes = bytes_below(&tree).unwrap();
        assert!((5..=5 + links).contains(&bytes), "{bytes}");
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "12345");
        assert_eq!(remove_tree(&tree).unwrap_err().kind(), io::ErrorKind::NotFound);
        symlink(&outside, &tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(outside.join("file").exists() && !tree.is_symlink());
    }

    #[test]
    fn files_count_wherever_they_lie_by_their_bytes_on_the_disk() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("a/b")).unwrap();
        fs::write(place.path().join("a/b/c"), "1234").unwrap();
        fs::write(place.path().join("d"), "56").unwrap();
        assert_eq!(bytes_below(place.path()).unwrap(), 6);
        fs::File::create(place.path().join("holes")).unwrap().set_len(1 << 40).unwrap();
        assert!(bytes_below(place.path()).unwrap() < 1 << 20);
        assert_eq!(bytes_below(&place.path().join("absent")).unwrap(), 0);
    }
}
