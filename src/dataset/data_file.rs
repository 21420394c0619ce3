//! A data file or a folder of files that is open: it is judged and read by one descriptor, whatever
//! becomes of its name.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::WHOLE_BELOW_BYTES;
use crate::beneath::Folder;

/// A file is hollow where it is more than this many times as long as what is stored of it.
const HOLLOW_ABOVE: u64 = 100;

/// The sizes of a file most of which are holes: they read as null bytes.
pub(super) struct Hollow {
    pub(super) size_bytes: u64,
    pub(super) stored_bytes: u64,
}

/// A regular file, or a folder of them, open for reading.
pub struct DataFile {
    path: PathBuf,
    opened: Opened,
    /// Called whenever somebody begins to read it.
    begins: Option<Box<dyn Fn() + Send + Sync>>,
}

enum Opened {
    File(File),
    Folder(Arc<Folder>),
}

impl DataFile {
    /// Opens the file at a canonical path. No part of the path may be a link: what has become one
    /// since the path was resolved is not followed. Never waits for a pipe or a device.
    ///
    /// # Errors
    /// Those of [`Folder::file`].
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_beneath(Path::new("/"), path)
    }

    /// The same for a file below `root`, itself a canonical path. Links on the way to the root are
    /// followed.
    pub(super) fn open_beneath(root: &Path, path: &Path) -> io::Result<Self> {
        let below = path.strip_prefix(root).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(Self { path: path.to_owned(), opened: Opened::File(Folder::open(root)?.file(below)?), begins: None })
    }

    /// Opens the folder at a canonical path, no part of which may be a link.
    ///
    /// # Errors
    /// Those of [`Folder::folder`].
    pub fn open_folder(path: &Path) -> io::Result<Self> {
        let root = Path::new("/");
        let below = path.strip_prefix(root).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let folder = Folder::open(root)?;
        let folder = if below.as_os_str().is_empty() { folder } else { folder.folder(below)? };
        Ok(Self::of_folder(path.to_owned(), folder))
    }

    /// An open folder with its canonical path.
    pub(super) fn of_folder(path: PathBuf, folder: Folder) -> Self {
        Self { path, opened: Opened::Folder(Arc::new(folder)), begins: None }
    }

    /// A file or a folder that another process has opened at that path. `begins` is called whenever
    /// somebody begins to read it.
    ///
    /// # Errors
    /// The system's.
    pub fn received(path: PathBuf, file: File, begins: impl Fn() + Send + Sync + 'static) -> io::Result<Self> {
        let is_folder = file.metadata()?.is_dir();
        let opened = if is_folder { Opened::Folder(Arc::new(Folder::from(file))) } else { Opened::File(file) };
        Ok(Self { path, opened, begins: Some(Box::new(begins)) })
    }

    /// Where it lay when it was opened: a canonical path, for messages and orders.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The system's facts about the open file.
    ///
    /// # Errors
    /// The system's, and one for a folder, whose own facts tell nothing of its files.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.file()?.metadata()
    }

    /// The sizes of a large file of which next to nothing is stored. A file system that compresses
    /// stores little as well, and one of another machine may not tell: neither has holes. The files
    /// of a folder are not looked at: an image of null bytes is none, which shows when it is read.
    pub(super) fn hollow(&self) -> io::Result<Option<Hollow>> {
        let about = self.metadata()?;
        let (size_bytes, stored_bytes) = (about.len(), about.blocks().saturating_mul(512));
        if size_bytes < WHOLE_BELOW_BYTES || stored_bytes > size_bytes / HOLLOW_ABOVE {
            return Ok(None);
        }
        match seek(self.file()?, SeekFrom::Hole(0)) {
            Ok(hole) => Ok((hole < size_bytes).then_some(Hollow { size_bytes, stored_bytes })),
            // This file system knows no holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The file from its first byte on. All readers share one position: one reads at a time.
    ///
    /// # Errors
    /// The system's, and one for a folder.
    pub fn reader(&self) -> io::Result<File> {
        self.begin();
        let mut file = self.file()?.try_clone()?;
        file.rewind()?;
        Ok(file)
    }

    /// The file, for somebody who reads it by position.
    ///
    /// # Errors
    /// The system's, and one for a folder.
    pub(super) fn handle(&self) -> io::Result<File> {
        self.begin();
        self.file()?.try_clone()
    }

    /// Fills `part` with the bytes from `begin` on. Readers keep their place.
    ///
    /// # Errors
    /// The system's, and one for a folder.
    pub fn read_exact_at(&self, part: &mut [u8], begin: u64) -> io::Result<()> {
        self.file()?.read_exact_at(part, begin)
    }

    /// The bytes of that place, for somebody who begins to read them. Readers keep theirs.
    pub(super) fn part(&self, place: Range<u64>) -> FilePart<'_> {
        self.begin();
        FilePart { file: self, place }
    }

    /// The folder, for somebody who begins to read its files.
    ///
    /// # Errors
    /// One for a file.
    pub fn folder(&self) -> io::Result<&Arc<Folder>> {
        self.begin();
        self.as_folder().ok_or_else(|| io::ErrorKind::NotADirectory.into())
    }

    /// The folder that it is; None for a file.
    pub fn as_folder(&self) -> Option<&Arc<Folder>> {
        match &self.opened {
            Opened::Folder(folder) => Some(folder),
            Opened::File(_) => None,
        }
    }

    fn begin(&self) {
        if let Some(begins) = &self.begins {
            begins();
        }
    }

    fn file(&self) -> io::Result<&File> {
        match &self.opened {
            Opened::File(file) => Ok(file),
            Opened::Folder(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }
}

/// A part of a file that is read from its first byte to its last.
pub(super) struct FilePart<'a> {
    file: &'a DataFile,
    /// The bytes that are left.
    place: Range<u64>,
}

impl Read for FilePart<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.place.end - self.place.start).unwrap_or(usize::MAX);
        let most = left.min(into.len());
        let count = self.file.file()?.read_at(&mut into[..most], self.place.start)?;
        self.place.start += count as u64;
        Ok(count)
    }
}

impl AsFd for DataFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.opened {
            Opened::File(file) => file.as_fd(),
            Opened::Folder(folder) => folder.as_fd(),
        }
    }
}

impl fmt::Debug for DataFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataFile").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::beneath::NotAFile;

    #[test]
    fn what_is_open_stays_the_same_file_and_is_read_from_its_first_byte_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("data");
        fs::write(&path, "judged").unwrap();
        let file = DataFile::open(&path).unwrap();
        fs::write(folder.path().join("other"), "swapped in").unwrap();
        fs::rename(folder.path().join("other"), &path).unwrap();
        for _ in 0..2 {
            let mut text = String::new();
            file.reader().unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "judged");
        }
    }

    #[test]
    fn a_link_anywhere_on_the_way_and_a_pipe_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        fs::create_dir(path.join("real")).unwrap();
        fs::write(path.join("real/data"), "").unwrap();
        symlink(path.join("real"), path.join("folder")).unwrap();
        symlink(path.join("real/data"), path.join("link")).unwrap();
        nix::unistd::mkfifo(&path.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        DataFile::open(&path.join("real/data")).unwrap();
        for wrong in ["folder/data", "link"] {
            assert_eq!(DataFile::open(&path.join(wrong)).unwrap_err().kind(), io::ErrorKind::NotADirectory, "{wrong}");
        }
        let error = DataFile::open(&path.join("pipe")).unwrap_err();
        assert!(NotAFile::of(&error).is_some(), "{error}");
    }
}
