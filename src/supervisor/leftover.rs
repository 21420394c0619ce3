//! Checks and stops a runner and its shim from outside, also where another daemon started them. A
//! process id is trusted only through a pidfd that was opened before boot id and start time were
//! compared: an id that is used again is never signalled.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal as Os, kill_process_group, pidfd_open, pidfd_send_signal};

use super::is_of_disk;
use crate::job::end::Exit;
use crate::journal::{ExitNote, JobFolder, JobLock, Signature, cut_torn_end, holders, is_held};
use crate::shortage::is_shortage;

/// A killed process is gone within this, or stuck in the kernel. The caller gets an error then, and
/// asks again.
const LIMIT: Duration = Duration::from_secs(5);

/// The processes of an attempt that are alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alive {
    /// A shim; a runner most likely.
    Shim,
    /// A runner whose shim has died. It was told so, and stops by itself.
    RunnerAlone,
    /// Nobody.
    Nobody,
}

/// A request to the runner and its shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// Checkpoint and stop.
    Stop,
    /// The shim kills the runner and everything that it started.
    Kill,
    /// Where the shim does not.
    KillBoth,
}

/// Asks the locks of a job who lives. `runner` is who has signed as its runner, where that is
/// known: where somebody has removed the locks, its shim needs a moment to notice, and nobody finds
/// it by them.
pub(super) fn alive(folder: &JobFolder, runner: Option<&Signature>) -> io::Result<Alive> {
    if is_held(&folder.shim())? {
        return Ok(Alive::Shim);
    }
    let is_alone = is_held(&folder.lock())? || runner.map(process).transpose()?.flatten().is_some();
    Ok(if is_alone { Alive::RunnerAlone } else { Alive::Nobody })
}

/// Signals a runner through its shim, or by itself where it has none. `shim` is the shim's id where
/// it is our child, not reaped yet.
pub(super) fn signal(folder: &JobFolder, shim: Option<u32>, signal: Signal) -> io::Result<()> {
    let os = match signal {
        Signal::Stop => Os::TERM,
        Signal::Kill => Os::USR1,
        Signal::KillBoth => Os::KILL,
    };
    let is_ours = shim.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let is_there = match is_ours {
        Some(pid) => {
            rustix::process::kill_process(pid, os)?;
            true
        }
        None => send(holder(&folder.shim())?, os)?,
    };
    if !is_there || signal == Signal::KillBoth {
        let os = if signal == Signal::Stop { Os::TERM } else { Os::KILL };
        send(holder(&folder.lock())?, os)?;
    }
    Ok(())
}

/// A process that cannot be mistaken for another one.
struct Process {
    pid: Pid,
    descriptor: OwnedFd,
}

/// The process that signed; None where it has ended, reaped or not.
fn process(signed: &Signature) -> io::Result<Option<Process>> {
    let found = open(signed.pid)?;
    // Opened before it is compared: from here on the id is its own.
    Ok(if signed.is_running()? { found } else { None })
}

/// The process of that id; None where there is none, or it has ended.
fn open(pid: u32) -> io::Result<Option<Process>> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(descriptor) => descriptor,
        Err(Errno::SRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let has_ended = poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&Timespec::default()))? > 0;
    Ok((!has_ended).then_some(Process { pid, descriptor }))
}

/// The process that holds a lock; None where nobody does. Its signature tells who that is. Where
/// somebody has written something else there, or it has not signed yet, the kernel does.
fn holder(lock: &Path) -> io::Result<Option<Process>> {
    if !is_held(lock)? {
        return Ok(None);
    }
    let signed = match Signature::read_file(lock) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
        signed => signed?,
    };
    if let Some(found) = signed.as_ref().map(process).transpose()?.flatten() {
        return Ok(Some(found));
    }
    for pid in holders(lock)? {
        let Some(found) = open(pid)? else { continue };
        // As above.
        if holders(lock)?.contains(&pid) {
            return Ok(Some(found));
        }
    }
    if !is_held(lock)? {
        return Ok(None);
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, format!("it cannot be told who holds {}", lock.display())))
}

/// Signals a process; with SIGKILL its group too. Whether it is there.
fn send(process: Option<Process>, signal: Os) -> io::Result<bool> {
    let Some(Process { pid, descriptor }) = process else { return Ok(false) };
    match pidfd_send_signal(&descriptor, signal) {
        Ok(()) => {}
        Err(Errno::SRCH) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    if signal == Os::KILL {
        // It leads its group; while it is not reaped, its id, and so that of the group, is not used
        // again.
        let _ = kill_process_group(pid, Os::KILL);
        wait(&descriptor)?;
    }
    Ok(true)
}

/// Waits for the end of a process, within reason; whether it has ended.
fn wait(process: &OwnedFd) -> io::Result<bool> {
    let limit = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
    Ok(poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit))? > 0)
}

/// Why it cannot be said that an attempt is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotOver {
    /// Somebody may live: the lock is held, or cannot be asked for now. It is to be tried again.
    #[error("whether the runner still lives cannot be told: {0}")]
    Undetermined(io::Error),
    /// Nobody lives, and the job's folder does not take the note of that.
    #[error("the end of the runner could not be noted: {0}")]
    Unnoted(io::Error),
}

/// Says that an attempt is over, so that a runner which begins late leaves at once, and tells how
/// it ended as far as anybody saw it. Blocks; a process that still runs for it is killed.
pub(super) fn end(folder: &JobFolder, attempt: u32) -> Result<Exit, NotOver> {
    let begun = Instant::now();
    let lock = loop {
        match JobLock::take(folder) {
            Ok(Some(lock)) => break lock,
            Ok(None) => {}
            // There is no folder in which anybody could hold it.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(NotOver::Unnoted(error));
            }
            // Also on a disk that takes nothing any more it can be asked whether somebody holds it.
            Err(error) if is_of_disk(&error) => {
                return Err(match alive(folder, None) {
                    Ok(Alive::Nobody) => NotOver::Unnoted(error),
                    Ok(Alive::Shim | Alive::RunnerAlone) => NotOver::Undetermined(error),
                    Err(error) => NotOver::Undetermined(error),
                });
            }
            Err(error) => return Err(NotOver::Undetermined(error)),
        }
        // A shim may hold it for the moment in which it writes the note. A signature that nobody
        // can read is looked at again.
        if !is_held(&folder.shim()).map_err(NotOver::Undetermined)?
            && let Ok(Some(signed)) = Signature::read(folder)
            && send(process(&signed).map_err(NotOver::Undetermined)?, Os::KILL).map_err(NotOver::Undetermined)?
        {
            tracing::warn!(attempt, "a runner that nobody looks after was killed");
        }
        if begun.elapsed() > LIMIT {
            let words = format!("somebody still holds {}; `lsof` tells who", folder.lock().display());
            return Err(NotOver::Undetermined(io::Error::new(io::ErrorKind::ResourceBusy, words)));
        }
        // Between the taking of the lock and its signature, and between the end of a process and
        // that of its files.
        sleep(Duration::from_millis(10));
    };
    let noted = match ExitNote::read(folder) {
        Ok(note) => note.filter(|note| note.attempt == attempt),
        Err(error) if is_shortage(&error) => return Err(NotOver::Undetermined(error)),
        // That it is over is certain all the same.
        Err(_) => None,
    };
    if noted.is_none()
        && let Some(signed) = Signature::read(folder).ok().flatten().filter(|signed| signed.attempt == attempt)
        && let Some(Process { descriptor, .. }) = process(&signed).map_err(NotOver::Undetermined)?
        // A process that ends gives its locks back before its memory, and that on a GPU.
        && !wait(&descriptor).map_err(NotOver::Undetermined)?
    {
        let words = format!("process {} has given its lock back and does not end", signed.pid);
        return Err(NotOver::Undetermined(io::Error::new(io::ErrorKind::ResourceBusy, words)));
    }
    match cut_torn_end(folder, &lock) {
        Ok(true) => tracing::warn!(attempt, "the end of the journal was half-written, and was cut off"),
        Ok(false) => {}
        // The reader of the journal reports its damage.
        Err(error) => tracing::error!(attempt, %error, "the journal cannot be looked through"),
    }
    // Before anything is written: the disk may be full of just that.
    if let Err(error) = folder.sweep(&lock) {
        tracing::warn!(attempt, %error, "what the runner has left half-written cannot be removed");
    }
    let Some(note) = noted else {
        ExitNote::new(attempt, Exit::Unknown).write(folder).map_err(NotOver::Unnoted)?;
        return Ok(Exit::Unknown);
    };
    Ok(note.exit())
}
