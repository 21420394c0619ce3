//! Results of a program: a file that it names becomes an artifact of its job, as a second name
//! (hard link) of the same file, so that it takes no room and no time. Only files of the program's
//! own folder can be named, and no link is followed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use super::reports::MOST_TOLD;
use super::say;
use crate::beneath::{Entry, Folder};
use crate::journal::{JobFolder, PROGRAM};
use crate::shortage::is_shortage;

/// Files that a program may name in an attempt.
const MOST_FILES: usize = 10_000;
/// Folders below each other in a folder that it names.
const MOST_DEPTH: usize = 8;
/// Files that are tried under one name, where the program replaces them.
const MOST_TRIES: usize = 10;
/// Bytes of a path.
const MOST_PATH_BYTES: usize = 1000;

/// The artifacts of a program.
pub(super) struct Artifacts {
    folder: JobFolder,
    /// Their paths, from the program's folder.
    paths: BTreeSet<String>,
    is_full: bool,
    /// Paths that could not become artifacts.
    refused: u64,
}

/// Why a path becomes no artifact.
enum Odd {
    /// The fault lies with the program.
    Told(String),
    /// The disk is full, or the machine is short of something.
    Machine(io::Error),
}

impl From<io::Error> for Odd {
    fn from(error: io::Error) -> Self {
        let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        if is_full || is_shortage(&error) { Self::Machine(error) } else { Self::Told(error.to_string()) }
    }
}

impl Artifacts {
    pub(super) fn of(folder: &JobFolder) -> Self {
        Self { folder: folder.clone(), paths: BTreeSet::new(), is_full: false, refused: 0 }
    }

    /// Takes a file, or all files of a folder, by its path from the program's folder. A path that
    /// is none is told in the log.
    ///
    /// # Errors
    /// The job's folder cannot be written.
    pub(super) fn add(&mut self, path: &str) -> io::Result<()> {
        self.add_at(path, 0)
    }

    fn add_at(&mut self, path: &str, depth: usize) -> io::Result<()> {
        match self.take(path, depth) {
            Ok(()) => Ok(()),
            Err(Odd::Machine(error)) => Err(error),
            Err(Odd::Told(why)) => {
                self.refused += 1;
                if self.refused <= MOST_TOLD {
                    let path: String = path.chars().take(300).collect();
                    say(&format!("{path:?} cannot be an artifact: {why}"));
                }
                Ok(())
            }
        }
    }

    /// Tells the log how many paths were refused, where it has not named them all.
    pub(super) fn say_what_was_refused(&self) {
        if self.refused > MOST_TOLD {
            say(&format!("{} paths could not be artifacts", self.refused));
        }
    }

    fn take(&mut self, path: &str, depth: usize) -> Result<(), Odd> {
        // Names with a dot are those of files that are not whole.
        if path.split('/').any(|part| part.is_empty() || part.starts_with('.')) || path.chars().any(char::is_control) {
            let right = "a path in TORCHD_PROGRAM_DIR, without names that begin with a dot, is right";
            return Err(Odd::Told(right.into()));
        }
        if path.len() > MOST_PATH_BYTES {
            return Err(Odd::Told(format!("its path has more than {MOST_PATH_BYTES} bytes")));
        }
        let job = Folder::open(self.folder.path())?;
        let place = job.folder(PROGRAM)?;
        if let Ok(folder) = place.folder(path) {
            return self.take_all(&folder, path, depth);
        }
        if !self.paths.contains(path) && self.paths.len() == MOST_FILES {
            if !std::mem::replace(&mut self.is_full, true) {
                say(&format!("the program has named {MOST_FILES} artifacts; no more are taken"));
            }
            return Ok(());
        }
        fs::create_dir_all(self.folder.artifacts())?;
        let artifacts = Folder::open(&self.folder.artifacts())?;
        let parent = match Path::new(path).parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => artifacts.make_folder(parent)?,
            None => artifacts,
        };
        let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
        for tries in 1.. {
            let file = place.file(path)?;
            // An artifact is whole also after the machine has crashed.
            file.sync_all()?;
            match parent.link(&file, &name) {
                // The program has put another file in its place meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < MOST_TRIES => {}
                linked => {
                    linked?;
                    break;
                }
            }
        }
        self.paths.insert(path.to_owned());
        Ok(())
    }

    fn take_all(&mut self, folder: &Folder, path: &str, depth: usize) -> Result<(), Odd> {
        if depth == MOST_DEPTH {
            return Err(Odd::Told(format!("it has more than {MOST_DEPTH} folders below each other")));
        }
        let (entries, are_all) = folder.some_entries(MOST_FILES)?;
        if !are_all {
            return Err(Odd::Told(format!("it has more than {MOST_FILES} entries")));
        }
        let is_meant = |entry: &&Entry| !entry.name.starts_with('.') && (entry.is_file || entry.is_folder);
        for entry in entries.iter().filter(is_meant) {
            self.add_at(&format!("{path}/{}", entry.name), depth + 1).map_err(Odd::Machine)?;
        }
        Ok(())
    }
}
