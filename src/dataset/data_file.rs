//! A data file or a folder of files that is open: it is judged and read by one descriptor, whatever
//! becomes of its name.

use std::fs::{File, Metadata};
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::beneath::Folder;

/// A regular file, or a folder of them, open for reading.
#[derive(Debug)]
pub struct DataFile {
    path: PathBuf,
    opened: Opened,
}

#[derive(Debug)]
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
        Ok(Self { path: path.to_owned(), opened: Opened::File(Folder::open(root)?.file(below)?) })
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
        Self { path, opened: Opened::Folder(Arc::new(folder)) }
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

    /// The file from its first byte on. All readers share one position: one reads at a time.
    ///
    /// # Errors
    /// The system's, and one for a folder.
    pub fn reader(&self) -> io::Result<File> {
        let mut file = self.file()?.try_clone()?;
        file.rewind()?;
        Ok(file)
    }

    /// The open folder.
    ///
    /// # Errors
    /// One for a file.
    pub fn folder(&self) -> io::Result<Arc<Folder>> {
        match &self.opened {
            Opened::Folder(folder) => Ok(folder.clone()),
            Opened::File(_) => Err(io::Error::from(io::ErrorKind::NotADirectory)),
        }
    }

    fn file(&self) -> io::Result<&File> {
        match &self.opened {
            Opened::File(file) => Ok(file),
            Opened::Folder(_) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
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
