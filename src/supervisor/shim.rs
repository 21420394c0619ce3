//! The shim: the parent of one runner, which outlives the daemon. It keeps the runner's log, hands
//! signals on, sees how the runner ends, leaves nothing of it behind, and notes the end in
//! `exit.json`; then it leaves. It holds the lock of the file `shim` in the job's folder all that
//! time, so that a new daemon knows that somebody looks after the runner.
//!
//! SIGTERM, SIGINT and SIGHUP ask the runner to checkpoint and stop; SIGUSR1 kills it with
//! everything that it started. A daemon that stays away for too long is the same as a SIGTERM. It
//! is one thread that waits for descriptors: no libtorch, no tokio.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::alone::{Alone, Consequence, LOOK_EVERY};
use super::control_group::{self, Group};
use super::kernel::{children, memory_kills};
use super::limits::{self, RunnerLimits};
use super::log::Log;
use super::{is_of_disk, is_of_machine};
use crate::attempt::NOT_MINE;
use crate::fault;
use crate::host;
use crate::job::end::{EXIT_MACHINE, EXIT_STORAGE, Exit};
use crate::journal::{ExitNote, ExitRoom, JobFolder, JobLock};
use crate::shortage::is_shortage;
use crate::umask;

/// Exit code of a torchd, of whatever version, that does not understand its arguments (EX_USAGE).
pub(super) const EXIT_USAGE: i32 = 64;
/// The error of a shim that ends with EXIT_STORAGE. It cannot print it: its log is on the same
/// disk.
pub(super) const NO_ROOM: &str =
    "the job's folder cannot be written, so that no runner could be started or its end not be noted";
/// Reads of the runner's output, and processes to reap, before signals and the daemon are looked at
/// again: a runner that prints or forks without pause does not starve them.
const MOST_AT_ONCE: usize = 64;
/// Time until a call that met a shortage of the machine is tried again.
const SHORT_PAUSE: Duration = Duration::from_millis(50);
/// Processes that a runner has left behind are killed and reaped within this, or stuck in the
/// kernel.
const REAP_LIMIT: Duration = Duration::from_secs(10);

/// The arguments of a shim. `torchd --shim` is not meant for people.
#[derive(Debug, Parser)]
#[command(name = "torchd --shim")]
pub struct ShimArguments {
    /// The job's folder
    #[arg(long)]
    job: PathBuf,
    /// Which attempt
    #[arg(long)]
    attempt: u32,
    /// The file that a daemon locks while it lives
    #[arg(long)]
    daemon_lock: PathBuf,
    /// Stop the runner after this time without a daemon, in seconds
    #[arg(long)]
    orphan_timeout: f64,
    /// From asking a runner to stop for that reason to killing it, in seconds
    #[arg(long)]
    grace: f64,
    /// Keep at most this many bytes of the log
    #[arg(long)]
    log_max_bytes: u64,
    /// Let the shim and the runner open this many descriptors; without it as many as the daemon may
    #[arg(long)]
    open_files: Option<u64>,
    /// The largest file that the shim and the runner may write, in bytes
    #[arg(long)]
    max_file_bytes: Option<u64>,
    /// The address space that the shim and the runner may have, in bytes
    #[arg(long)]
    max_address_space_bytes: Option<u64>,
    /// The control group that the runner is put into, which is made for it
    #[arg(long, requires = "memory_bytes")]
    control_group: Option<PathBuf>,
    /// The memory of that group, in bytes
    #[arg(long)]
    memory_bytes: Option<u64>,
    /// Start the runner with a umask that lets the group read
    #[arg(long)]
    group_reads: bool,
    /// The runner is torchd itself, the host of a program
    #[arg(long)]
    host: bool,
    /// The runner
    #[arg(long)]
    runner: PathBuf,
}

/// Runs a shim to the end of its runner.
pub fn shim(arguments: ShimArguments) -> ExitCode {
    let code = |error: &io::Error| if is_of_disk(error) { EXIT_STORAGE } else { 1 };
    let (code, words) = match begin(&arguments) {
        Ok(None) => return ExitCode::from(NOT_MINE),
        Ok(Some(begun)) => match begun.see_through(&arguments) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => (code(&error), format!("the runner cannot be looked after: {error}")),
        },
        Err(NotBegun::Runner(error)) => {
            let is_of_machine = is_of_machine(&error, &arguments.job);
            let words = format!("{} cannot be started: {error}", arguments.runner.display());
            (if is_of_machine { EXIT_MACHINE } else { code(&error) }, words)
        }
        Err(NotBegun::Shim(error)) => {
            let words = format!("the runner cannot be looked after: {error}");
            (if is_shortage(&error) { EXIT_MACHINE } else { code(&error) }, words)
        }
    };
    // Our standard error is the job's log.
    let _ = writeln!(io::stderr(), "[torchd: {words}]");
    ExitCode::from(code as u8)
}

/// Why no runner was started.
enum NotBegun {
    /// The shim could not make itself ready.
    Shim(io::Error),
    /// The runner could not be started.
    Runner(io::Error),
}

impl From<io::Error> for NotBegun {
    fn from(error: io::Error) -> Self {
        Self::Shim(error)
    }
}

impl From<Errno> for NotBegun {
    fn from(error: Errno) -> Self {
        Self::Shim(error.into())
    }
}

/// A runner that was started, and what its shim holds for it.
struct Begun {
    folder: JobFolder,
    held: JobLock,
    room: ExitRoom,
    log: Log,
    shim: Shim,
    group: Option<Group>,
    kills_before: u64,
}

/// Makes ready and starts the runner; None where there is nothing to do.
fn begin(arguments: &ShimArguments) -> Result<Option<Begun>, NotBegun> {
    umask::make_private();
    let folder = JobFolder::new(arguments.job.clone());
    let signals = signals()?;
    let Some(held) = JobLock::take_file(&folder.shim())? else { return Ok(None) };
    held.sign(arguments.attempt)?;
    if is_over(&folder, arguments.attempt)? {
        return Ok(None);
    }
    fault::point("shim-locked");
    if let Some(current) = arguments.open_files {
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum }).map_err(io::Error::from)?;
    }
    let ShimArguments { max_file_bytes: file_bytes, max_address_space_bytes: address_space_bytes, .. } = *arguments;
    RunnerLimits { file_bytes, address_space_bytes }.take()?;
    // As for a runner: what it starts has no more rights than it has.
    nix::sys::prctl::set_no_new_privs()?;
    let room = ExitRoom::take(&folder)?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let log = Log::open(&folder.log(), arguments.log_max_bytes);
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    set_nonblocking(&reader)?;
    let group = arguments.control_group.as_deref().zip(arguments.memory_bytes);
    let grouped = |(path, bytes)| {
        let failed = |error: io::Error| io::Error::new(error.kind(), format!("its control group {path:?}: {error}"));
        Group::make(path, bytes).map_err(failed)
    };
    let group = group.map(grouped).transpose().map_err(NotBegun::Runner)?;
    let kills_before = kills(group.as_ref());
    let child = start(arguments, writer, group.as_ref()).inspect_err(|_| group.iter().for_each(Group::remove));
    let child = child.map_err(NotBegun::Runner)?;
    let shim = Shim { pid: Pid::from_raw(child.id() as i32), signals, output: Some(reader), was_killed: false };
    // The kernel takes a runner before it takes a daemon; raising one's own share is allowed to
    // all.
    let _ = fs::write(format!("/proc/{}/oom_score_adj", shim.pid), "500");
    Ok(Some(Begun { folder, held, room, log, shim, group, kills_before }))
}

impl Begun {
    /// Looks after the runner to its end, and notes that.
    fn see_through(self, arguments: &ShimArguments) -> io::Result<()> {
        let Self { folder, held, room, mut log, mut shim, group, kills_before } = self;
        shim.follow(arguments, &held, &mut log)?;
        fault::point("runner-ended");
        let mut exit = shim.bury(&mut log)?;
        if exit == Exit::Signal(nix::libc::SIGKILL) && !shim.was_killed && kills(group.as_ref()) > kills_before {
            exit = Exit::OutOfMemory;
        }
        group.iter().for_each(Group::remove);
        log.close();
        fault::point("runner-buried");
        note(&folder, &room, ExitNote::new(arguments.attempt, exit))?;
        fault::point("exit-noted");
        Ok(())
    }
}

/// A runner that was started.
struct Shim {
    /// Its process, and its group. We are its parent: the id is its own until we have reaped it.
    pid: Pid,
    signals: SignalFd,
    /// The end of its output that we read; None once that has ended.
    output: Option<OwnedFd>,
    /// By us, so that it was not the kernel.
    was_killed: bool,
}

impl Shim {
    /// Hands on what comes until the runner has ended. It is not reaped yet.
    fn follow(&mut self, arguments: &ShimArguments, held: &JobLock, log: &mut Log) -> io::Result<()> {
        let ShimArguments { job, daemon_lock, orphan_timeout, grace, .. } = arguments;
        let mut alone = Alone::new(job, held, daemon_lock, *orphan_timeout, *grace);
        loop {
            if passing(self.look(log))?.unwrap_or(false) {
                return Ok(());
            }
            match alone.judge() {
                Consequence::Nothing => {}
                Consequence::Stop(words) => {
                    log.write(words.as_bytes());
                    self.stop();
                }
                Consequence::Kill => self.kill(),
            }
        }
    }

    /// Waits for what comes, and hands it on; whether the runner has ended.
    fn look(&mut self, log: &mut Log) -> io::Result<bool> {
        self.wait_for_news()?;
        self.drain(log)?;
        while let Some(signal) = self.signals.read_signal()? {
            match Signal::try_from(signal.ssi_signo as i32) {
                Ok(Signal::SIGUSR1) => self.kill(),
                Ok(Signal::SIGCHLD) | Err(_) => {}
                // It may have ended just now.
                Ok(_) => self.stop(),
            }
        }
        self.reap_others()
    }

    fn wait_for_news(&self) -> io::Result<()> {
        let mut descriptors = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        descriptors.extend(self.output.as_ref().map(|output| PollFd::new(output.as_fd(), PollFlags::POLLIN)));
        let timeout = PollTimeout::try_from(LOOK_EVERY).unwrap_or(PollTimeout::NONE);
        match poll(&mut descriptors, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads what the runner has said so far, or a part of it; whether there may be more.
    fn drain(&mut self, log: &mut Log) -> io::Result<bool> {
        let mut block = [0; 16 << 10];
        for _ in 0..MOST_AT_ONCE {
            let Some(output) = &self.output else { return Ok(false) };
            match nix::unistd::read(output, &mut block) {
                Ok(0) => self.output = None,
                Ok(count) => log.write(&block[..count]),
                Err(Errno::EAGAIN) => return Ok(false),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn stop(&self) {
        // That it is gone already is fine.
        let _ = kill(self.pid, Signal::SIGTERM);
    }

    fn kill(&mut self) {
        self.was_killed = true;
        // That it is gone already is fine.
        let _ = killpg(self.pid, Signal::SIGKILL);
    }

    /// Reaps what the runner has left to us so far, or a part of it; whether the runner itself has
    /// ended.
    fn reap_others(&self) -> io::Result<bool> {
        for _ in 0..MOST_AT_ONCE {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            match waitid(Id::All, flags) {
                Ok(status) => match status.pid() {
                    Some(pid) if pid == self.pid => return Ok(true),
                    Some(pid) => drop(waitpid(pid, None)),
                    None => return Ok(false),
                },
                Err(Errno::ECHILD) => return Ok(true),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// Kills everything that the ended runner has left behind, its group and whatever has left
    /// that, and takes the rest of its output.
    fn bury(&mut self, log: &mut Log) -> io::Result<Exit> {
        // Until we reap the runner, the id of its group is not used again.
        let _ = killpg(self.pid, Signal::SIGKILL);
        let exit = match waitpid(self.pid, None) {
            Ok(WaitStatus::Exited(_, code)) => Exit::Code(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => Exit::Signal(signal as i32),
            Ok(_) | Err(_) => Exit::Unknown,
        };
        let begun = Instant::now();
        while begun.elapsed() < REAP_LIMIT {
            children().into_iter().for_each(|pid| _ = kill(pid, Signal::SIGKILL));
            let mut ended = (0..MOST_AT_ONCE).map(|_| waitpid(None, Some(WaitPidFlag::WNOHANG)));
            match ended.find(|ended| !matches!(ended, Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)))) {
                Some(Err(Errno::ECHILD)) => break,
                Some(Ok(WaitStatus::StillAlive)) => std::thread::sleep(Duration::from_millis(2)),
                _ => {}
            }
        }
        // Somebody else may have been handed the other end.
        while passing(self.drain(log))?.unwrap_or(true) && begun.elapsed() < REAP_LIMIT {}
        Ok(exit)
    }
}

/// Processes that the kernel has killed because memory ran out, in the group of the runner where it
/// has one.
fn kills(group: Option<&Group>) -> u64 {
    group.and_then(Group::kills).unwrap_or_else(memory_kills)
}

/// The signals that mean something to us, as a descriptor. They are blocked for us; our children
/// begin with none blocked.
fn signals() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
        mask.add(signal);
    }
    mask.thread_block()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

fn start(arguments: &ShimArguments, output: OwnedFd, group: Option<&Group>) -> io::Result<Child> {
    let entrance = group.map(Group::entrance).transpose()?;
    let mut runner = Command::new(&arguments.runner);
    runner
        .arg(if arguments.host { host::MODE } else { "run" })
        .arg("--job")
        .arg(&arguments.job)
        .args(["--attempt", &arguments.attempt.to_string()])
        .current_dir(&arguments.job)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let before = move || {
        entrance.as_ref().map_or(Ok(()), control_group::enter)?;
        limits::lift()?;
        // In our session a stopped runner would get SIGHUP when we die.
        rustix::process::setsid().map(drop).map_err(io::Error::from)
    };
    // SAFETY: it allocates nothing.
    unsafe { runner.pre_exec(before) };
    if arguments.group_reads { umask::where_group_reads(|| runner.spawn()) } else { runner.spawn() }
}

/// Whether somebody has said already that the attempt is over.
fn is_over(folder: &JobFolder, attempt: u32) -> io::Result<bool> {
    Ok(ExitNote::read(folder)?.is_some_and(|note| note.attempt >= attempt) || folder.order(attempt + 1).exists())
}

/// Notes the end, holding the job's lock, unless somebody was before us.
fn note(folder: &JobFolder, room: &ExitRoom, note: ExitNote) -> io::Result<()> {
    let try_to = || {
        let Some(_lock) = JobLock::take(folder)? else { return Ok(false) };
        if !is_over(folder, note.attempt)? {
            room.write(&note)?;
        }
        Ok(true)
    };
    let begun = Instant::now();
    loop {
        match try_to() {
            Ok(true) => return Ok(()),
            Err(error) if !is_shortage(&error) => return Err(error),
            tried if begun.elapsed() > REAP_LIMIT => {
                return tried.and(Err(io::Error::other("somebody else holds the lock of the job")));
            }
            Ok(false) | Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// The result of a call; None, after a moment, where the machine is short of something. A shortage
/// does not end the shim, which would take the runner along.
fn passing<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Err(error) if is_shortage(&error) => {
            std::thread::sleep(SHORT_PAUSE);
            Ok(None)
        }
        done => done.map(Some),
    }
}

fn set_nonblocking(descriptor: &OwnedFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(descriptor, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

/// The log of a job, for what the shim itself cannot say elsewhere.
pub(super) fn log_for_shim(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_lacks_for_a_moment_ends_no_watch() {
        for errno in [Errno::ENOMEM, Errno::EAGAIN, Errno::EMFILE] {
            assert!(passing::<bool>(Err(errno.into())).unwrap().is_none(), "{errno}");
        }
        assert!(passing::<bool>(Err(Errno::EBADF.into())).is_err());
        assert_eq!(passing(Ok(true)).unwrap(), Some(true));
    }

    #[test]
    fn output_without_end_does_not_keep_the_shim_from_everything_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(&folder.path().join("runner.log"), 10);
        // A read from this file never waits.
        let output = File::open("/dev/zero").unwrap().into();
        let signals = SignalFd::new(&SigSet::empty()).unwrap();
        let mut shim = Shim { pid: Pid::this(), signals, output: Some(output), was_killed: false };
        assert!(shim.drain(&mut log).unwrap(), "there is more");
        shim.output = Some(File::open("/dev/null").unwrap().into());
        assert!(!shim.drain(&mut log).unwrap() && shim.output.is_none());
    }
}
