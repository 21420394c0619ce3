//! The lock that tells whether a runner lives, on the file `lock` of the job's folder. A runner
//! holds it from before its first write to its end; a process that declares an attempt over holds
//! it while saying so.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::file_lock::{self, FileLock, Holder};
use super::folder::JobFolder;

/// The signature of a process in its lock. A process id alone is not enough: ids are used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// Process id.
    pub pid: u32,
    /// `/proc/sys/kernel/random/boot_id` when it began.
    pub boot_id: String,
    /// Clock ticks from boot to its start, field 22 of `/proc/<pid>/stat`.
    pub start_time: u64,
    /// The attempt that it runs.
    pub attempt: u32,
}

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct JobLock(FileLock);

impl JobLock {
    /// Takes the lock of a job; None where somebody else has it.
    pub fn take(folder: &JobFolder) -> io::Result<Option<Self>> {
        Self::take_file(&folder.lock())
    }

    /// Takes the lock of the runner's parent, or of the runner; None where somebody else has it.
    pub fn take_file(path: &Path) -> io::Result<Option<Self>> {
        Ok(FileLock::take(path)?.map(Self))
    }

    /// Writes who we are into the lock that we hold.
    pub fn sign(&self, attempt: u32) -> io::Result<Signature> {
        let runner = Signature::this_process(attempt)?;
        self.0.sign(&runner)?;
        Ok(runner)
    }

    /// Whether somebody has moved or removed its file, which was `path`.
    pub fn is_lost(&self, path: &Path) -> bool {
        self.0.is_lost(path)
    }
}

impl Signature {
    /// This process.
    pub fn this_process(attempt: u32) -> io::Result<Self> {
        let Holder { pid, boot_id, start_time } = Holder::this_process()?;
        Ok(Self { pid, boot_id, start_time, attempt })
    }

    /// The process that last signed the lock of a job, alive or not.
    pub fn read(folder: &JobFolder) -> io::Result<Option<Self>> {
        Self::read_file(&folder.lock())
    }

    /// The process that last signed that lock, alive or not.
    pub fn read_file(path: &Path) -> io::Result<Option<Self>> {
        file_lock::read_signature(path)
    }

    /// How long ago it began, independent of the clock; None if it began before this boot.
    pub fn age(&self) -> io::Result<Option<Duration>> {
        file_lock::age(&self.boot_id, self.start_time)
    }

    /// Whether the process of that id is still the one that signed. An error where that cannot be
    /// told now.
    pub fn is_running(&self) -> io::Result<bool> {
        file_lock::is_running(self.pid, &self.boot_id, self.start_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_free_when_its_holder_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let folder = JobFolder::new(folder.path().into());
        let lock = JobLock::take(&folder).unwrap().unwrap();
        assert!(JobLock::take(&folder).unwrap().is_none());
        let signed = lock.sign(3).unwrap();
        assert!(signed.is_running().unwrap());
        assert!(!lock.is_lost(&folder.lock()));
        let (moved, other) = (folder.path().join("moved"), folder.path().join("other"));
        std::fs::rename(folder.lock(), &moved).unwrap();
        assert!(lock.is_lost(&folder.lock()), "moved");
        std::fs::write(&other, "").unwrap();
        std::fs::rename(&other, folder.lock()).unwrap();
        assert!(lock.is_lost(&folder.lock()), "another one in its place");
        std::fs::rename(&moved, folder.lock()).unwrap();
        drop(lock);
        assert!(JobLock::take(&folder).unwrap().is_some());
        assert_eq!(Signature::read(&folder).unwrap(), Some(signed));
    }

    #[test]
    fn a_process_id_that_was_used_again_is_not_taken_for_the_runner() {
        let this = Signature::this_process(1).unwrap();
        assert!(!Signature { start_time: this.start_time + 1, ..this.clone() }.is_running().unwrap());
        assert!(!Signature { boot_id: "other".into(), ..this }.is_running().unwrap());
    }
}
