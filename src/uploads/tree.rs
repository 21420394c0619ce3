//! The files of an owner that have come whole.

use std::fs::Metadata;
use std::io;
use std::path::Path;

use super::UploadError;
use super::name::{MOST_PARTS, Name};
use crate::beneath::{Folder, NotAFile, present};
use crate::gate::Wanted;

/// Calls `found` for each file below a folder. Files that go away meanwhile are left out.
pub(super) fn walk(folder: &Folder, wanted: &Wanted, found: &mut dyn FnMut(Name, Metadata)) -> io::Result<()> {
    walk_below(folder, "", MOST_PARTS, wanted, found)
}

fn walk_below(
    folder: &Folder,
    prefix: &str,
    depth: usize,
    wanted: &Wanted,
    found: &mut dyn FnMut(Name, Metadata),
) -> io::Result<()> {
    let Some(deeper) = depth.checked_sub(1) else { return Ok(()) };
    for entry in folder.entries()? {
        wanted.check()?;
        let path = format!("{prefix}{}", entry.name);
        if entry.is_folder {
            if let Some(inner) = present(folder.folder(&entry.name))? {
                walk_below(&inner, &format!("{path}/"), deeper, wanted, found)?;
            }
        } else if entry.is_file
            && let Some(about) = present(folder.file(&entry.name).and_then(|file| file.metadata()))?
            && let Ok(name) = Name::try_from(path)
        {
            found(name, about);
        }
    }
    Ok(())
}

/// The file of that name, open; None where there is none.
pub(super) fn open(folder: &Folder, name: &Name) -> Result<Option<std::fs::File>, UploadError> {
    match folder.file(name.path()) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(not_a_file(name, error)),
    }
}

/// The refusal of a name that leads to a folder, or through a file.
pub(super) fn not_a_file(name: &Name, error: io::Error) -> UploadError {
    let found = match error.kind() {
        io::ErrorKind::IsADirectory => "a folder has this name",
        io::ErrorKind::NotADirectory => "a part of it is the name of a file",
        _ if NotAFile::of(&error).is_some() => "a folder has this name",
        _ => return error.into(),
    };
    UploadError::NotAFile { name: name.clone(), found }
}

/// Removes the folders that have become empty with the removal of that file.
pub(super) fn remove_empty_folders(folder: &Folder, name: &Name) -> io::Result<()> {
    for parent in name.path().ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
        match folder.remove_empty_folder(parent) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => break,
            other => other?,
        }
    }
    Ok(())
}

/// Waits until the disk has the folders on the way to a file, and its name.
pub(super) fn sync_way(folder: &Folder, name: &Name) -> io::Result<()> {
    for parent in name.path().ancestors().skip(1) {
        match parent == Path::new("") {
            true => folder.sync()?,
            false => folder.folder(parent)?.sync()?,
        }
    }
    Ok(())
}
