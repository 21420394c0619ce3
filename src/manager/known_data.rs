//! The facts and fingerprints of data files that have not changed since they were judged: a
//! thousand requests for the same files read them once. A runner judges once more what it trains
//! on.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::dataset::{DataFile, Fault, Judged, OpenFiles, Selection};
use crate::gate::Wanted;
use crate::journal::FileState;

/// Sets, and states of files, that are remembered.
const MOST_SETS: usize = 64;
/// The clock of file systems is coarse: what was changed just now may change again without being
/// seen.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Sets of examples that were judged lately.
#[derive(Debug)]
pub(super) struct KnownData {
    /// The newest last.
    sets: Mutex<VecDeque<Known>>,
    /// The newest last.
    states: Mutex<VecDeque<(Stamp, FileState)>>,
    settled_after: Duration,
}

impl Default for KnownData {
    fn default() -> Self {
        Self { sets: Mutex::default(), states: Mutex::default(), settled_after: SETTLED_AFTER }
    }
}

/// A selection with the stamps of its files, and the verdict.
#[derive(Debug)]
struct Known {
    selection: Selection,
    stamps: Vec<Stamp>,
    judged: Judged,
}

/// Facts that change when a file changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of a file; None where it was changed too short a time ago. A folder has none: what
    /// changes in it shows nowhere.
    fn of(file: &DataFile, settled_after: Duration) -> io::Result<Option<Self>> {
        if file.as_folder().is_some() {
            return Ok(None);
        }
        let about = file.metadata()?;
        let stamp = Self {
            device: about.dev(),
            inode: about.ino(),
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        };
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(about.ctime()).unwrap_or(0));
        Ok(changed.elapsed().is_ok_and(|age| age >= settled_after).then_some(stamp))
    }
}

impl KnownData {
    /// The facts of the sets: those that are remembered, or those that `judge` finds.
    pub(super) fn judge(
        &self,
        selection: &Selection,
        files: &OpenFiles,
        judge: impl FnOnce() -> Result<Judged, Vec<Fault>>,
    ) -> Result<Judged, Vec<Fault>> {
        let stamp = |file| Stamp::of(file, self.settled_after).ok().flatten();
        let stamps = || files.train.iter().chain(&files.validation).map(stamp).collect::<Option<Vec<_>>>();
        let before = stamps();
        let sets = || self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |known: &Known, stamps: &[Stamp]| known.selection == *selection && known.stamps == stamps;
        if let Some(before) = &before
            && let Some(known) = sets().iter().find(|known| is_same(known, before))
        {
            return Ok(known.judged.clone());
        }
        let judged = judge()?;
        if let Some(stamps) = before.filter(|before| stamps().as_ref() == Some(before)) {
            let mut sets = sets();
            sets.retain(|known| !is_same(known, &stamps));
            if sets.len() == MOST_SETS {
                sets.pop_front();
            }
            sets.push_back(Known { selection: selection.clone(), stamps, judged: judged.clone() });
        }
        Ok(judged)
    }

    /// The files as they lie on the disk. Blocks: it may have to read them.
    pub(super) fn states(&self, opened: &[DataFile], wanted: &Wanted) -> io::Result<Vec<FileState>> {
        opened.iter().map(|file| self.state(file, wanted)).collect()
    }

    fn state(&self, file: &DataFile, wanted: &Wanted) -> io::Result<FileState> {
        let states = || self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let before = Stamp::of(file, self.settled_after)?;
        let is_it = |(stamp, state): &(Stamp, FileState)| Some(*stamp) == before && state.path == file.path();
        if let Some((_, state)) = states().iter().find(|known| is_it(known)) {
            return Ok(state.clone());
        }
        let state = FileState::of(file, || wanted.check())?;
        if let Some(stamp) = before.filter(|before| Stamp::of(file, self.settled_after).ok().flatten() == Some(*before))
        {
            let mut states = states();
            states.retain(|known| !is_it(known));
            if states.len() == MOST_SETS {
                states.pop_front();
            }
            states.push_back((stamp, state.clone()));
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::dataset::{Files, idx};

    #[test]
    fn files_are_read_once_until_they_change_and_those_that_changed_just_now_are_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().canonicalize().unwrap().join(name);
        let inspect = |known: &KnownData| {
            let train = Files::Idx(idx::Files { images: path("images").into(), labels: Some(path("labels").into()) });
            let train_opened = train.paths().into_iter().map(|path| DataFile::open(path).unwrap()).collect();
            let (selection, files) = (Selection::of(train), OpenFiles { train: train_opened, validation: Vec::new() });
            let (_caller, wanted) = Wanted::by_caller();
            known.judge(&selection, &files, || selection.judge(&files, &wanted)).unwrap().train.examples
        };
        let write = |count: u8| {
            let mut images = vec![0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 1, 0, 0, 0, 1];
            images.extend(vec![7; usize::from(count)]);
            let mut labels = vec![0, 0, 8, 1, 0, 0, 0, count];
            labels.extend(vec![1; usize::from(count)]);
            fs::write(path("images"), images).unwrap();
            fs::write(path("labels"), labels).unwrap();
        };
        let state = |known: &KnownData| {
            let (_caller, wanted) = Wanted::by_caller();
            let opened = [DataFile::open(&path("labels")).unwrap()];
            known.states(&opened, &wanted).unwrap()
        };
        write(2);
        let wary = KnownData { settled_after: Duration::from_secs(3600), ..KnownData::default() };
        assert_eq!(inspect(&wary), 2);
        let two = state(&wary);
        assert!(wary.sets.lock().unwrap().is_empty() && wary.states.lock().unwrap().is_empty());

        let known = KnownData { settled_after: Duration::ZERO, ..KnownData::default() };
        assert_eq!(inspect(&known), 2);
        assert_eq!((state(&known), state(&known)), (two.clone(), two.clone()));
        assert_eq!(known.states.lock().unwrap().len(), 1);
        // The facts come from memory.
        known.sets.lock().unwrap()[0].judged.train.examples = 99;
        assert_eq!(inspect(&known), 99);
        write(3);
        assert_eq!(inspect(&known), 3);
        assert_eq!(known.sets.lock().unwrap().len(), 2);
        assert_ne!(state(&known), two);
    }
}
