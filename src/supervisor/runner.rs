//! One runner from its start to its end.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{RunnerEvent, RunnerNews, Supervisor, environment, log};
use crate::job::JobId;
use crate::job::end::Exit;
use crate::journal::{ExitNote, JobFolder, JobLock, JournalTail, ProgressFold};

/// The journal is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Records read at a time: a fast job does not starve the signals.
const RECORDS_AT_ONCE: usize = 10_000;
/// Lines of the log that go with an end.
const TAIL_LINES: usize = 20;
/// After the group was killed, its output ends; a process that left the group may keep the pipe.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// A runner that was started. Dropping it changes nothing: the supervisor reaps the runner anyway.
#[derive(Debug)]
pub struct RunnerHandle {
    stop: CancellationToken,
}

impl RunnerHandle {
    /// Asks the runner to end: SIGTERM now, SIGKILL after the grace time. Asking twice is fine.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

impl Supervisor {
    /// Starts the runner of an attempt whose order lies in the folder. Everything else comes as events. `visible` is the GPU that CUDA
    /// shows it, if any.
    pub fn start(&self, id: JobId, folder: JobFolder, attempt: u32, visible: Option<String>) -> RunnerHandle {
        let stop = CancellationToken::new();
        let (this, token) = (self.clone(), stop.clone());
        tokio::spawn(async move {
            let supervised = tokio::spawn(this.clone().supervise(id.clone(), folder, attempt, visible, token)).await;
            let news = supervised.unwrap_or_else(|error| RunnerNews::Ended {
                exit: Exit::Unknown,
                fault: Some(format!("the runner could not be supervised: {error}")),
                log_tail: Vec::new(),
            });
            this.tell(&id, news).await;
        });
        RunnerHandle { stop }
    }

    /// Sees a runner through, and returns how it ended.
    async fn supervise(
        self,
        id: JobId,
        folder: JobFolder,
        attempt: u32,
        visible: Option<String>,
        stop: CancellationToken,
    ) -> RunnerNews {
        let journal = Some(JournalTail::new(folder.clone()));
        let mut tail = Tail { journal, fold: ProgressFold::default(), fault: None };
        let (exit, mut fault) = match self.spawn(&folder, attempt, visible) {
            Ok(child) => {
                if let Some(process_group) = child.id() {
                    self.tell(&id, RunnerNews::Spawned { process_group }).await;
                }
                (self.follow(&id, &folder, child, stop, &mut tail).await, None)
            }
            Err(error) => {
                (Exit::Unknown, Some(format!("{} cannot be started: {error}", self.settings.program.display())))
            }
        };
        while self.look(&id, &mut tail).await {}
        if fault.is_none() {
            fault = tail.fault;
        }
        let burial = tokio::task::spawn_blocking({
            let folder = folder.clone();
            move || -> std::io::Result<Vec<String>> {
                // Held while the note is written. Somebody else's lock means that the runner was not ours: the note is still true.
                let _lock = JobLock::take(&folder)?;
                ExitNote::new(attempt, exit).write(&folder)?;
                Ok(log::last_lines(&folder.log(), TAIL_LINES))
            }
        });
        let log_tail = match burial.await.map_err(std::io::Error::other).flatten() {
            Ok(lines) => lines,
            Err(error) => {
                fault.get_or_insert(format!("the end of the runner could not be noted: {error}"));
                Vec::new()
            }
        };
        RunnerNews::Ended { exit, fault, log_tail }
    }

    fn spawn(&self, folder: &JobFolder, attempt: u32, visible: Option<String>) -> std::io::Result<Child> {
        Command::new(&self.settings.program)
            .arg("run")
            .arg("--job")
            .arg(folder.path())
            .args(["--attempt", &attempt.to_string()])
            .env_clear()
            .envs(environment::of_runner(std::env::vars_os(), self.settings.libtorch_dir.as_deref()))
            .envs(visible.map(|visible| ("CUDA_VISIBLE_DEVICES", visible)))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            // Where the daemon has to leave without having waited for it.
            .kill_on_drop(true)
            .spawn()
    }

    /// Follows a runner until it is reaped, its group is gone and its output is drained.
    async fn follow(
        &self,
        id: &JobId,
        folder: &JobFolder,
        mut child: Child,
        stop: CancellationToken,
        tail: &mut Tail,
    ) -> Exit {
        let group = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let (stdout, stderr, log) = (child.stdout.take(), child.stderr.take(), folder.log());
        let kept = log::Kept::of(&log);
        let drained = tokio::spawn(async move {
            let one = async { if let Some(output) = stdout { log::drain(output, &log, &kept).await } else { Ok(()) } };
            let other =
                async { if let Some(output) = stderr { log::drain(output, &log, &kept).await } else { Ok(()) } };
            let (one, other) = tokio::join!(one, other);
            one.and(other)
        });
        // It tells the end of the process before that is reaped: until then its id, and its group's, is not used again.
        let process = child.id().and_then(|pid| watch_process(pid).ok());
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut kill_at: Option<Instant> = None;
        loop {
            tokio::select! {
                () = ended(process.as_ref(), &mut child) => break,
                _ = ticks.tick() => { self.look(id, tail).await; }
                () = stop.cancelled(), if kill_at.is_none() => {
                    kill_at = Some(Instant::now() + self.settings.stop_grace);
                    signal(group, Signal::SIGTERM);
                }
                () = tokio::time::sleep_until(kill_at.unwrap_or_else(Instant::now)), if kill_at.is_some() => {
                    tracing::warn!(job.id = %id, "the runner did not stop in time and is killed");
                    signal(group, Signal::SIGKILL);
                    // Once is enough; waiting goes on.
                    kill_at = Some(Instant::now() + Duration::from_secs(3600));
                }
            }
        }
        signal(group, Signal::SIGKILL);
        let exit = child.wait().await.map_or(Exit::Unknown, exit_of);
        match tokio::time::timeout(DRAIN_LIMIT, drained).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::error!(job.id = %id, %error, "the runner's log could not be written"),
            Ok(Err(error)) => tracing::error!(job.id = %id, %error, "the runner's log was given up"),
            Err(_) => tracing::warn!(job.id = %id, "a process that the runner left behind keeps its output open"),
        }
        exit
    }

    /// Reads what the journal has; whether there may be more at once.
    async fn look(&self, id: &JobId, tail: &mut Tail) -> bool {
        let Some(mut journal) = tail.journal.take() else { return false };
        let read = tokio::task::spawn_blocking(move || {
            let records = journal.read(RECORDS_AT_ONCE);
            (journal, records)
        });
        let Ok((journal, records)) = read.await else { return false };
        let sequence = journal.sequence();
        let records = match records {
            Ok(records) => records,
            Err(error) => {
                // The journal is not looked at again; the runner goes on and ends as it ends.
                tracing::error!(job.id = %id, %error, "the journal cannot be read on");
                tail.fault = Some(error.to_string());
                return false;
            }
        };
        tail.journal = Some(journal);
        for record in &records {
            tail.fold.add(record);
        }
        if !records.is_empty() {
            self.tell(id, RunnerNews::Progress { fold: Box::new(tail.fold.clone()), sequence }).await;
        }
        records.len() == RECORDS_AT_ONCE
    }

    async fn tell(&self, id: &JobId, what: RunnerNews) {
        // The manager is gone only when the daemon ends.
        let _ = self.events.send(RunnerEvent { id: id.clone(), what }).await;
    }
}

/// The journal as far as it was read.
struct Tail {
    /// None once it cannot be read on.
    journal: Option<JournalTail>,
    fold: ProgressFold,
    /// Why it cannot be read on.
    fault: Option<String>,
}

fn watch_process(pid: u32) -> std::io::Result<AsyncFd<OwnedFd>> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| std::io::Error::other("no process id"))?;
    let process = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
    // SAFETY: the descriptor is owned by what is registered, always the same one, and open until that is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) }?)
}

/// Returns when the process has ended. Where it cannot be watched it is reaped.
async fn ended(process: Option<&AsyncFd<OwnedFd>>, child: &mut Child) {
    match process {
        Some(process) => drop(process.readable().await),
        None => drop(child.wait().await),
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    }
}

/// Signals a runner's group. That it is gone already is fine.
fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        let _ = killpg(group, signal);
    }
}
