//! Bytes that ranks bring home: journals, logs, event files. Each piece says where it begins, so
//! that it may come twice, and a daemon that lost some bytes gets them again.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::LaunchError;
use super::launch::{Launch, Wish};
use crate::beneath::{Folder, present};
use crate::journal::JobFolder;
use crate::tensorboard::{MARK, cut_after};

/// The folder of event files, as pieces name it.
const EVENTS: &str = "tensorboard/";

/// A piece of a file that grows.
#[derive(Debug, Clone)]
pub struct Piece {
    /// `journal`, `runner.log` or `tensorboard/{name}`.
    pub file: String,
    /// Where it begins, in the bytes of this attempt.
    pub offset: u64,
    /// The bytes.
    pub data: Vec<u8>,
    /// The step that the attempt goes on from.
    pub after_step: i64,
}

impl Launch {
    /// Takes pieces of the files of a rank, whose lease begins anew. Returns the wish for it, and
    /// for each piece the bytes of this attempt that its file has now. Blocks.
    ///
    /// # Errors
    /// The rank is not this outpost's, or over; or its folder cannot be written.
    pub fn push(&self, rank: u32, outpost: u64, pieces: Vec<Piece>) -> Result<(Wish, Vec<u64>), LaunchError> {
        let wish = self.hear(rank, outpost)?;
        let received = pieces.iter().map(|piece| self.take(rank, piece)).collect::<Result<_, _>>();
        self.note_disk(match &received {
            Err(LaunchError::Folder(error)) => Some(error.to_string()),
            _ => None,
        });
        Ok((wish, received?))
    }

    fn take(&self, rank: u32, piece: &Piece) -> Result<u64, LaunchError> {
        let folder = self.folder_of(rank);
        let mut record = self.record();
        match piece.file.as_str() {
            "journal" => {
                let before = &mut record.before[rank as usize].journal;
                Ok(append(&folder.journal(), before, piece, false)?)
            }
            "runner.log" => Ok(append(&folder.log(), &mut record.before[rank as usize].log, piece, false)?),
            file => {
                let path = event_file(&folder, file).filter(|_| rank == 0).ok_or_else(|| LaunchError::Name {
                    field: "pieces.file",
                    found: file.to_owned(),
                    right: "journal, runner.log or, of the first rank, tensorboard/ and the name of an event file",
                })?;
                if !record.events_are_cut {
                    cut_after(&folder.tensorboard(), piece.after_step)?;
                    record.events_are_cut = true;
                    record.write(&self.folder)?;
                }
                Ok(append(&path, &mut 0, piece, self.limits.group_reads)?)
            }
        }
    }

    /// Opens a file of the job that ranks need.
    ///
    /// # Errors
    /// There is none of that name, or it is not for ranks.
    pub fn open_file(&self, path: &str) -> Result<fs::File, LaunchError> {
        let is_told = self.files()?.iter().any(|(name, _)| name == path);
        if !is_told {
            let right = "a name of JoinLaunchResponse.files";
            return Err(LaunchError::Name { field: "path", found: path.to_owned(), right });
        }
        Ok(Folder::open(self.folder.path())?.file(path)?)
    }

    /// The files of the job that ranks need, with their bytes: the spec, the files of the model,
    /// what was learnt of the data, and the checkpoints.
    ///
    /// # Errors
    /// The job's folder cannot be read.
    pub fn files(&self) -> io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        let add = |folder: &Path, prefix: &str, found: &mut Vec<_>| -> io::Result<()> {
            let Some(folder) = present(Folder::open(folder))? else { return Ok(()) };
            for entry in folder.entries()? {
                if entry.is_file && is_needed(&entry.name) {
                    found.push((format!("{prefix}{}", entry.name), folder.size(&entry.name)?));
                }
            }
            Ok(())
        };
        add(self.folder.path(), "", &mut found)?;
        if let Some(size) = present(fs::metadata(self.folder.preprocessing()))?.map(|about| about.len()) {
            found.push((format!("artifacts/{}", JobFolder::PREPROCESSING), size));
        }
        for checkpoint in crate::journal::checkpoints(&self.folder)? {
            let name = JobFolder::checkpoint_name(checkpoint.step());
            add(&checkpoint.path, &format!("{name}/"), &mut found)?;
        }
        found.sort();
        Ok(found)
    }
}

/// Whether ranks need a file of that name. The rest of a job's folder is the daemon's.
fn is_needed(name: &str) -> bool {
    const OURS: [&str; 8] =
        ["job.json", "journal", "runner.log", "lock", "shim", "exit.json", "launch.json", "mirrored"];
    !name.starts_with('.') && !OURS.contains(&name) && !name.starts_with("mirror")
}

/// Where an event file lies; None where the name is that of none.
fn event_file(folder: &JobFolder, name: &str) -> Option<PathBuf> {
    let name = name.strip_prefix(EVENTS)?;
    let is_right = name.contains(MARK) && !name.starts_with('.') && !name.contains(['/', '\0']);
    is_right.then(|| folder.tensorboard().join(name))
}

/// Adds a piece to a file that has `before` bytes of earlier attempts. Returns the bytes of this
/// attempt that are there.
fn append(path: &Path, before: &mut u64, piece: &Piece, group_reads: bool) -> io::Result<u64> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    let mut length = file.metadata()?.len();
    if length == 0 && group_reads {
        file.set_permissions(Permissions::from_mode(0o640))?;
    }
    // A machine that went down may have lost some.
    *before = (*before).min(length);
    let have = length - *before;
    if let Some(known) = have.checked_sub(piece.offset)
        && let Some(news) = usize::try_from(known).ok().and_then(|known| piece.data.get(known..))
    {
        // A full disk may have taken a part of it, from whose end it is sent again.
        let written = file.write_all(news);
        length = file.metadata()?.len();
        written?;
    }
    Ok(length - *before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_once_whatever_comes_twice_or_too_early() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        fs::write(&path, "before").unwrap();
        let mut before = 6;
        let mut push = |offset, data: &str| {
            let piece = Piece { file: String::new(), offset, data: data.into(), after_step: 0 };
            append(&path, &mut before, &piece, false).unwrap()
        };
        assert_eq!(push(0, "abc"), 3);
        assert_eq!(push(0, "abc"), 3, "twice");
        assert_eq!(push(5, "xyz"), 3, "too early");
        assert_eq!(push(1, "bcde"), 5, "a part of it is news");
        assert_eq!(push(2, "c"), 5, "old");
        assert_eq!(push(5, ""), 5, "nothing");
        assert_eq!(fs::read_to_string(&path).unwrap(), "beforeabcde");
        fs::write(&path, "bef").unwrap();
        let piece = Piece { file: String::new(), offset: 5, data: "f".into(), after_step: 0 };
        assert_eq!(
            append(&path, &mut before, &piece, false).unwrap(),
            0,
            "it was lost, and is sent from the beginning"
        );
    }

    #[test]
    fn event_files_lie_nowhere_else() {
        let folder = JobFolder::new("/job".into());
        assert!(event_file(&folder, "tensorboard/events.out.tfevents.1").is_some());
        for name in ["tensorboard/../tfevents", "tensorboard/.tfevents", "tfevents", "tensorboard/other", "job.json"] {
            assert!(event_file(&folder, name).is_none(), "{name}");
        }
    }
}
