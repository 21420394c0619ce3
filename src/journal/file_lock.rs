//! A lock on a file that tells who lives: an open-file-description lock (fcntl(2), F_OFD_SETLK). It
//! is free the moment its holder is gone, however it went. Whether it is held can be asked without
//! taking it (F_OFD_GETLK), so that asking disturbs nobody. The kernel does not tell who holds it;
//! the holder writes that into the file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::beneath::present;
use crate::node::process_stat;

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Takes the lock on a file, which is made where it is not there; None where somebody else has
    /// it.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        // Not truncated: it holds the signature of the holder. The mode keeps other users from
        // locking it.
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
            Ok(_) => Ok(Some(Self { file })),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes who we are into the lock that we hold.
    pub fn sign(&self, who: &impl Serialize) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all_at(&serde_json::to_vec(who)?, 0)
    }

    /// Whether its file is no longer the one at `path`: somebody has moved or removed it, and
    /// nobody finds the lock any more.
    pub fn is_lost(&self, path: &Path) -> bool {
        let place = |file: fs::Metadata| (file.dev(), file.ino());
        match (self.file.metadata(), present(fs::metadata(path))) {
            (Ok(ours), Ok(Some(found))) => place(ours) != place(found),
            (_, Ok(None)) => true,
            // That cannot be told now.
            (_, Err(_)) | (Err(_), Ok(Some(_))) => false,
        }
    }
}

/// Whether a process holds the lock on a file, asked and not tried. A file that does not exist is
/// not held. A shared lock does not count: torchd takes none, and every reader of the file could.
pub fn is_held(path: &Path) -> io::Result<bool> {
    let Some(file) = present(File::open(path))? else { return Ok(false) };
    let mut answer = whole_file(libc::F_RDLCK);
    fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut answer))?;
    Ok(i32::from(answer.l_type) != libc::F_UNLCK)
}

/// The processes that hold the lock on a file, as the kernel lists it (`lock:` in
/// `/proc/<pid>/fdinfo/<fd>`, proc(5)), without this one. Processes of other users are not seen,
/// unless we are root.
pub fn holders(path: &Path) -> io::Result<Vec<u32>> {
    let place = |file: fs::Metadata| (file.dev(), file.ino());
    let wanted = place(fs::metadata(path)?);
    let holds = |process: &Path| -> io::Result<bool> {
        for descriptor in fs::read_dir(process.join("fd"))? {
            let descriptor = descriptor?;
            // It may be closed by now.
            if fs::metadata(descriptor.path()).is_ok_and(|file| place(file) == wanted) {
                let about = process.join("fdinfo").join(descriptor.file_name());
                let about = fs::read_to_string(about).unwrap_or_default();
                let is_lock =
                    |line: &str| line.starts_with("lock:") && line.contains("OFDLCK") && line.contains("WRITE");
                if about.lines().any(is_lock) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has ended, or is another user's, cannot be looked into.
        if pid != std::process::id() && holds(&entry.path()).unwrap_or(false) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// The process that last signed the lock on a file, alive or not; None if none has.
///
/// # Errors
/// `InvalidData` where something else than a signature stands there.
pub(super) fn read_signature<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let Some(bytes) = present(fs::read(path))?.filter(|bytes| !bytes.is_empty()) else { return Ok(None) };
    let signature = serde_json::from_slice(&bytes);
    signature.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// A process, as it signs. A process id alone is not enough: ids are used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// `/proc/sys/kernel/random/boot_id` when it began.
    pub boot_id: String,
    /// Clock ticks from boot to its start, field 22 of `/proc/<pid>/stat`.
    pub start_time: u64,
}

impl Holder {
    /// This process.
    pub fn this_process() -> io::Result<Self> {
        let pid = std::process::id();
        Ok(Self { pid, boot_id: boot_id()?, start_time: process_stat(pid)?.start_time })
    }

    /// The process that last signed the lock on a file, alive or not; None if none has.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        read_signature(path)
    }

    /// Whether the process of that id is still the one that signed. An error where that cannot be
    /// told now.
    pub fn is_running(&self) -> io::Result<bool> {
        is_running(self.pid, &self.boot_id, self.start_time)
    }
}

/// How long ago a process began, by the time since boot, which cannot be set; None if it began
/// before this boot.
pub(super) fn age(boot: &str, start: u64) -> io::Result<Option<Duration>> {
    if boot_id()? != boot {
        return Ok(None);
    }
    let odd = |what: &str| io::Error::other(format!("{what} cannot be told"));
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.filter(|ticks| *ticks > 0);
    let began = start as f64 / ticks.ok_or_else(|| odd("the ticks of a second"))? as f64;
    let uptime = fs::read_to_string("/proc/uptime")?;
    let uptime = uptime.split_whitespace().next().and_then(|seconds| seconds.parse::<f64>().ok());
    let age = uptime.ok_or_else(|| odd("the time since boot"))? - began;
    Ok(Some(Duration::try_from_secs_f64(age.max(0.0)).unwrap_or_default()))
}

/// Whether the process of that id is still the one that began then. An error where that cannot be
/// told now.
pub(super) fn is_running(pid: u32, boot: &str, start: u64) -> io::Result<bool> {
    if boot_id()? != boot {
        return Ok(false);
    }
    match process_stat(pid) {
        Ok(found) => Ok(found.start_time == start),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        // It ended while it was looked at.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(error) => Err(error),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_tells_whether_a_lock_is_held_and_takes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(!is_held(&path).unwrap());
        assert!(!path.exists(), "asking makes no file");
        let lock = FileLock::take(&path).unwrap().unwrap();
        assert!(is_held(&path).unwrap());
        assert!(FileLock::take(&path).unwrap().is_none());
        drop(lock);
        assert!(!is_held(&path).unwrap());
        assert!(FileLock::take(&path).unwrap().is_some());
    }

    #[test]
    fn a_lock_whose_folder_is_now_a_file_is_neither_held_nor_signed_and_lost() {
        let folder = tempfile::tempdir().unwrap();
        let (job, moved) = (folder.path().join("job"), folder.path().join("moved"));
        fs::create_dir(&job).unwrap();
        let path = job.join("lock");
        let lock = FileLock::take(&path).unwrap().unwrap();
        fs::rename(&job, &moved).unwrap();
        fs::write(&job, "").unwrap();
        assert_eq!(File::open(&path).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert!(!is_held(&path).unwrap() && lock.is_lost(&path) && Holder::read(&path).unwrap().is_none());
        fs::remove_file(&job).unwrap();
        std::os::unix::fs::symlink(&job, &job).unwrap();
        assert!(is_held(&path).is_err() && Holder::read(&path).is_err(), "that cannot be told");
        assert!(!lock.is_lost(&path));
    }

    #[test]
    fn a_shared_lock_of_a_reader_is_not_taken_for_a_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        drop(FileLock::take(&path).unwrap());
        let reader = File::open(&path).unwrap();
        fcntl(reader.as_fd(), FcntlArg::F_OFD_SETLK(&whole_file(libc::F_RDLCK))).unwrap();
        assert!(!is_held(&path).unwrap());
        assert!(FileLock::take(&path).unwrap().is_none());
        let mode = fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }

    #[test]
    fn who_signed_can_be_read_and_a_shorter_signature_leaves_nothing_of_a_longer_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert_eq!(Holder::read(&path).unwrap(), None);
        let lock = FileLock::take(&path).unwrap().unwrap();
        assert_eq!(Holder::read(&path).unwrap(), None);
        let this = Holder::this_process().unwrap();
        lock.sign(&Holder { boot_id: "0".repeat(1000), ..this.clone() }).unwrap();
        lock.sign(&this).unwrap();
        assert_eq!(Holder::read(&path).unwrap(), Some(this.clone()));
        assert!(this.is_running().unwrap());
        assert!(age(&this.boot_id, this.start_time).unwrap().is_some_and(|age| age < Duration::from_secs(3600)));
        assert!(age(&this.boot_id, 0).unwrap() > age(&this.boot_id, this.start_time).unwrap());
        assert_eq!(age("another boot", this.start_time).unwrap(), None);
        assert!(!Holder { start_time: this.start_time + 1, ..this.clone() }.is_running().unwrap());
        let most = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap().trim().parse::<u32>().unwrap();
        assert!(!Holder { pid: most + 1, ..this }.is_running().unwrap(), "no process has that id");
        fs::write(&path, "no signature").unwrap();
        assert_eq!(Holder::read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn who_holds_a_lock_is_found_whatever_stands_in_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = FileLock::take(&path).unwrap().unwrap();
        assert_eq!(holders(&path).unwrap(), Vec::<u32>::new(), "not counting this process");
        // The descriptor is shared by a child that keeps it as its standard input.
        let shared = lock.file.try_clone().unwrap();
        let mut child = std::process::Command::new("sleep").arg("1000").stdin(shared).spawn().unwrap();
        let found = holders(&path);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.unwrap(), [child.id()]);
    }
}
