//! Bytes that ranks bring home: journals, logs, event files. Each piece says where it begins, so
//! that it may come twice, and a daemon that lost some bytes gets them again.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::LaunchError;
use super::launch::{Launch, Wish};
use super::record::Record;
use crate::beneath::{Folder, present};
use crate::journal::{JobFolder, entries};
use crate::tensorboard::{MARK, cut_after};

/// The folder of event files, as pieces name it.
const EVENTS: &str = "tensorboard/";
/// A full log gets the last words of a rank all the same, and lines about what is missing: fewer
/// bytes than these.
const LAST_WORDS: u64 = 8 << 10;
/// A runner ends its event file behind the step that passes the limit, which has fewer bytes than
/// these.
const LAST_EVENTS: u64 = 1 << 20;
/// Event files of a job; those beyond are dropped.
const MOST_EVENT_FILES: usize = 1000;

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
    /// for each piece the bytes of this attempt that have come of its file. Bytes of logs and event
    /// files beyond their limits are dropped, and count; a journal beyond its limit ends the rank.
    /// Blocks.
    ///
    /// # Errors
    /// The rank is not this outpost's, or over; it has written more than it may; or its folder
    /// cannot be written.
    pub fn push(&self, rank: u32, outpost: u64, pieces: Vec<Piece>) -> Result<(Wish, Vec<u64>), LaunchError> {
        let (mut record, wish) = self.admit(rank, outpost)?;
        let received = pieces.iter().map(|piece| self.take(&mut record, rank, piece)).collect::<Result<_, _>>();
        if let Err(full @ LaunchError::Full { .. }) = &received {
            self.give_up(rank, &record, full.to_string());
        }
        self.note_disk(
            rank,
            match &received {
                Err(LaunchError::Folder(error)) => Some(error.to_string()),
                _ => None,
            },
        );
        Ok((wish, received?))
    }

    fn take(&self, record: &mut Record, rank: u32, piece: &Piece) -> Result<u64, LaunchError> {
        let (folder, limits) = (self.folder_of(rank), &self.limits);
        match piece.file.as_str() {
            "journal" => {
                let (path, most) = (folder.journal(), limits.journal_bytes);
                let before = self.lower(record, &path, |record| &mut record.before[rank as usize].journal)?;
                let found = before.saturating_add(piece.offset).saturating_add(piece.data.len() as u64);
                if found > most {
                    return Err(LaunchError::Full { rank, found, most });
                }
                Ok(append(&path, before, u64::MAX, piece, false)?)
            }
            "runner.log" => {
                let path = folder.log();
                let before = self.lower(record, &path, |record| &mut record.before[rank as usize].log)?;
                let most = limits.log_max_bytes.max(before).saturating_add(LAST_WORDS);
                Ok(append(&path, before, most, piece, false)?)
            }
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
                let most = limits.max_event_bytes.saturating_add(LAST_EVENTS);
                let most = room_of(&folder.tensorboard(), &path, most)?;
                Ok(append(&path, 0, most, piece, limits.group_reads)?)
            }
        }
    }

    /// The bytes of earlier attempts in a file, which are fewer where the machine went down and has
    /// lost some. The next daemon has to know that too: before anything is written behind them.
    fn lower(&self, record: &mut Record, path: &Path, before: impl Fn(&mut Record) -> &mut u64) -> io::Result<u64> {
        let length = present(fs::metadata(path))?.map_or(0, |about| about.len());
        if *before(record) > length {
            let mut lowered = record.clone();
            *before(&mut lowered) = length;
            lowered.write(&self.folder)?;
            *record = lowered;
        }
        Ok(*before(record))
    }

    /// Waits until the disk has what a rank has told: journal and event files. Blocks.
    pub(super) fn sync_told(&self, rank: u32) -> io::Result<()> {
        let folder = self.folder_of(rank);
        let events = folder.tensorboard();
        let events = entries(&events)?.map(|entry| entry.map(|entry| entry.path()));
        for path in [Ok(folder.journal())].into_iter().chain(events) {
            if let Some(file) = present(fs::File::open(path?))? {
                file.sync_data()?;
            }
        }
        Ok(())
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

/// The bytes that an event file may have beside the others, which may have `most` together.
fn room_of(folder: &Path, path: &Path, most: u64) -> io::Result<u64> {
    let (mut others, mut count) = (0u64, 0);
    for entry in entries(folder)? {
        let entry = entry?;
        if entry.path() != path {
            others = others.saturating_add(entry.metadata()?.len());
            count += 1;
        }
    }
    Ok(if count < MOST_EVENT_FILES { most.saturating_sub(others) } else { 0 })
}

/// Adds a piece to a file that has `before` bytes of earlier attempts, and may have `most` in all:
/// what is beyond them is dropped. Returns the bytes of this attempt that have come.
fn append(path: &Path, before: u64, most: u64, piece: &Piece, group_reads: bool) -> io::Result<u64> {
    let end = piece.offset.saturating_add(piece.data.len() as u64);
    if most == 0 {
        return Ok(end);
    }
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    let mut length = file.metadata()?.len();
    if length == 0 && group_reads {
        file.set_permissions(Permissions::from_mode(0o640))?;
    }
    let have = length.saturating_sub(before);
    if let Some(known) = have.checked_sub(piece.offset)
        && let Some(news) = usize::try_from(known).ok().and_then(|known| piece.data.get(known..))
    {
        let room = usize::try_from(most.saturating_sub(length)).unwrap_or(usize::MAX);
        let kept = &news[..news.len().min(room)];
        if kept.len() < news.len() && room > 0 {
            tracing::warn!(file = %path.display(), most, "a rank writes more than the settings allow; the rest is dropped");
        }
        // A full disk may have taken a part of it, from whose end it is sent again.
        let written = file.write_all(kept);
        length = file.metadata()?.len();
        written?;
    }
    let have = length.saturating_sub(before);
    // Whatever has come of a file that is full counts, or it would come again.
    Ok(if length >= most { have.max(end) } else { have })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_once_whatever_comes_twice_or_too_early() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        fs::write(&path, "before").unwrap();
        let push = |offset, data: &str| {
            let piece = Piece { file: String::new(), offset, data: data.into(), after_step: 0 };
            append(&path, 6, u64::MAX, &piece, false).unwrap()
        };
        assert_eq!(push(0, "abc"), 3);
        assert_eq!(push(0, "abc"), 3, "twice");
        assert_eq!(push(5, "xyz"), 3, "too early");
        assert_eq!(push(1, "bcde"), 5, "a part of it is news");
        assert_eq!(push(2, "c"), 5, "old");
        assert_eq!(push(5, ""), 5, "nothing");
        assert_eq!(fs::read_to_string(&path).unwrap(), "beforeabcde");
    }

    #[test]
    fn what_a_file_may_not_have_is_dropped_and_does_not_come_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runner.log");
        let push = |offset, data: &str, most| {
            let piece = Piece { file: String::new(), offset, data: data.into(), after_step: 0 };
            append(&path, 0, most, &piece, false).unwrap()
        };
        assert_eq!(push(0, "abc", 5), 3);
        assert_eq!(push(3, "defg", 5), 7, "two of these are kept");
        assert_eq!(push(7, "hi", 5), 9);
        assert_eq!(push(3, "d", 5), 5, "a daemon that has forgotten what it dropped");
        assert_eq!(push(5, "fghi", 5), 9);
        assert_eq!(fs::read_to_string(&path).unwrap(), "abcde");
        fs::write(folder.path().join("other"), "1234").unwrap();
        assert_eq!(room_of(folder.path(), &path, 6).unwrap(), 2, "all event files share the room");
        assert_eq!(room_of(folder.path(), &path, 3).unwrap(), 0);
        assert_eq!((push(0, "abc", 0), fs::read_to_string(&path).unwrap()), (3, "abcde".into()));
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
