//! The entries of a folder.

use std::ffi::CStr;
use std::io;

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use super::Folder;

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name. A name that is not UTF-8 is left out: nothing of ours has one.
    pub name: String,
    /// Whether it is a folder itself; a link to one is not.
    pub is_folder: bool,
    /// Whether it is a regular file.
    pub is_file: bool,
}

impl Folder {
    /// The entries of this folder, sorted by name. Names that are not UTF-8 are passed over:
    /// nothing of ours has one.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        self.named(usize::MAX, |_| Ok(()))
    }

    /// At most so many entries of a folder that may have any number, sorted by name, and whether
    /// these are all.
    pub fn some_entries(&self, most: usize) -> io::Result<(Vec<Entry>, bool)> {
        let mut found = self.named(most.saturating_add(1), |_| Ok(()))?;
        let are_all = found.len() <= most;
        found.truncate(most);
        Ok((found, are_all))
    }

    /// The entries of a folder of others, sorted by name. `is_meant` tells of a name, with a sign
    /// in place of what is not UTF-8, whether the caller would take it.
    ///
    /// # Errors
    /// `InvalidData` where such a name is not UTF-8: nothing is left out without a word.
    pub fn entries_of_others(&self, is_meant: impl Fn(&str) -> bool) -> io::Result<Vec<Entry>> {
        self.named(usize::MAX, |name| {
            if !is_meant(&name.to_string_lossy()) {
                return Ok(());
            }
            let what = format!("it holds {name:?}, whose name is not UTF-8; rename it");
            Err(io::Error::new(io::ErrorKind::InvalidData, what))
        })
    }

    /// The entries with names in UTF-8, sorted; at most `most` entries are looked at. The others
    /// are handed on.
    fn named(&self, most: usize, unnamed: impl Fn(&CStr) -> io::Result<()>) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        // The folder itself and the one above it are among them.
        for entry in Dir::read_from(&self.descriptor)?.take(most.saturating_add(2)) {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                unnamed(entry.file_name())?;
                continue;
            };
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                // Some file systems do not say.
                FileType::Unknown => match rustix::fs::statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(error) => return Err(error.into()),
                },
                kind => kind,
            };
            let (is_folder, is_file) = (kind == FileType::Directory, kind == FileType::RegularFile);
            found.push(Entry { name: name.to_owned(), is_folder, is_file });
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }
}
