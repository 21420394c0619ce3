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
    pub async fn place_for(&self, id: &JobId, needed: u64) -> Result<FilesPlace, JobError> {
        if let Some(limit) = self.settings.quotas.bytes {
            let owner = self.get(id).await?.job.owner.clone();
            let held = self.held_of(&owner).await?;
            if held.saturating_add(needed) > limit {
                return Err(JobError::OwnerHasNoRoom { owner, needed, held, limit });
            }
        }
        let state = self.settings.max_state_bytes.unwrap_or(u64::MAX).saturating_sub(self.held_bytes());
        Ok(FilesPlace { jobs_dir: self.settings.jobs_dir.clone(), promised: self.promised.clone(), needed, state })
    }
}

/// The place of files that are about to come.
#[derive(Debug)]
pub struct FilesPlace {
    jobs_dir: PathBuf,
    promised: Promised,
    needed: u64,
    state: u64,
}

impl FilesPlace {
    /// Promises room for the files, where that is left. Blocks.
    pub fn promise(self) -> Result<Promise, JobError> {
        let left = || Ok(Left { state: self.state, disk: Folder::open(&self.jobs_dir)?.free_bytes()? });
        self.promised.room(self.needed, left)
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
    needed: u64,
    unwritten: u64,
}

impl Promised {
    /// Promises room for a copy, if that is left beside what others were promised. `left` looks at
    /// what there is.
    pub(super) fn room(&self, needed: u64, left: impl FnOnce() -> io::Result<Left>) -> Result<Promise, JobError> {
        // Others wait while we look: each of two that looked at once would find room.
        let mut sums = self.sums();
        let Left { state, disk } = left().map_err(JobError::folder("the room on the disk cannot be told"))?;
        let left = state.saturating_sub(sums.copies).min(disk.saturating_sub(sums.unwritten));
        if needed > left {
            return Err(JobError::NoRoom { needed, left });
        }
        sums.copies = sums.copies.saturating_add(needed);
        sums.unwritten = sums.unwritten.saturating_add(needed);
        Ok(Promise { to: self.clone(), needed, unwritten: needed })
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
        sums.copies -= self.needed;
        sums.unwritten -= self.unwritten;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_copy_was_promised_no_other_gets() {
        let promised = Promised::default();
        let ask = |needed, state, disk| promised.room(needed, || Ok(Left { state, disk }));
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
}
