//! Ends the runner of a daemon that died. A process id is trusted only through a pidfd that was opened before boot id and
//! start time were compared: an id that is used again is never signalled.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};

use crate::job::end::Exit;
use crate::journal::{ExitNote, JobFolder, JobLock, Runner};

/// A killed process is gone within this, or stuck in the kernel.
const LIMIT: Duration = Duration::from_secs(30);

/// Ends whatever still runs for an attempt, and notes that it is over, so that a runner which begins late leaves at once.
/// Blocks; returns how the attempt ended, as far as anybody saw it.
pub fn end_leftover(folder: &JobFolder, attempt: u32) -> io::Result<Exit> {
    let begun = Instant::now();
    let lock = loop {
        if let Some(lock) = JobLock::take(folder)? {
            break lock;
        }
        // A signature that is being written, or that nobody can read, is looked at again.
        if let Ok(Some(runner)) = Runner::read(folder) {
            kill(&runner)?;
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
    let exit = match ExitNote::read(folder) {
        Ok(Some(note)) if note.attempt == attempt => note.exit(),
        _ => {
            ExitNote::new(attempt, Exit::Unknown).write(folder)?;
            Exit::Unknown
        }
    };
    drop(lock);
    Ok(exit)
}

fn kill(runner: &Runner) -> io::Result<()> {
    let Some(pid) = i32::try_from(runner.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !runner.is_running() {
        return Ok(());
    }
    tracing::warn!(pid = runner.pid, attempt = runner.attempt, "ending the runner of a daemon that died");
    match pidfd_send_signal(&process, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => return Err(error.into()),
    }
    // It led its group; while it is not reaped, its id, and so that of the group, is not used again.
    let _ = kill_process_group(pid, Signal::KILL);
    let limit = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
    poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit))?;
    Ok(())
}
