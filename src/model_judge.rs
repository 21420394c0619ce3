//! Judges exported models in a child process: the daemon never parses the bytes of strangers, and a
//! file that exhausts the child hurts nothing else.
//!
//! The child gets its files open, through a socket, and can open nothing itself. Its memory and
//! time are limited. It answers with a summary of the model or with all its faults, as JSON on
//! standard output. It is killed when the thread that started it ends.

mod child;

use std::fs::File;
use std::io::{self, IoSlice, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socketpair,
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use serde::{Deserialize, Serialize};

pub use child::judge_model;

use crate::exported::Summary;
use crate::exported::bundle::Refused;
pub use crate::exported::bundle::Side;
use crate::gate::Wanted;

/// The first argument of a torchd that judges a model.
pub const MODE: &str = "--judge-model";
/// A child that takes longer is killed: reading 64 MB of JSON takes some seconds.
const LIMIT: Duration = Duration::from_secs(50);
/// The client may leave meanwhile: it is asked for at this interval.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Files that a child gets, at most: the list of operators and those of the model.
const MOST_FILES: usize = 3;

/// The operators of a libtorch, as `torchd-runner operators` prints them. They lie in memory, where
/// children read them and nobody can change them.
#[derive(Debug)]
pub struct OperatorList(File);

impl OperatorList {
    /// Keeps a list.
    ///
    /// # Errors
    /// If the machine has no memory or descriptor for it.
    pub fn new(schemas: &[u8]) -> io::Result<Self> {
        let mut file = File::from(memfd_create("operators", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        file.write_all(schemas)?;
        fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK)?;
        Ok(Self(file))
    }
}

/// The answer of a child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Model(Box<Summary>),
    Refused(Vec<Refused>),
}

/// The reason for which a model was not taken.
#[derive(Debug)]
pub enum Refusal {
    /// Its files are wrong.
    Files(Vec<Refused>),
    /// The process could not be run, or nobody waits for its answer: nothing is known of the model.
    Process(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Process(error)
    }
}

/// Judges the model in these files by the operators of a libtorch. Blocks, and ends early where
/// nobody waits any more.
///
/// # Errors
/// Everything that is wrong with the model, or why that cannot be told.
pub fn judge(
    path: &File,
    eval_path: Option<&File>,
    operators: &OperatorList,
    wanted: &Wanted,
) -> Result<Summary, Refusal> {
    let answer = memfd_create("model-judge", MemfdFlags::CLOEXEC).map_err(io::Error::from)?;
    let (ours, its) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(io::Error::from)?;
    let child = Command::new("/proc/self/exe")
        .arg(MODE)
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::from(its))
        .stdout(Stdio::from(answer.try_clone()?))
        .stderr(Stdio::null())
        .spawn()?;
    let mut child = Ending(child);
    send(&ours, [&operators.0, path].into_iter().chain(eval_path))?;
    let status = child.wait(wanted)?;
    let mut answer = File::from(answer);
    answer.rewind()?;
    let mut text = Vec::new();
    answer.read_to_end(&mut text)?;
    match serde_json::from_slice(&text) {
        Ok(Answer::Model(summary)) if status.success() => Ok(*summary),
        Ok(Answer::Refused(refused)) if status.success() => Err(Refusal::Files(refused)),
        _ => {
            let what = match status.signal() {
                _ if status.code() == Some(i32::from(child::EXIT_PROCESS)) => {
                    return Err(io::Error::other("the process that judges models could not begin").into());
                }
                // Its own limits end it by other signals.
                Some(signal) if signal == Signal::KILL.as_raw() => {
                    let what = "the process that reads it was killed, as the system does when memory runs out";
                    return Err(io::Error::new(io::ErrorKind::OutOfMemory, what).into());
                }
                Some(signal) => format!("cannot be judged: the process that read it was killed by signal {signal}"),
                None => format!("cannot be judged: the process that read it ended with {status}"),
            };
            let what = format!("{what}; it has {} MiB of memory and {} s", child::MEMORY >> 20, child::CPU_SECONDS);
            Err(Refusal::Files(vec![Refused { side: Side::Path, what, os_error: None }]))
        }
    }
}

/// Hands files over: the list of operators, that of `path`, and perhaps that of `eval_path`.
fn send<'a>(socket: &OwnedFd, files: impl Iterator<Item = &'a File>) -> io::Result<()> {
    let files: Vec<_> = files.map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    message.push(SendAncillaryMessage::ScmRights(&files));
    // A message without a byte is none.
    match sendmsg(socket, &[IoSlice::new(&[0])], &mut message, SendFlags::NOSIGNAL) {
        Ok(_) => Ok(()),
        // It is gone already, and its status tells why.
        Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A child that is killed and reaped where nobody waits for it.
struct Ending(Child);

impl Ending {
    fn wait(&mut self, wanted: &Wanted) -> io::Result<ExitStatus> {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the process that judges models has no number"))?;
        let ended = pidfd_open(pid, PidfdFlags::empty())?;
        let begun = Instant::now();
        loop {
            match poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&LOOK_EVERY)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return self.0.wait(),
                Err(error) => return Err(error.into()),
            }
            wanted.check()?;
            if begun.elapsed() > LIMIT {
                let what = format!("the process that judges models did not answer within {LIMIT:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, what));
            }
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // One that has ended was reaped.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
