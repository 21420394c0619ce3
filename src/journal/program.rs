//! The checkpoints of a program: files and folders in its own folder that it has reported. Their
//! list, `program.json`, lies beside that folder, where the program cannot write.
//!
//! The files belong to the program, which may change or remove them at any time: they are looked
//! for anew each time, beneath the folder and without following links, and within bounds.

use std::fs::File;
use std::io::{self, Read};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::artifacts::Artifact;
use super::folder::{JobFolder, write_whole};
use crate::beneath::{Folder, present};

/// The name of a program's folder in that of its job.
pub const PROGRAM: &str = "program";
/// The file that lists the checkpoints.
const LIST: &str = "program.json";
/// A list of more bytes is none of ours.
const MOST_LIST_BYTES: u64 = 1 << 20;
/// Files of a checkpoint that are listed.
const MOST_FILES: usize = 1000;
/// Folders below each other in a checkpoint.
const MOST_DEPTH: usize = 8;

/// A checkpoint that a program has reported.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramCheckpoint {
    /// The step that was reported with it.
    pub step: u64,
    /// Its path in the program's folder.
    pub path: String,
}

/// The checkpoints of a program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramCheckpoints {
    /// The newest comes last; each path is there once.
    checkpoints: Vec<ProgramCheckpoint>,
}

impl ProgramCheckpoints {
    /// Checkpoints that are remembered.
    pub const MOST: usize = 30;

    /// Those of a job; none where it has no list.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn read(folder: &JobFolder) -> io::Result<Self> {
        let Some(file) = present(Folder::open(folder.path()).and_then(|folder| folder.file(LIST)))? else {
            return Ok(Self::default());
        };
        let mut text = Vec::new();
        file.take(MOST_LIST_BYTES).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// The list with one more at its end, and without those that are too many.
    #[must_use]
    pub fn with(&self, new: ProgramCheckpoint) -> Self {
        let mut checkpoints: Vec<_> = self.checkpoints.iter().filter(|other| other.path != new.path).cloned().collect();
        checkpoints.push(new);
        let many = checkpoints.len().saturating_sub(Self::MOST);
        checkpoints.drain(..many);
        Self { checkpoints }
    }

    /// Writes the list. Durable when it returns.
    pub fn write(&self, folder: &JobFolder) -> io::Result<()> {
        write_whole(&folder.path().join(LIST), &serde_json::to_vec_pretty(self)?)
    }

    /// The one that was reported last.
    pub fn newest(&self) -> Option<&ProgramCheckpoint> {
        self.checkpoints.last()
    }

    /// Removes the one that was reported last.
    pub fn forget_newest(&mut self) -> Option<ProgramCheckpoint> {
        self.checkpoints.pop()
    }

    /// Those for the user, the highest step first.
    pub fn by_step(&self) -> Vec<&ProgramCheckpoint> {
        let mut all: Vec<_> = self.checkpoints.iter().filter(|checkpoint| checkpoint.is_for_users()).collect();
        all.sort_by(|one, other| other.cmp(one));
        all
    }

    /// Whether a path in the job's folder is that of a checkpoint, or of a file in one.
    pub fn has(&self, path: &str) -> bool {
        let inside = path.strip_prefix(PROGRAM).and_then(|rest| rest.strip_prefix('/'));
        inside.is_some_and(|inside| self.checkpoints.iter().any(|checkpoint| checkpoint.holds(inside)))
    }

    /// Those for the user, without the ones that lie in others.
    pub(super) fn outermost(&self) -> Vec<&ProgramCheckpoint> {
        let is_inner = |inner: &ProgramCheckpoint| {
            let holds = |outer: &ProgramCheckpoint| outer.path != inner.path && outer.holds(&inner.path);
            self.checkpoints.iter().any(holds)
        };
        let is_outermost = |checkpoint: &&ProgramCheckpoint| checkpoint.is_for_users() && !is_inner(checkpoint);
        self.checkpoints.iter().filter(is_outermost).collect()
    }
}

impl ProgramCheckpoint {
    /// Whether its path can be that of files for the user, which have no hidden part.
    fn is_for_users(&self) -> bool {
        self.path.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
            && !self.path.contains(char::is_control)
    }

    fn holds(&self, path: &str) -> bool {
        path.strip_prefix(&self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Its files with their paths in the job's folder, sorted, at most 1,000, and whether these are
    /// all. None where it is not there, or is neither a file nor a folder.
    ///
    /// # Errors
    /// The folders cannot be read.
    pub fn files(&self, folder: &JobFolder) -> io::Result<Option<(Vec<Artifact>, bool)>> {
        let Some(place) = present(Folder::open(folder.path()).and_then(|folder| folder.folder(PROGRAM)))? else {
            return Ok(None);
        };
        let name = format!("{PROGRAM}/{}", self.path);
        let (mut found, mut are_all) = (Vec::new(), true);
        if let Some(below) = opened(place.folder(&self.path))? {
            walk(&below, &name, MOST_DEPTH, &mut found, &mut are_all)?;
        } else if let Some(file) = opened(place.file(&self.path))? {
            found.push(artifact(name, &file)?);
        } else {
            return Ok(None);
        }
        found.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(Some((found, are_all)))
    }
}

/// Adds the files of a folder. Names with a dot are those of files that are not whole.
fn walk(folder: &Folder, name: &str, depth: usize, found: &mut Vec<Artifact>, are_all: &mut bool) -> io::Result<()> {
    let (entries, is_whole) = folder.some_entries(MOST_FILES)?;
    *are_all &= is_whole && depth > 0;
    for entry in entries.into_iter().filter(|entry| depth > 0 && !entry.name.starts_with('.')) {
        if found.len() == MOST_FILES {
            *are_all = false;
            break;
        }
        let path = format!("{name}/{}", entry.name);
        if entry.is_folder {
            if let Some(below) = opened(folder.folder(&entry.name))? {
                walk(&below, &path, depth - 1, found, are_all)?;
            }
        } else if entry.is_file
            && let Some(file) = opened(folder.file(&entry.name))?
        {
            found.push(artifact(path, &file)?);
        }
    }
    Ok(())
}

fn artifact(path: String, file: &File) -> io::Result<Artifact> {
    let about = file.metadata()?;
    let updated = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(Artifact { path, size_bytes: about.len(), updated, sha256: None })
}

/// None for anything that a program may have put there instead, or closed to us.
fn opened<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if crate::shortage::is_shortage(&error) => Err(error),
        Err(_) => Ok(None),
    }
}
