//! How much the jobs' folders hold, measured at an interval, and how much copies in the making will
//! add. Beyond the limit of the settings no job is taken, and no copy is begun.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::{JobError, Manager};
use crate::beneath::{Folder, bytes_below};
use crate::job::JobId;

/// From one measurement to the next.
const MEASURE_EVERY: Duration = Duration::from_secs(30);

/// Measures until nobody wants to know.
pub(super) async fn measure(jobs_dir: PathBuf, told: watch::Sender<Arc<HeldBytes>>) {
    loop {
        let place = jobs_dir.clone();
        let measured = tokio::task::spawn_blocking(move || HeldBytes::below(&place)).await;
        match measured.map_err(io::Error::other).flatten() {
            Ok(held) => drop(told.send_replace(Arc::new(held))),
            Err(error) => tracing::error!(%error, "how much the jobs' folders hold cannot be measured"),
        }
        tokio::select! {
            () = told.closed() => return,
            () = tokio::time::sleep(MEASURE_EVERY) => {}
        }
    }
}

impl Manager {
    /// The bytes in the jobs' folders, as last measured.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.borrow().total()
    }

    /// The place of files of a job that come from another machine, where its owner may have them.
    /// Once they are there, `freed` bytes of the job go away.
    pub async fn place_for(&self, id: &JobId, needed: u64, freed: u64) -> Result<FilesPlace, JobError> {
        let more = needed.saturating_sub(freed);
        if let Some(limit) = self.settings.quotas.bytes {
            let owner = self.get(id).await?.job.owner.clone();
            let held = self.held_of(&owner).await?;
            if more > limit.saturating_sub(held) {
                return Err(JobError::OwnerHasNoRoom { owner, needed, held, limit });
            }
        }
        let state = self.settings.max_state_bytes.unwrap_or(u64::MAX).saturating_sub(self.held_bytes());
        let (jobs_dir, promised) = (self.settings.jobs_dir.clone(), self.promised.clone());
        Ok(FilesPlace { jobs_dir, promised, needed, more, state })
    }
}

/// The place of files that are about to come.
#[derive(Debug)]
pub struct FilesPlace {
    jobs_dir: PathBuf,
    promised: Promised,
    needed: u64,
    more: u64,
    state: u64,
}

impl FilesPlace {
    /// Promises room for the files, where that is left. Blocks.
    pub fn promise(self) -> Result<Promise, JobError> {
        let left = || Ok(Left { state: self.state, disk: Folder::open(&self.jobs_dir)?.free_bytes()? });
        self.promised.room("the files that a rank brings have", Wanting { disk: self.needed, state: self.more }, left)
    }
}

/// Bytes in the jobs' folders, by the names of these.
#[derive(Debug, Default)]
pub(super) struct HeldBytes(HashMap<String, u64>);

impl HeldBytes {
    /// Those below the folder of all of them. What goes away meanwhile does not count.
    fn below(jobs_dir: &Path) -> io::Result<Self> {
        let mut held = HashMap::new();
        for entry in fs::read_dir(jobs_dir)? {
            let entry = entry?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                held.insert(entry.file_name().to_string_lossy().into_owned(), bytes_below(&entry.path())?);
            }
        }
        Ok(Self(held))
    }

    /// All of them.
    pub(super) fn total(&self) -> u64 {
        self.0.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Those of these jobs.
    pub(super) fn of(&self, jobs: &[JobId]) -> u64 {
        let bytes = jobs.iter().filter_map(|id| self.0.get(id.as_str()));
        bytes.fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }
}

/// Bytes that are left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    /// Of what the jobs' folders may hold, as last measured.
    pub(super) state: u64,
    /// On their disk.
    pub(super) disk: u64,
}

/// Bytes that a copy takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanting {
    /// Of the disk, until it is made.
    pub(super) disk: u64,
    /// Of what the jobs' folders may hold, once it is made and what it replaces is gone.
    pub(super) state: u64,
}

impl From<u64> for Wanting {
    fn from(bytes: u64) -> Self {
        Self { disk: bytes, state: bytes }
    }
}

/// The room that copies in the making have been promised; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Promised(Arc<Mutex<Sums>>);

#[derive(Debug, Default)]
struct Sums {
    /// Bytes of all copies in the making, which no measurement need have seen.
    copies: u64,
    /// Those of them that are not on the disk yet.
    unwritten: u64,
}

/// The room for one copy. It is given back when this is dropped.
#[derive(Debug)]
pub struct Promise {
    to: Promised,
    state: u64,
    unwritten: u64,
}

impl Promised {
    /// Promises room for a copy, if that is left beside what others were promised. `files` says
    /// what is copied, for an error; `left` looks at what there is.
    pub(super) fn room(
        &self,
        files: &'static str,
        wanting: impl Into<Wanting>,
        left: impl FnOnce() -> io::Result<Left>,
    ) -> Result<Promise, JobError> {
        let wanting = wanting.into();
        // Others wait while we look: each of two that looked at once would find room.
        let mut sums = self.sums();
        let Left { state, disk } = left().map_err(JobError::folder("the room on the disk cannot be told"))?;
        let (state, disk) = (state.saturating_sub(sums.copies), disk.saturating_sub(sums.unwritten));
        if wanting.state > state || wanting.disk > disk {
            // As many bytes as the whole copy could have.
            let left = state.saturating_add(wanting.disk - wanting.state).min(disk);
            return Err(JobError::NoRoom { files, needed: wanting.disk, left });
        }
        sums.copies = sums.copies.saturating_add(wanting.state);
        sums.unwritten = sums.unwritten.saturating_add(wanting.disk);
        Ok(Promise { to: self.clone(), state: wanting.state, unwritten: wanting.disk })
    }

    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Promise {
    /// So many further bytes of the copy are on the disk.
    pub fn written(&mut self, bytes: u64) {
        let bytes = bytes.min(self.unwritten);
        self.unwritten -= bytes;
        self.to.sums().unwritten -= bytes;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let mut sums = self.to.sums();
        sums.copies -= self.state;
        sums.unwritten -= self.unwritten;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_copy_was_promised_no_other_gets() {
        let promised = Promised::default();
        let ask = |needed: u64, state, disk| promised.room("they have", needed, || Ok(Left { state, disk }));
        let left = |asked| match asked {
            Err(JobError::NoRoom { left, .. }) => left,
            other => panic!("{other:?}"),
        };
        let mut first = ask(60, 100, 100).unwrap();
        assert_eq!(left(ask(60, 100, 100)), 40);
        // Written bytes are missing on the disk already, and in no measurement of the state.
        first.written(50);
        assert_eq!(left(ask(60, 200, 50)), 40);
        assert_eq!(left(ask(60, 100, 1000)), 40);
        let second = ask(40, 100, 50).unwrap();
        drop(first);
        assert_eq!(left(ask(61, 100, 1000)), 60);
        drop(second);
        ask(100, 100, 100).unwrap();
    }

    #[test]
    fn what_goes_away_for_a_copy_makes_room_in_the_state_and_none_on_the_disk() {
        let promised = Promised::default();
        let ask = |disk, state| {
            promised.room("they have", Wanting { disk: 60, state: 10 }, || Ok(Left { state, disk })).map(drop)
        };
        ask(60, 10).unwrap();
        let words = |asked: Result<(), JobError>| asked.unwrap_err().to_string();
        assert!(words(ask(60, 9)).starts_with("they have 60 bytes, and 59 are left"));
        assert!(words(ask(59, 100)).starts_with("they have 60 bytes, and 59 are left"));
    }
}
