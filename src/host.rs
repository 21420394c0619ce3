//! The host of a program: the runner of a job that has a program in place of a model. It starts the
//! program, hands SIGTERM on, reads its reports, and tells what happens in the journal, as
//! torchd-runner does for a model. Nothing of what a program writes is trusted: it lies in a folder
//! of its own, and is read with bounds.
//!
//! It is one thread that waits for descriptors. Its parent, the shim, leaves nothing of it behind.

mod artifacts;
mod confine;
pub mod events;
mod launch;
mod rate;
pub mod reports;
mod tell;
mod tree;

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use clap::Parser;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use self::events::EventFiles;
use self::launch::{Started, start};
use self::reports::Lines;
pub use self::tell::JOURNAL_FACTOR;
use self::tell::Teller;
use self::tree::{Taken, Tree};
use crate::attempt::{self, Begun};
use crate::config::Environment;
use crate::fault;
use crate::job::Spec;
use crate::job::end::{EXIT_MACHINE, EXIT_STORAGE, signal_name};
use crate::journal::JobFolder;
use crate::node::NodeSource;
use crate::proto::v1::{JobEndReason, RunnerEnded};

/// The first argument of torchd that makes it a host.
pub const MODE: &str = "--host";

/// Exit codes that tell nothing more.
const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;

/// The interval between two looks at event files.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The interval between two looks at memory and processes, where these have a limit.
const WEIGH_EVERY: Duration = Duration::from_millis(200);
/// A program that fails so soon after the kernel has killed a process of it fails because of that.
const SOON: Duration = Duration::from_secs(30);
/// Bytes of reports that are read before signals are looked at again.
const MOST_AT_ONCE: usize = 1 << 20;

/// The arguments of a host. It is not meant for people.
#[derive(Debug, Parser)]
#[command(name = "torchd --host")]
struct Arguments {
    /// The job's folder
    #[arg(long)]
    job: PathBuf,
    /// Which attempt; its order must be there
    #[arg(long)]
    attempt: u32,
}

/// Runs the program of a job.
pub fn main(mut arguments: Vec<OsString>) -> ExitCode {
    arguments.remove(1);
    let Arguments { job, attempt } = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(64);
        }
    };
    let folder = JobFolder::new(job);
    let code = match run(&folder, attempt) {
        Ok(code) => code,
        Err(Refused { words, code }) => {
            say(&words);
            code
        }
    };
    ExitCode::from(code)
}

/// Why a host ends before its program has begun, and the exit code that says so.
struct Refused {
    words: String,
    code: u8,
}

impl Refused {
    fn new(words: impl Into<String>, code: u8) -> Self {
        Self { words: words.into(), code }
    }

    /// The job's folder cannot be written.
    fn storage(what: &str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::new(format!("{what}: {error}"), EXIT_STORAGE as u8)
    }
}

/// A line in the job's log.
fn say(words: &str) {
    // The reader of the log may be gone.
    let _ = writeln!(io::stderr(), "[torchd: {words}]");
}

fn run(folder: &JobFolder, attempt: u32) -> Result<u8, Refused> {
    let signals = signals().map_err(|error| Refused::new(format!("signals cannot be received: {error}"), FAILURE))?;
    let Begun { order, writer, lock: _lock } =
        attempt::begin(folder, attempt).map_err(|refused| Refused::new(refused.words, refused.code))?;
    let spec = folder.read_spec().map_err(Refused::storage("the spec cannot be read"))?;
    let spec = Spec::stored(&spec).map_err(|what| Refused::new(what, FAILURE))?;
    let (Some(program), Some(launch)) = (spec.program(), order.inputs.program()) else {
        return Err(Refused::new("the order names no program", FAILURE));
    };
    let mut teller = Teller::begin(folder, &order, writer).map_err(Refused::storage("the folder cannot be written"))?;
    let kills = source().memory_kills();
    let place = launch::prepare(folder).map_err(Refused::storage("the folder of the program cannot be made"))?;
    // Before the program begins: the files of earlier attempts were told then.
    let events = place.filter(|_| program.reads_events).map(EventFiles::new);
    let started = start(folder, &order, &spec, launch, teller.goes_on_from());
    let Started { child, reports } = match started {
        Ok(started) => started,
        Err(error) if is_of_machine(&error) => return Err(Refused::new(error.to_string(), EXIT_MACHINE as u8)),
        Err(error) => {
            let ended = ended(JobEndReason::ProgramFailed, error.to_string());
            teller.end(ended).map_err(Refused::storage("the journal cannot be written"))?;
            return Ok(FAILURE);
        }
    };
    fault::point("program-started");
    teller.started(child.id(), &order).map_err(Refused::storage("the journal cannot be written"))?;
    let mut host = Host {
        tree: Tree::of(child.id()),
        child,
        signals,
        reports: Some(reports),
        lines: Lines::default(),
        events,
        is_stopped: false,
        is_finished: false,
        most_bytes: spec.resources.memory_limit_bytes,
        most_processes: order.limits.processes,
        excess: None,
        job_kills: source().job_kills(),
        killed: None,
    };
    let status = host.follow(&mut teller).map_err(Refused::storage("the journal cannot be written"))?;
    let was_killed = status.signal() == Some(Signal::SIGKILL as i32);
    host.note_kills();
    let killed = if host.killed.is_some_and(|when| when.elapsed() < SOON) && !status.success() {
        // Also where it was another process than the first, as with `sh -c` and torchrun.
        Killed::AtItsLimit
    } else if was_killed && source().memory_kills() > kills {
        Killed::WithoutMemory
    } else {
        Killed::No
    };
    let ended = host.verdict(status, killed);
    let is_good = matches!(ended.reason(), JobEndReason::Finished | JobEndReason::Interrupted);
    host.lines.say_what_was_dropped();
    teller.end(ended).map_err(Refused::storage("the journal cannot be written"))?;
    Ok(if is_good { SUCCESS } else { FAILURE })
}

fn ended(reason: JobEndReason, message: String) -> RunnerEnded {
    RunnerEnded { reason: reason.into(), message, ..RunnerEnded::default() }
}

/// Whether an error that kept a program from being started is one of the machine, which passes.
fn is_of_machine(error: &io::Error) -> bool {
    crate::shortage::is_shortage(error)
}

/// Whether the kernel has killed a process of the program for want of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Killed {
    /// It has not.
    No,
    /// Since the machine had no more.
    WithoutMemory,
    /// Since the job had reached its limit.
    AtItsLimit,
}

fn source() -> NodeSource {
    NodeSource::new(Environment::new(), None)
}

/// The signals that mean something to us, as a descriptor.
fn signals() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        mask.add(signal);
    }
    mask.thread_block()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// A program that runs.
struct Host {
    child: Child,
    tree: Tree,
    signals: SignalFd,
    /// The end of its reports that we read; None once that has ended.
    reports: Option<OwnedFd>,
    lines: Lines,
    events: Option<EventFiles>,
    /// It was asked to stop.
    is_stopped: bool,
    /// It has told that it is finished.
    is_finished: bool,
    /// The memory that it may take with all of its processes, in bytes.
    most_bytes: Option<u64>,
    /// The processes that it may have. The kernel bounds those of a user, and not those of root.
    most_processes: Option<u64>,
    /// Why it was killed: it had more of something than it may.
    excess: Option<(JobEndReason, String)>,
    /// Its processes that the kernel has killed at the job's limit; None without a control group.
    job_kills: Option<u64>,
    /// When the last of them was.
    killed: Option<Instant>,
}

impl Host {
    /// Hands on what comes until the program has ended.
    fn follow(&mut self, teller: &mut Teller) -> io::Result<ExitStatus> {
        let (mut looked, mut weighed, mut is_more) = (Instant::now(), Instant::now(), false);
        loop {
            self.wait_for_news(is_more)?;
            while let Some(signal) = self.signals.read_signal()? {
                if signal.ssi_signo as i32 != Signal::SIGCHLD as i32 {
                    self.is_stopped = true;
                    self.signal(Signal::SIGTERM);
                }
            }
            // Before its end is looked at: what it told before that is read then.
            let status = self.child.try_wait()?;
            self.read_reports(teller)?;
            teller.tell_progress(false)?;
            if let Some(events) = &mut self.events {
                if looked.elapsed() >= LOOK_EVERY {
                    looked = Instant::now();
                    events.look();
                }
                is_more = events.read(teller)?;
            }
            if let Some(status) = status {
                if let Some(events) = &mut self.events {
                    events.finish(teller)?;
                }
                return Ok(status);
            }
            if self.has_limits() && self.excess.is_none() && weighed.elapsed() >= WEIGH_EVERY {
                weighed = Instant::now();
                self.note_kills();
                self.excess = self.weigh();
                if self.excess.is_some() {
                    self.signal(Signal::SIGKILL);
                }
            }
        }
    }

    /// Notes when the kernel has killed a process since the job had reached its limit.
    fn note_kills(&mut self) {
        let now = source().job_kills();
        if now > self.job_kills {
            self.killed = Some(Instant::now());
        }
        self.job_kills = now;
    }

    fn has_limits(&self) -> bool {
        self.most_bytes.is_some() || self.most_processes.is_some()
    }

    /// The excess of the program: the limit that it is above.
    fn weigh(&self) -> Option<(JobEndReason, String)> {
        let Taken { bytes, processes } = self.tree.taken();
        if let Some(most) = self.most_bytes.filter(|most| bytes > *most) {
            let what = format!("the program took {bytes} bytes of memory, and resources.memory_limit_bytes is {most}");
            return Some((JobEndReason::OutOfMemory, what));
        }
        let most = self.most_processes.filter(|most| processes > *most)?;
        let what = format!("the program had {processes} processes, and programs.max_processes is {most}");
        Some((JobEndReason::ProgramFailed, what))
    }

    /// Waits for what comes, unless there is more to read.
    fn wait_for_news(&self, is_more: bool) -> io::Result<()> {
        let mut descriptors = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        descriptors.extend(self.reports.as_ref().map(|reports| PollFd::new(reports.as_fd(), PollFlags::POLLIN)));
        let wait = match is_more {
            true => Duration::ZERO,
            false if self.has_limits() => WEIGH_EVERY,
            false => LOOK_EVERY,
        };
        match poll(&mut descriptors, PollTimeout::try_from(wait).unwrap_or(PollTimeout::NONE)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn read_reports(&mut self, teller: &mut Teller) -> io::Result<()> {
        let mut block = [0; 16 << 10];
        let mut left = MOST_AT_ONCE;
        while let Some(reports) = &self.reports {
            match nix::unistd::read(reports, &mut block) {
                // It has closed its descriptor; that is its own affair.
                Ok(0) => self.reports = None,
                Ok(count) => {
                    for report in self.lines.add(&block[..count]) {
                        self.is_finished |= report.is_finished;
                        teller.report(report)?;
                        self.tell_checkpoint(teller)?;
                    }
                    left = left.saturating_sub(count);
                    if left == 0 {
                        break;
                    }
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.tell_checkpoint(teller)
    }

    /// Tells a checkpoint that is due, once the values that the program has written before are
    /// told.
    fn tell_checkpoint(&mut self, teller: &mut Teller) -> io::Result<()> {
        if !teller.is_checkpoint_due() {
            return Ok(());
        }
        if let Some(events) = &mut self.events {
            events.catch_up(teller)?;
        }
        teller.tell_checkpoint()
    }

    fn signal(&self, signal: Signal) {
        // It is ours until it is waited for. That it has ended is fine.
        let _ = kill(Pid::from_raw(self.child.id() as i32), signal);
    }

    /// How the attempt ended.
    fn verdict(&self, status: ExitStatus, killed: Killed) -> RunnerEnded {
        let told = RunnerEnded { exit_code: status.code(), signal: status.signal(), ..RunnerEnded::default() };
        let with = |reason: JobEndReason, message: String| RunnerEnded { reason: reason.into(), message, ..told };
        if let Some((reason, what)) = self.excess.clone() {
            return with(reason, what);
        }
        if killed == Killed::AtItsLimit && !self.is_stopped {
            let most = self.most_bytes.map_or_else(|| "its limit".to_owned(), |most| most.to_string());
            let what = format!(
                "the kernel killed a process of the program, since the job had reached resources.memory_limit_bytes, {most}"
            );
            return with(JobEndReason::OutOfMemory, what);
        }
        if killed == Killed::WithoutMemory {
            let what =
                "the kernel killed the program because memory ran out (SIGKILL, and its count of such kills has risen)";
            return with(JobEndReason::OutOfMemory, what.into());
        }
        // Some exit with other codes then, such as torchrun with 1.
        let has_left = status.code().is_some() || status.signal() == Some(Signal::SIGTERM as i32);
        if self.is_stopped && has_left && !(self.is_finished && status.code() == Some(0)) {
            return with(JobEndReason::Interrupted, "stopped".into());
        }
        match (status.code(), status.signal()) {
            (Some(0), _) => with(JobEndReason::Finished, "the program has ended with exit code 0".into()),
            (Some(code), _) => with(JobEndReason::ProgramFailed, format!("the program ended with exit code {code}")),
            (None, Some(signal)) => {
                let what = format!("signal {signal} ({}) ended the program", signal_name(signal));
                with(JobEndReason::ProgramFailed, what)
            }
            (None, None) => with(JobEndReason::ProgramFailed, "the program is gone".into()),
        }
    }
}
