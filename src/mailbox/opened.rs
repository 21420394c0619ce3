//! The folder of a mailbox, open, and the threads that work in it.

use std::io;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::beneath::Folder;

/// Threads that one mailbox may keep waiting for its file system.
const OF_ONE: usize = 4;
/// ... and all of them together: others need threads too.
static OF_ALL: Semaphore = Semaphore::const_new(64);

/// The folder of a mailbox.
pub struct Opened {
    pub(super) folder: Folder,
    /// The group of the storage may read and write letters.
    pub(super) is_for_group: bool,
}

impl Opened {
    /// Opens a mailbox in a storage; no link is followed. Letters are for the group where the
    /// storage hands its group on and the mailbox has it: the storage is the operator's, and
    /// whoever can write there could put another folder in the place of a mailbox.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn beneath(storage: &Folder, name: &str) -> io::Result<Self> {
        let folder = storage.folder(name)?;
        let is_for_group = storage.hands_group_on()? && folder.group()? == storage.group()?;
        Ok(Self { folder, is_for_group })
    }
}

/// Does blocking work for one mailbox, on few threads; cheap to clone.
#[derive(Clone)]
pub(super) struct Threads(Arc<Semaphore>);

impl Threads {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(OF_ONE)))
    }

    /// Does it once a thread is free. It goes on where nobody waits for it any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let own = self.0.clone().acquire_owned().await.map_err(io::Error::other)?;
        let shared = OF_ALL.acquire().await.map_err(io::Error::other)?;
        let done = tokio::task::spawn_blocking(move || {
            let _turn = (own, shared);
            work()
        });
        done.await.map_err(io::Error::other)?
    }
}
