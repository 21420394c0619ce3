//! A folder that is open, and everything beneath it: names are resolved by the kernel from the
//! folder's descriptor, and no name leads out of it.
//!
//! A path that is judged and then opened by name can be swapped between the two. Here a file is
//! opened once, judged by its descriptor, and used by that descriptor. Links are not followed,
//! pipes and devices are never waited for. This module must not decide which folders may be read:
//! its callers do.

mod listing;
mod tree;
mod ways;

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

pub use listing::Entry;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2};
use rustix::io::Errno;
pub use tree::{bytes_below, remove_tree};
pub use ways::{Around, Astray, Led, lead, normal};

/// Neither a link nor a way up, and no jump of /proc.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// The folder that holds the file of a path: the working directory for a bare name. `Path::parent`
/// returns "" for that one, which no system call accepts.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A folder that is open.
#[derive(Debug)]
pub struct Folder {
    descriptor: OwnedFd,
}

/// Device and inode: the same for as long as a file exists, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The file system.
    pub device: u64,
    /// The file in it.
    pub inode: u64,
}

/// The name in messages of a file that is none of regular file, folder and link.
const OTHER_KIND: &str = "a pipe, socket or device";

/// Why something was not opened: it is no regular file. Its `io::Error` is of the kind
/// `InvalidInput`.
#[derive(Debug, thiserror::Error)]
#[error("{} is {found}, and a file is needed", path.display())]
pub struct NotAFile {
    /// The path that was asked for.
    path: PathBuf,
    /// Its actual kind.
    pub found: &'static str,
}

impl NotAFile {
    fn error(path: &Path, found: &'static str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidInput, Self { path: path.to_owned(), found })
    }

    /// This refusal, where an error is one.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl Folder {
    /// Opens a folder by its path. Links on the way are followed: the path is the operator's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { descriptor: openat(CWD, path, flags, Mode::empty())? })
    }

    /// Which folder this is.
    pub fn identity(&self) -> io::Result<Identity> {
        let stat = fstat(&self.descriptor)?;
        Ok(Identity { device: stat.st_dev, inode: stat.st_ino })
    }

    /// Its group.
    pub fn group(&self) -> io::Result<u32> {
        Ok(fstat(&self.descriptor)?.st_gid)
    }

    /// Whether new entries get its group: it has the setgid bit.
    pub fn hands_group_on(&self) -> io::Result<bool> {
        Ok(Mode::from_raw_mode(fstat(&self.descriptor)?.st_mode).contains(Mode::SGID))
    }

    /// Opens a folder beneath this one.
    ///
    /// # Errors
    /// `NotADirectory` where it or a part of the way is a link or a file, `InvalidInput` for a path
    /// that is absolute or has "..".
    pub fn folder(&self, path: impl AsRef<Path>) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { descriptor: self.open_beneath(path.as_ref(), flags, Mode::empty())? })
    }

    /// Opens a folder beneath this one, and makes what is missing of the way.
    pub fn make_folder(&self, path: impl AsRef<Path>) -> io::Result<Self> {
        self.make_folder_and(path, |_| ())
    }

    /// The same; `made` is called with each folder that was missing.
    pub fn make_folder_and(&self, path: impl AsRef<Path>, made: impl Fn(&Self)) -> io::Result<Self> {
        let mut at = Self { descriptor: self.descriptor.try_clone()? };
        for part in parts(path.as_ref())? {
            at = match at.folder(part) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match mkdirat(&at.descriptor, part, Mode::from_raw_mode(0o777)) {
                        Ok(()) => {
                            let new = at.folder(part)?;
                            made(&new);
                            new
                        }
                        Err(Errno::EXIST) => at.folder(part)?,
                        Err(error) => return Err(error.into()),
                    }
                }
                other => other?,
            };
        }
        Ok(at)
    }

    /// Opens a regular file for reading. Never waits for a pipe or a device.
    ///
    /// # Errors
    /// [`NotAFile`] where it is no regular file, `NotADirectory` where it or a part of the way is a
    /// link.
    pub fn file(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(self.open_beneath(path.as_ref(), flags, Mode::empty())?);
        regular(&file, path.as_ref())?;
        Ok(file)
    }

    /// Makes a file for writing that is not there yet, with what of `mode` the umask leaves.
    pub fn create_new(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        Ok(File::from(self.open_beneath(path.as_ref(), flags, Mode::from_raw_mode(mode))?))
    }

    /// The same for writing alone: some file systems that store whole objects take no file that is
    /// read and written at once.
    pub fn write_new(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        Ok(File::from(self.open_beneath(path.as_ref(), flags, Mode::from_raw_mode(mode))?))
    }

    /// Opens a regular file for reading and writing, as it is.
    ///
    /// # Errors
    /// Those of [`Self::file`].
    pub fn update(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(self.open_beneath(path.as_ref(), flags, Mode::empty())?);
        regular(&file, path.as_ref())?;
        Ok(file)
    }

    /// Opens a regular file for writing and empties it, or makes it. A link or a second name (hard
    /// link) of a file is refused: what it leads to may be anybody's.
    pub fn overwrite(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<File> {
        let path = path.as_ref();
        // Not for reading, as `write_new`.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(self.open_beneath(path, flags, Mode::from_raw_mode(mode))?);
        let about = regular(&file, path)?;
        if about.nlink() > 1 {
            let what = format!("{} is a hard link, and what it is linked to is not ours to write", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        if about.len() > 0 {
            file.set_len(0)?;
        }
        Ok(file)
    }

    /// Bytes that the disk of this folder has left.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let disk = rustix::fs::fstatvfs(&self.descriptor)?;
        // Some file systems do not tell.
        Ok(if disk.f_blocks == 0 { u64::MAX } else { disk.f_bavail.saturating_mul(disk.f_frsize) })
    }

    /// The size of the file with this name in this folder; of a link, that of the link.
    pub fn size(&self, name: &str) -> io::Result<u64> {
        let stat = rustix::fs::statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    /// Removes a file, or a link and not its target. One that is not there is no error.
    pub fn remove_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.remove(path.as_ref(), AtFlags::empty())
    }

    /// Removes an empty folder. One that is not there is no error.
    pub fn remove_empty_folder(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.remove(path.as_ref(), AtFlags::REMOVEDIR)
    }

    fn remove(&self, path: &Path, flags: AtFlags) -> io::Result<()> {
        let Some((parent, name)) = self.parent(path)? else { return Ok(()) };
        match rustix::fs::unlinkat(parent.as_ref().unwrap_or(self), name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a file another name in this folder's tree; what has that name is replaced.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let (from_folder, from) = self.parent(from.as_ref())?.ok_or_else(gone)?;
        let (to_folder, to) = self.parent(to.as_ref())?.ok_or_else(gone)?;
        let (one, other) = (from_folder.as_ref().unwrap_or(self), to_folder.as_ref().unwrap_or(self));
        Ok(rustix::fs::renameat(one, from, other, to)?)
    }

    /// Gives a file a further name in this folder (a hard link); what has that name is replaced.
    pub fn link(&self, file: &File, name: &str) -> io::Result<()> {
        let own = fstat(file)?;
        let is_own = |found: rustix::fs::Stat| (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino);
        let link = |name: &str| {
            let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::linkat(CWD, opened, &self.descriptor, name, AtFlags::SYMLINK_FOLLOW)
        };
        match link(name) {
            Err(Errno::EXIST) => {}
            other => return Ok(other?),
        }
        // A file that gets a name which it has already would keep the other one too.
        if rustix::fs::statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(is_own) {
            return Ok(());
        }
        let new = format!(".new-{name}");
        self.remove_file(&new)?;
        link(&new)?;
        self.rename(&new, name)
    }

    /// Waits until the disk has the names in this folder.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.descriptor)?)
    }

    /// The folder that holds a name, None for this one, and the name; None where that folder is not
    /// there.
    fn parent<'a>(&self, path: &'a Path) -> io::Result<Option<(Option<Self>, &'a Path)>> {
        parts(path)?;
        let name = Path::new(path.file_name().ok_or_else(|| invalid(path))?);
        match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            None => Ok(Some((None, name))),
            Some(parent) => match self.folder(parent) {
                Ok(folder) => Ok(Some((Some(folder), name))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    fn open_beneath(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        parts(path)?;
        match openat2(&self.descriptor, path, flags | OFlags::NOFOLLOW, mode, RESOLVE) {
            // Kernels before 5.6 do not have the call, and filters of system calls may refuse it.
            Err(Errno::NOSYS | Errno::PERM) => self.walk(path, flags, mode),
            other => other.map_err(|error| refused(path, error)),
        }
    }

    /// The same part by part: a part that is a link is refused.
    fn walk(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let mut parts = parts(path)?.into_iter().peekable();
        let mut at = self.descriptor.try_clone()?;
        while let Some(part) = parts.next() {
            let is_last = parts.peek().is_none();
            let passing = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let (flags, mode) = if is_last { (flags, mode) } else { (passing, Mode::empty()) };
            at = openat(&at, part, flags | OFlags::NOFOLLOW, mode).map_err(|error| refused(path, error))?;
        }
        Ok(at)
    }
}

/// The folder that another process has opened.
impl From<File> for Folder {
    fn from(file: File) -> Self {
        Self { descriptor: file.into() }
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// The opened file or folder; None where it is not there, or where it or a part of the way is a
/// link or a file.
pub fn present<T>(opened: io::Result<T>) -> io::Result<Option<T>> {
    match opened {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        other => other.map(Some),
    }
}

/// Refuses anything but a regular file, by its descriptor.
pub fn regular(file: &File, path: &Path) -> io::Result<Metadata> {
    let about = file.metadata()?;
    let kind = about.file_type();
    if kind.is_file() {
        return Ok(about);
    }
    Err(NotAFile::error(path, if kind.is_dir() { "a folder" } else { OTHER_KIND }))
}

/// The parts of a path that may lead downwards alone.
fn parts(path: &Path) -> io::Result<Vec<&Path>> {
    let parts = path.components().map(|part| match part {
        Component::Normal(part) => Ok(Path::new(part)),
        _ => Err(invalid(path)),
    });
    let parts = parts.collect::<io::Result<Vec<_>>>()?;
    if parts.is_empty() { Err(invalid(path)) } else { Ok(parts) }
}

/// The error of an open that the system refused.
fn refused(path: &Path, error: Errno) -> io::Error {
    match error {
        // A link is no folder and no file.
        Errno::LOOP => {
            let what = format!("{} is a link, or one is on the way to it", path.display());
            io::Error::new(io::ErrorKind::NotADirectory, what)
        }
        // A socket, or a device without a driver.
        Errno::NXIO => NotAFile::error(path, OTHER_KIND),
        other => other.into(),
    }
}

fn invalid(path: &Path) -> io::Error {
    let what = format!("{:?} is not a relative path without \"..\"", path.display().to_string());
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder with `inside/file`, links out of it by a file and by a folder, and a pipe.
    fn place() -> (tempfile::TempDir, Folder) {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        fs::create_dir_all(root.join("inside")).unwrap();
        fs::write(root.join("inside/file"), "inside").unwrap();
        fs::create_dir(place.path().join("outside")).unwrap();
        fs::write(place.path().join("outside/file"), "outside").unwrap();
        symlink(place.path().join("outside"), root.join("folder")).unwrap();
        symlink("../outside/file", root.join("link")).unwrap();
        symlink("inside/file", root.join("own")).unwrap();
        rustix::fs::mkfifoat(CWD, root.join("pipe"), Mode::from_raw_mode(0o600)).unwrap();
        let folder = Folder::open(&root).unwrap();
        (place, folder)
    }

    #[test]
    fn a_file_is_read_beneath_the_folder_and_nothing_leads_out_of_it() {
        let (place, folder) = place();
        let mut text = String::new();
        folder.file("inside/file").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "inside");
        let wrong = ["link", "own", "folder/file", "../outside/file", "/etc/passwd", "", "."];
        for path in wrong {
            assert!(folder.file(path).is_err(), "{path}");
            assert!(folder.overwrite(path, 0o600).is_err(), "{path}");
            assert!(folder.make_folder(path).is_err(), "{path}");
        }
        let _socket = std::os::unix::net::UnixListener::bind(place.path().join("root/socket")).unwrap();
        for (path, found) in [("pipe", OTHER_KIND), ("socket", OTHER_KIND), ("inside", "a folder")] {
            let error = folder.file(path).unwrap_err();
            assert_eq!(NotAFile::of(&error).unwrap().found, found, "{path}");
        }
    }

    #[test]
    fn the_walk_for_old_kernels_refuses_the_same() {
        let (_place, folder) = place();
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        folder.walk(Path::new("inside/file"), flags, Mode::empty()).unwrap();
        for path in ["link", "own", "folder/file"] {
            assert!(folder.walk(Path::new(path), flags, Mode::empty()).is_err(), "{path}");
        }
    }

    #[test]
    fn a_file_that_others_have_too_is_not_written() {
        let (place, folder) = place();
        fs::hard_link(place.path().join("outside/file"), place.path().join("root/shared")).unwrap();
        assert!(folder.overwrite("shared", 0o600).is_err());
        assert_eq!(fs::read_to_string(place.path().join("outside/file")).unwrap(), "outside");
        folder.overwrite("inside/file", 0o600).unwrap().write_all(b"new").unwrap();
        assert_eq!(fs::read_to_string(place.path().join("root/inside/file")).unwrap(), "new");
    }

    #[test]
    fn what_is_removed_and_renamed_stays_beneath_the_folder() {
        let (place, folder) = place();
        assert!(folder.remove_file("folder/file").is_err());
        assert!(folder.rename("inside/file", "folder/file").is_err());
        folder.remove_file("link").unwrap();
        assert_eq!(fs::read_to_string(place.path().join("outside/file")).unwrap(), "outside");
        folder.rename("inside/file", "moved").unwrap();
        folder.remove_empty_folder("inside").unwrap();
        folder.remove_file("inside/file").unwrap();
        let names: Vec<_> = folder.entries().unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["folder", "moved", "own", "pipe"]);
    }

    #[test]
    fn a_folder_is_known_again_by_its_identity() {
        let (place, folder) = place();
        let other = Folder::open(&place.path().join("outside")).unwrap();
        assert_ne!(folder.identity().unwrap(), other.identity().unwrap());
        let again = Folder::open(&place.path().join("root")).unwrap();
        assert_eq!(folder.identity().unwrap(), again.identity().unwrap());
        folder.make_folder("a/b").unwrap();
        assert!(place.path().join("root/a/b").is_dir());
    }
}
