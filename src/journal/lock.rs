//! The lock that tells who lives: an open-file-description lock (fcntl(2), F_OFD_SETLK) on the file `lock` of the job's
//! folder. It is free the moment its holder is gone, however it went. A runner holds it from before its first write to its end;
//! whoever declares an attempt over holds it while saying so.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use serde::{Deserialize, Serialize};

use super::folder::JobFolder;

/// Who holds the lock. A process id alone is not enough: ids are used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runner {
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
pub struct JobLock {
    file: File,
}

impl JobLock {
    /// Takes the lock of a job; None where somebody else has it.
    pub fn take(folder: &JobFolder) -> io::Result<Option<Self>> {
        Self::take_file(&folder.lock())
    }

    /// Takes the lock of a file; None where somebody else has it.
    pub fn take_file(path: &Path) -> io::Result<Option<Self>> {
        // Not truncated: the words of the holder stand in it.
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
            Ok(_) => Ok(Some(Self { file })),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes who we are into the lock that we hold.
    pub fn sign(&self, attempt: u32) -> io::Result<Runner> {
        let runner = Runner::this_process(attempt)?;
        self.file.set_len(0)?;
        (&self.file).write_all(&serde_json::to_vec(&runner)?)?;
        Ok(runner)
    }
}

impl Runner {
    /// This process.
    pub fn this_process(attempt: u32) -> io::Result<Self> {
        let pid = std::process::id();
        Ok(Self { pid, boot_id: boot_id()?, start_time: start_time(pid)?, attempt })
    }

    /// Who last signed the lock of a job, alive or not.
    pub fn read(folder: &JobFolder) -> io::Result<Option<Self>> {
        Self::read_file(&folder.lock())
    }

    /// Who last signed a lock, alive or not.
    pub fn read_file(path: &Path) -> io::Result<Option<Self>> {
        match fs::read(path) {
            Ok(bytes) if bytes.is_empty() => Ok(None),
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the process of that id is still the one that signed.
    pub fn is_running(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot_id)
            && start_time(self.pid).is_ok_and(|start| start == self.start_time)
    }
}

/// Whether somebody holds the lock of a file. Asked, never tried by taking it: who asks keeps nobody from it. A file that is not there
/// is held by nobody.
pub fn is_held(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut asked = whole_file(libc::F_WRLCK);
    fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut asked))?;
    Ok(asked.l_type != libc::F_UNLCK as libc::c_short)
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn start_time(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything; the state follows the last one and is field 3.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name
        .split_whitespace()
        .nth(22 - 3)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has no start time")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_free_when_its_holder_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let folder = JobFolder::new(folder.path().into());
        assert!(!is_held(&folder.lock()).unwrap(), "not even there");
        let lock = JobLock::take(&folder).unwrap().unwrap();
        assert!(JobLock::take(&folder).unwrap().is_none());
        assert!(is_held(&folder.lock()).unwrap());
        let signed = lock.sign(3).unwrap();
        assert!(signed.is_running());
        drop(lock);
        assert!(!is_held(&folder.lock()).unwrap());
        assert!(JobLock::take(&folder).unwrap().is_some());
        assert_eq!(Runner::read(&folder).unwrap(), Some(signed));
    }

    #[test]
    fn a_process_id_that_was_used_again_is_not_taken_for_the_runner() {
        let this = Runner::this_process(1).unwrap();
        assert!(!Runner { start_time: this.start_time + 1, ..this.clone() }.is_running());
        assert!(!Runner { boot_id: "other".into(), ..this }.is_running());
    }
}
