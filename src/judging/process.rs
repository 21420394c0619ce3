//! The child as its parent sees it: started, given its question and files, waited for, killed where
//! nobody waits for it, and reaped.

use std::fs::File;
use std::io::{self, IoSlice, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socketpair,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{LONGEST, MODE};
use crate::fault;
use crate::gate::Wanted;

/// The client may leave meanwhile: it is asked for at this interval.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// Files of one message. (SCM_MAX_FD in Linux)
pub(super) const MOST_AT_ONCE: usize = 253;

/// A child that has ended.
pub(super) struct Ended {
    /// None where it was killed because it took too long.
    pub(super) status: Option<ExitStatus>,
    /// Its output.
    pub(super) told: Vec<u8>,
}

/// Runs a child on a question about files.
pub(super) fn run<'a>(
    kind: &str,
    question: &[u8],
    files: impl Iterator<Item = BorrowedFd<'a>>,
    wanted: &Wanted,
) -> io::Result<Ended> {
    let asked = in_memory("question", question)?;
    let mut told = in_memory("told", b"")?;
    let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let child = Command::new("/proc/self/exe")
        .args([MODE, kind])
        .env_clear()
        .envs(fault::environment())
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::from(its))
        .stdout(Stdio::from(told.try_clone()?))
        .stderr(Stdio::null())
        .spawn()?;
    let mut child = Ending(child);
    let files: Vec<_> = files.collect();
    send(ours, &[&[asked.as_fd()], files.as_slice()].concat())?;
    let status = child.wait(wanted)?;
    drop(child);
    told.rewind()?;
    let mut bytes = Vec::new();
    told.read_to_end(&mut bytes)?;
    Ok(Ended { status, told: bytes })
}

fn in_memory(name: &str, bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}

/// Hands files over, and closes the socket, which ends the list.
fn send(socket: OwnedFd, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    for files in files.chunks(MOST_AT_ONCE) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_AT_ONCE))];
        let mut message = SendAncillaryBuffer::new(&mut space);
        message.push(SendAncillaryMessage::ScmRights(files));
        // A message without a byte is none.
        match sendmsg(&socket, &[IoSlice::new(&[0])], &mut message, SendFlags::NOSIGNAL) {
            Ok(_) => {}
            // It is gone already, and its status tells why.
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A child that is killed and reaped where nobody waits for it.
struct Ending(Child);

impl Ending {
    /// Its status; None where it takes too long.
    fn wait(&mut self, wanted: &Wanted) -> io::Result<Option<ExitStatus>> {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the process that judges files has no number"))?;
        let ended = pidfd_open(pid, PidfdFlags::empty())?;
        let begun = Instant::now();
        loop {
            match poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&LOOK_EVERY)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return self.0.wait().map(Some),
                Err(error) => return Err(error.into()),
            }
            wanted.check()?;
            if begun.elapsed() > LONGEST {
                return Ok(None);
            }
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // One that has ended was reaped.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            // A file system that does not answer may delay the end.
            let _ = self.0.wait();
        }
    }
}
