//! The folder of a mailbox, open, and the threads that work in it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::beneath::Folder;

/// Threads that one mailbox may keep waiting for its file system, beside the one that looks.
const OF_ONE: usize = 8;
/// ... and all mailboxes of a storage: others need threads too.
const OF_STORAGE: usize = 48;

static STORAGES: Mutex<BTreeMap<PathBuf, Arc<Semaphore>>> = Mutex::new(BTreeMap::new());

/// The folder of a mailbox.
pub struct Opened {
    pub(super) folder: Folder,
    /// The group of the storage may read and write letters.
    pub(super) is_for_group: bool,
}

impl Opened {
    /// Opens a mailbox in a storage; no link is followed. Letters are for the group where the
    /// storage hands its group on and the mailbox does so too: the storage is the operator's, and
    /// other writers there could replace a mailbox by a folder of their own.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn beneath(storage: &Folder, name: &str) -> io::Result<Self> {
        let folder = storage.folder(name)?;
        let is_for_group =
            storage.hands_group_on()? && folder.hands_group_on()? && folder.group()? == storage.group()?;
        Ok(Self { folder, is_for_group })
    }
}

/// Does blocking work for one mailbox, on few threads; cheap to clone.
#[derive(Clone)]
pub(super) struct Threads {
    own: Arc<Semaphore>,
    of_storage: Arc<Semaphore>,
}

impl Threads {
    /// Those for a mailbox in that storage.
    pub(super) fn of(storage: &Path) -> Self {
        let mut all = STORAGES.lock().unwrap_or_else(PoisonError::into_inner);
        let of_storage = all.entry(storage.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(OF_STORAGE)));
        Self { own: Arc::new(Semaphore::new(OF_ONE)), of_storage: of_storage.clone() }
    }

    /// Runs the work once a thread is free. It runs to its end even if the caller stops waiting.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let own = self.own.clone().acquire_owned().await.map_err(io::Error::other)?;
        let shared = self.of_storage.clone().acquire_owned().await.map_err(io::Error::other)?;
        let done = tokio::task::spawn_blocking(move || {
            let _turn = (own, shared);
            work()
        });
        done.await.map_err(io::Error::other)?
    }
}

/// Runs a look without a turn: each mailbox has one look at a time.
pub(super) async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
