//! Partial uploads on the disk: the bytes that are there, and beside them a note of what they are
//! to become. They lie apart from the files of owners, where no job finds them.
//!
//! The note is whole before the bytes begin, and removed after them: a note or bytes alone are what
//! a crash leaves, and no upload.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::name::Name;
use crate::beneath::{Folder, present};
use crate::sha256::Sha256;

/// A partial upload to which nothing was added for so long is removed.
pub(super) const EXPIRE_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Endings of the names of bytes and note.
const BYTES: &str = ".part";
const NOTE: &str = ".json";
/// A longer note is none of ours.
const MOST_NOTE_BYTES: u64 = 16 << 10;

/// The file that an upload is to become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) name: String,
    pub(super) size_bytes: u64,
    pub(super) sha256: String,
}

/// An upload that has not come whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    /// Bytes that are there.
    pub received_bytes: u64,
    /// All bytes of the file.
    pub size_bytes: u64,
    /// The checksum that the file is to have.
    pub sha256: String,
    /// When it is removed, if nothing is added until then.
    pub expires: SystemTime,
}

/// The name of the file that holds the bytes: one that every file system takes.
pub(super) fn bytes_name(name: &Name) -> String {
    Sha256::of(name.as_str().as_bytes()) + BYTES
}

fn note_name(name: &Name) -> String {
    Sha256::of(name.as_str().as_bytes()) + NOTE
}

/// The partial upload of that name; None where there is none.
pub(super) fn read(folder: &Folder, name: &Name) -> io::Result<Option<Partial>> {
    Ok(read_files(folder, &note_name(name), &bytes_name(name))?.map(|(_, partial)| partial))
}

/// All of them.
pub(super) fn all(folder: &Folder) -> io::Result<Vec<(Name, Partial)>> {
    let mut all = Vec::new();
    for entry in folder.entries()? {
        let Some(stem) = entry.name.strip_suffix(NOTE) else { continue };
        if let Some((name, partial)) = read_files(folder, &entry.name, &format!("{stem}{BYTES}"))? {
            all.push((name, partial));
        }
    }
    Ok(all)
}

fn read_files(folder: &Folder, note: &str, bytes: &str) -> io::Result<Option<(Name, Partial)>> {
    let Some(file) = present(folder.file(note))? else { return Ok(None) };
    let mut text = Vec::new();
    file.take(MOST_NOTE_BYTES).read_to_end(&mut text)?;
    let Ok(Note { name, size_bytes, sha256 }) = serde_json::from_slice(&text) else { return Ok(None) };
    let Ok(name) = Name::try_from(name) else { return Ok(None) };
    let Some(about) = present(folder.file(bytes).and_then(|file| file.metadata()))? else { return Ok(None) };
    let partial = Partial { received_bytes: about.len(), size_bytes, sha256, expires: expires(&about) };
    Ok(Some((name, partial)))
}

fn expires(about: &Metadata) -> SystemTime {
    about.modified().unwrap_or_else(|_| SystemTime::now()) + EXPIRE_AFTER
}

/// Makes a partial upload without bytes, in the place of any that is there.
pub(super) fn create(folder: &Folder, name: &Name, size_bytes: u64, sha256: &str) -> io::Result<File> {
    remove(folder, name)?;
    let note = Note { name: name.as_str().to_owned(), size_bytes, sha256: sha256.to_owned() };
    let mut file = folder.create_new(note_name(name), 0o600)?;
    file.write_all(&serde_json::to_vec(&note)?)?;
    file.sync_all()?;
    folder.create_new(bytes_name(name), 0o600)
}

/// Opens the bytes, and drops those from that one on.
pub(super) fn cut(folder: &Folder, name: &Name, length: u64) -> io::Result<File> {
    let file = folder.update(bytes_name(name))?;
    if file.metadata()?.len() != length {
        file.set_len(length)?;
    }
    Ok(file)
}

/// Removes bytes and note. None that are there is no error.
pub(super) fn remove(folder: &Folder, name: &Name) -> io::Result<()> {
    folder.remove_file(bytes_name(name))?;
    folder.remove_file(note_name(name))
}

/// Removes the uploads that have expired, and what a crash has left, but for what `is_active`.
pub(super) fn remove_expired(folder: &Folder, is_active: impl Fn(&Name) -> bool) -> io::Result<()> {
    let mut kept = BTreeSet::new();
    for (name, partial) in all(folder)? {
        if is_active(&name) || partial.expires > SystemTime::now() {
            kept.extend([bytes_name(&name), note_name(&name)]);
        } else {
            tracing::info!(name = name.as_str(), received_bytes = partial.received_bytes, "a partial upload expires");
        }
    }
    for entry in folder.entries()? {
        if !kept.contains(&entry.name) {
            folder.remove_file(&entry.name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_has_expired_or_was_left_by_a_crash_is_removed_and_what_is_written_to_stays() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let name = |text: &str| Name::try_from(text.to_owned()).unwrap();
        for text in ["new", "old", "active", "note", "bytes"] {
            let mut file = create(&folder, &name(text), 9, "sum").unwrap();
            file.write_all(b"1234").unwrap();
            if ["old", "active"].contains(&text) {
                file.set_modified(SystemTime::now() - EXPIRE_AFTER).unwrap();
            }
        }
        folder.remove_file(bytes_name(&name("note"))).unwrap();
        folder.remove_file(note_name(&name("bytes"))).unwrap();
        fs::write(place.path().join(note_name(&name("cut"))), "{\"name\":").unwrap();
        remove_expired(&folder, |asked| asked.as_str() == "active").unwrap();
        let mut left: Vec<_> = all(&folder).unwrap().into_iter().map(|(name, _)| name).collect();
        left.sort();
        assert_eq!(left, [name("active"), name("new")]);
        assert_eq!(folder.entries().unwrap().len(), 4);
        let partial = read(&folder, &name("new")).unwrap().unwrap();
        assert_eq!((partial.received_bytes, partial.size_bytes, partial.sha256.as_str()), (4, 9, "sum"));
        assert!(partial.expires > SystemTime::now());
    }
}
