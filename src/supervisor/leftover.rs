//! What can be done with a runner and its shim from outside, by whoever did not start them too. A process id is trusted only through a
//! pidfd that was opened before boot id and start time were compared: an id that is used again is never signalled.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal as Os, kill_process_group, pidfd_open, pidfd_send_signal};

use crate::job::end::Exit;
use crate::journal::{ExitNote, JobFolder, JobLock, Runner, cut_torn_end, is_held};

/// A killed process is gone within this, or stuck in the kernel.
const LIMIT: Duration = Duration::from_secs(30);

/// Who lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alive {
    /// A shim; a runner most likely.
    Shim,
    /// A runner whose shim has died. It was told so, and stops by itself.
    RunnerAlone,
    /// Nobody.
    Nobody,
}

/// What to tell them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// Checkpoint and stop.
    Stop,
    /// The shim kills the runner and everything that it started.
    Kill,
    /// Where the shim does not.
    KillBoth,
}

/// Asks the locks of a job who lives.
pub(super) fn alive(folder: &JobFolder) -> io::Result<Alive> {
    if is_held(&folder.shim())? {
        return Ok(Alive::Shim);
    }
    Ok(if is_held(&folder.lock())? { Alive::RunnerAlone } else { Alive::Nobody })
}

/// Signals a runner through its shim, or by itself where it has none. `shim` is the shim's id where it is our child, not reaped yet.
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
        None if is_held(&folder.shim())? => send(Runner::read_file(&folder.shim())?.as_ref(), os)?,
        None => false,
    };
    if !is_there || signal == Signal::KillBoth {
        let os = if signal == Signal::Stop { Os::TERM } else { Os::KILL };
        if is_held(&folder.lock())? {
            send(Runner::read(folder)?.as_ref(), os)?;
        }
    }
    Ok(())
}

/// Signals a process if it is still the one that signed; with SIGKILL its group too. Whether it is there.
fn send(signed: Option<&Runner>, signal: Os) -> io::Result<bool> {
    let Some(signed) = signed else { return Ok(false) };
    let Some(pid) = i32::try_from(signed.pid).ok().and_then(Pid::from_raw) else { return Ok(false) };
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(rustix::io::Errno::SRCH) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if !signed.is_running() {
        return Ok(false);
    }
    match pidfd_send_signal(&process, signal) {
        Ok(()) => {}
        Err(rustix::io::Errno::SRCH) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    if signal == Os::KILL {
        // It leads its group; while it is not reaped, its id, and so that of the group, is not used again.
        let _ = kill_process_group(pid, Os::KILL);
        wait(&process)?;
    }
    Ok(true)
}

/// Waits until a process has ended, within reason.
pub(super) fn wait_for_end_of(signed: &Runner) -> io::Result<()> {
    let Some(pid) = i32::try_from(signed.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) if signed.is_running() => wait(&process),
        Ok(_) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn wait(process: &impl std::os::fd::AsFd) -> io::Result<()> {
    let limit = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit))?;
    Ok(())
}

/// Says that an attempt is over, so that a runner which begins late leaves at once, and tells how it ended as far as anybody saw it.
/// Blocks; whoever still runs for it is killed.
pub(super) fn end(folder: &JobFolder, attempt: u32) -> io::Result<Exit> {
    let begun = Instant::now();
    let lock = loop {
        if let Some(lock) = JobLock::take(folder)? {
            break lock;
        }
        // A shim may hold it for the moment in which it writes the note. A signature that nobody can read is looked at again.
        if !is_held(&folder.shim())?
            && let Ok(signed) = Runner::read(folder)
            && send(signed.as_ref(), Os::KILL)?
        {
            tracing::warn!(attempt, "a runner that nobody looks after was killed");
        }
        if begun.elapsed() > LIMIT {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!("somebody still holds {}; `lsof` tells who", folder.lock().display()),
            ));
        }
        // Between the taking of the lock and its signature, and between the end of a process and that of its files.
        sleep(Duration::from_millis(10));
    };
    let noted = ExitNote::read(folder).ok().flatten().filter(|note| note.attempt == attempt);
    if noted.is_none()
        && let Some(signed) = Runner::read(folder).ok().flatten().filter(|signed| signed.attempt == attempt)
    {
        // A process that ends gives its locks back before its memory, and that on a GPU.
        wait_for_end_of(&signed)?;
    }
    match cut_torn_end(folder, &lock) {
        Ok(true) => tracing::warn!(attempt, "the end of the journal was half-written, and was cut off"),
        Ok(false) => {}
        // Whoever reads it tells.
        Err(error) => tracing::error!(attempt, %error, "the journal cannot be looked through"),
    }
    // Before anything is written: the disk may be full of just that.
    if let Err(error) = folder.sweep(&lock) {
        tracing::warn!(attempt, %error, "what the runner has left half-written cannot be removed");
    }
    let Some(note) = noted else {
        ExitNote::new(attempt, Exit::Unknown).write(folder)?;
        return Ok(Exit::Unknown);
    };
    Ok(note.exit())
}
