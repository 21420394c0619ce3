//! Starts, adopts, stops and buries runners: the only code that touches processes.
//!
//! A runner has a shim for a parent, a cleared environment, a process group of its own, all of its
//! output drained, and is told to end by SIGTERM and after the grace time by SIGKILL to everything
//! that it started. It is always reaped, by the shim, and how it ended stands in `exit.json`, which
//! is written while the job's lock is held: a process that declares a runner dead holds the lock.
//! Both live on when the daemon dies. A supervised runner ends with one `Ended` event, whatever
//! happens.

mod afar;
mod alone;
mod control_group;
mod dry_run;
mod environment;
mod hearing;
mod installed;
mod kernel;
mod leftover;
mod libtorch;
mod limits;
mod listening;
mod log;
mod probe;
mod python;
mod ranks;
mod runner;
mod shim;
mod spawn;
mod stopping;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::mpsc;

use crate::job::JobId;
use crate::job::end::Exit;
use crate::journal::{Batch, ProgressFold};
use crate::proto::v1::RunnerEnded;
use crate::shortage::is_shortage;
pub use control_group::ControlGroups;
pub use dry_run::DryRunError;
pub use installed::Installed;
pub use limits::RunnerLimits;
pub use log::last_lines;
pub use probe::ProbeError;
pub(crate) use python::in_environment as in_python_environment;
pub use python::{PythonReport, ask_python};
pub use runner::RunnerHandle;
pub use shim::{ShimArguments, shim};
pub use spawn::{RunnerKind, Start};

/// How runners are started.
#[derive(Debug, Clone)]
pub struct RunnerSettings {
    /// The program.
    pub program: PathBuf,
    /// The folder of libtorch that the settings name; None for the first place that has one.
    pub libtorch_dir: Option<PathBuf>,
    /// From SIGTERM to SIGKILL.
    pub stop_grace: Duration,
    /// A dry run that takes longer is killed.
    pub dry_run_timeout: Duration,
    /// Memory that it may allocate; None for half of what jobs can have.
    pub dry_run_memory_bytes: Option<u64>,
    /// The program that is the parent of runners: torchd itself.
    pub shim: PathBuf,
    /// The file that we have locked while we live.
    pub daemon_lock: PathBuf,
    /// A runner stops by itself after this time without a daemon.
    pub orphan_timeout: Duration,
    /// Limit of a job's log, in bytes.
    pub log_max_bytes: u64,
    /// Limits of each runner.
    pub limits: RunnerLimits,
    /// The kernel keeps jobs to their memory; None where the settings do not want it, or it cannot.
    pub control_groups: Option<ControlGroups>,
    /// Variables of our environment that programs get; a trailing `*` stands for all that begin so.
    pub program_environment: Vec<String>,
    /// The group may read the event files and results that runners write.
    pub group_reads: bool,
    /// How many descriptors a runner may have open; None for as many as we may.
    pub open_files: Option<u64>,
}

/// A change in the life of one runner.
#[derive(Debug, Clone)]
pub struct RunnerEvent {
    /// Its job.
    pub id: JobId,
    /// The change.
    pub what: RunnerNews,
}

/// The kinds of change in the life of a runner.
#[derive(Debug, Clone)]
pub enum RunnerNews {
    /// It, or a rank of several, was started.
    Spawned {
        /// The process group that it leads.
        process_group: u32,
    },
    /// Its journal has grown.
    Progress {
        /// The sum of all records.
        fold: Box<ProgressFold>,
        /// The number of the last record.
        sequence: u64,
        /// The new records; None where they are too many to be kept in memory.
        batch: Option<Batch>,
    },
    /// Whether it still lives, or what it tells, cannot be told, for this reason, and is asked
    /// again; None once it can.
    Doubt(Option<String>),
    /// It is gone, reaped, and its journal is read to the end.
    Ended {
        /// How.
        exit: Exit,
        /// The fault around the runner, if there was one.
        fault: Option<Fault>,
        /// The last lines of its log.
        log_tail: Vec<String>,
        /// Its last word, if it had one.
        said: Option<RunnerEnded>,
        /// The rank that is the cause, of several.
        rank: u32,
    },
}

/// A fault around a runner: it could not be started, its end could not be noted, or its journal
/// could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its cause.
    pub kind: FaultKind,
    /// The fault in words.
    pub words: String,
}

/// The cause of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The machine's, which cannot start any runner now: it lacks something, or the program is not
    /// in its place. Nothing has run.
    Machine,
    /// That of the disk: the job's folder could not be read or written.
    Storage,
    /// Its machine's, which is not heard any more.
    Lost,
    /// Anything else.
    Other,
}

impl Fault {
    fn of(what: &str, error: &std::io::Error) -> Self {
        let kind = if is_of_disk(error) { FaultKind::Storage } else { FaultKind::Other };
        Self { kind, words: format!("{what}: {error}") }
    }
}

/// Whether an error says that a disk is full, or not to be written any more.
fn is_of_disk(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    // The last one is EIO, which has no kind.
    matches!(error.kind(), StorageFull | ReadOnlyFilesystem | QuotaExceeded | FileTooLarge)
        || error.raw_os_error() == Some(nix::libc::EIO)
}

/// Whether a program that was to be started in a folder was not for want of the machine: it lacks
/// something now, or the program cannot be executed, as while it is replaced. The folder is the
/// job's own.
fn is_of_machine(error: &std::io::Error, folder: &Path) -> bool {
    is_shortage(error) || (!is_of_disk(error) && folder.is_dir())
}

/// Starts runners and asks them.
#[derive(Debug, Clone)]
pub struct Supervisor {
    settings: RunnerSettings,
    events: mpsc::Sender<RunnerEvent>,
}

impl Supervisor {
    /// A supervisor that tells what happens to `events`.
    pub fn new(settings: RunnerSettings, events: mpsc::Sender<RunnerEvent>) -> Self {
        Self { settings, events }
    }

    /// The libtorch that a runner gets now: somebody may install another one meanwhile.
    fn libtorch(&self) -> libtorch::Search {
        libtorch::Places::of(self.settings.libtorch_dir.as_deref(), &self.settings.program).search()
    }

    /// A runner that answers and ends, with the environment and the limits of one that trains. It
    /// is killed where nobody waits for its answer.
    fn asked(&self, libraries: Option<&Path>) -> Command {
        let mut command = Command::new(&self.settings.program);
        command.env_clear().envs(environment::of_runner(std::env::vars_os(), libraries));
        command.stdin(Stdio::null()).kill_on_drop(true);
        let limits = self.settings.limits;
        // SAFETY: it makes system calls alone, and allocates nothing.
        unsafe { command.pre_exec(move || limits::lift().and_then(|()| limits.take())) };
        command
    }
}
