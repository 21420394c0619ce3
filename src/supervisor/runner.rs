//! One runner from its start, or from where we find it, to its end. Whoever started it: what is known of it is what lies in the job's
//! folder, and what the locks there say.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::leftover::{self, Alive};
use super::{Fault, RunnerEvent, RunnerNews, Supervisor, environment, log, shim};
use crate::job::JobId;
use crate::job::end::{EXIT_STORAGE, Exit};
use crate::journal::{Batch, JobFolder, JournalError, JournalTail, ProgressFold, Runner};
use crate::proto::EncodedWatch;
use crate::proto::v1::watch_event::Event;

/// The journal is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Records read at a time.
const RECORDS_AT_ONCE: usize = 1_000;
/// Records read before signals are looked at again: a long journal does not starve them.
const MOST_RECORDS: usize = 100_000;
/// A journal that cannot be read is looked at so often once its runner is gone.
const LAST_LOOKS: u32 = 10;
/// Lines of the log that go with an end.
const TAIL_LINES: usize = 20;
/// A runner that was asked to stop and has told something so short a time ago is waited for beyond the grace time, ...
const STILL_HEARD: Duration = Duration::from_secs(3);
/// ... up to this.
const MOST_GRACE: Duration = Duration::from_secs(600);
/// A shim kills at once what it is told to kill; where it does not, we do.
const SHIM_GRACE: Duration = Duration::from_secs(5);

/// How a runner is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    No,
    Gently,
    AtOnce,
}

/// A runner that is looked after. Dropping it changes nothing.
#[derive(Debug)]
pub struct RunnerHandle {
    stop: watch::Sender<Stop>,
}

impl RunnerHandle {
    /// Asks the runner to end: SIGTERM now, SIGKILL after the grace time. Asking twice is fine.
    pub fn stop(&self) {
        self.ask(Stop::Gently);
    }

    /// Kills the runner with everything that it started.
    pub fn kill(&self) {
        self.ask(Stop::AtOnce);
    }

    fn ask(&self, wanted: Stop) {
        self.stop.send_if_modified(|stop| {
            let is_news = wanted > *stop;
            *stop = wanted.max(*stop);
            is_news
        });
    }
}

/// Where a runner comes from.
enum Origin {
    /// We start it; CUDA shows it this GPU, if any.
    New { visible: Option<String> },
    /// An earlier daemon has.
    Found,
}

impl Supervisor {
    /// Starts the runner of an attempt whose order lies in the folder. Everything else comes as events. `visible` is the GPU that CUDA
    /// shows it, if any.
    pub fn start(&self, id: JobId, folder: JobFolder, attempt: u32, visible: Option<String>) -> RunnerHandle {
        self.look_after(id, folder, attempt, Origin::New { visible })
    }

    /// Looks after the runner that an earlier daemon has started, whether it still lives or not.
    pub fn adopt(&self, id: JobId, folder: JobFolder, attempt: u32) -> RunnerHandle {
        self.look_after(id, folder, attempt, Origin::Found)
    }

    fn look_after(&self, id: JobId, folder: JobFolder, attempt: u32, origin: Origin) -> RunnerHandle {
        let (stop, asked) = watch::channel(Stop::No);
        let this = self.clone();
        tokio::spawn(async move {
            let supervised = tokio::spawn(this.clone().supervise(id.clone(), folder, attempt, origin, asked)).await;
            let news = supervised.unwrap_or_else(|error| RunnerNews::Ended {
                exit: Exit::Unknown,
                fault: Some(Fault { is_storage: false, words: format!("the runner could not be supervised: {error}") }),
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
        origin: Origin,
        asked: watch::Receiver<Stop>,
    ) -> RunnerNews {
        let journal = Some(JournalTail::new(folder.clone()));
        let mut tail = Tail { journal, fold: ProgressFold::default(), trouble: None, fault: None };
        let mut fault = None;
        match origin {
            Origin::Found => self.follow(&id, &folder, attempt, None, asked, &mut tail).await,
            Origin::New { visible } => match self.spawn(&folder, attempt, visible) {
                Ok(child) => self.follow(&id, &folder, attempt, Some(child), asked, &mut tail).await,
                Err(error) => {
                    fault = Some(Fault::of(&format!("{} cannot be started", self.settings.shim.display()), &error));
                }
            },
        }
        let place = folder.clone();
        let burial = tokio::task::spawn_blocking(move || leftover::end(&place, attempt));
        let exit = match burial.await.map_err(std::io::Error::other).flatten() {
            Ok(exit) => exit,
            Err(error) => {
                fault.get_or_insert(Fault::of("the end of the runner could not be noted", &error));
                Exit::Unknown
            }
        };
        for _ in 0..LAST_LOOKS {
            while self.look(&id, &mut tail).await {}
            if tail.trouble.is_none() {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let job = folder.clone();
        let log_tail = tokio::task::spawn_blocking(move || log::last_lines(&job, TAIL_LINES)).await;
        RunnerNews::Ended { exit, fault: fault.or(tail.fault).or(tail.trouble), log_tail: log_tail.unwrap_or_default() }
    }

    /// Starts a shim, which starts the runner.
    fn spawn(&self, folder: &JobFolder, attempt: u32, visible: Option<String>) -> std::io::Result<Child> {
        let settings = &self.settings;
        Command::new(&settings.shim)
            .arg("--shim")
            .arg("--job")
            .arg(folder.path())
            .args(["--attempt", &attempt.to_string()])
            .arg("--daemon-lock")
            .arg(&settings.daemon_lock)
            .args(["--orphan-timeout", &settings.orphan_timeout.as_secs_f64().to_string()])
            .args(["--grace", &settings.stop_grace.as_secs_f64().to_string()])
            .args(["--log-max-bytes", &settings.log_max_bytes.to_string()])
            .args(settings.open_files.iter().flat_map(|count| ["--open-files".to_owned(), count.to_string()]))
            .args(settings.group_reads.then_some("--group-reads"))
            .arg("--runner")
            .arg(&settings.program)
            .env_clear()
            .envs(environment::of_runner(std::env::vars_os(), settings.libtorch_dir.as_deref()))
            .envs(visible.map(|visible| ("CUDA_VISIBLE_DEVICES", visible)))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(shim::log_for_shim(&folder.log())?)
            // A terminal that ends the daemon does not end it.
            .process_group(0)
            .spawn()
    }

    /// Follows a runner until nobody looks after it any more and it is gone.
    async fn follow(
        &self,
        id: &JobId,
        folder: &JobFolder,
        attempt: u32,
        mut child: Option<Child>,
        mut asked: watch::Receiver<Stop>,
        tail: &mut Tail,
    ) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // One that an earlier daemon has started has signed already; whether anybody finds it later is not certain.
        let mut runner = signed(folder, attempt).await;
        if let Some(runner) = &runner {
            self.tell(id, RunnerNews::Spawned { process_group: runner.pid }).await;
        }
        let mut done = Stop::No;
        let mut next: Option<(Instant, Stop)> = None;
        let mut is_last_resort = false;
        let (mut heard, mut begun) = (Instant::now(), Instant::now());
        loop {
            let mut wanted = None;
            tokio::select! {
                // While it runs nobody else can tell us of its end any sooner.
                code = ended(&mut child) => {
                    child = None;
                    if code == Some(EXIT_STORAGE) {
                        tail.fault = Some(Fault { is_storage: true, words: shim::NO_ROOM.into() });
                    }
                }
                _ = ticks.tick() => {
                    let before = tail.journal.as_ref().map(JournalTail::sequence);
                    self.look(id, tail).await;
                    if tail.journal.as_ref().map(JournalTail::sequence) != before {
                        heard = Instant::now();
                    }
                    if runner.is_none() && let Some(signed) = signed(folder, attempt).await {
                        // It leads a group of its own.
                        self.tell(id, RunnerNews::Spawned { process_group: signed.pid }).await;
                        runner = Some(signed);
                    }
                }
                Ok(()) = asked.changed() => wanted = Some(*asked.borrow_and_update()),
                () = tokio::time::sleep_until(next.map_or_else(Instant::now, |(at, _)| at)), if next.is_some() => {
                    // One that tells of a long validation, or of a checkpoint on a slow disk, is on its way.
                    if done == Stop::Gently && heard.elapsed() < STILL_HEARD && begun.elapsed() < MOST_GRACE {
                        next = Some((Instant::now() + LOOK_EVERY, Stop::AtOnce));
                        continue;
                    }
                    wanted = next.take().map(|(_, stop)| stop);
                    is_last_resort = done == Stop::AtOnce;
                    if done == Stop::Gently {
                        tracing::warn!(job.id = %id, "the runner did not stop in time and is killed");
                    }
                }
            }
            match wanted {
                Some(Stop::Gently) if done < Stop::Gently => {
                    next = Some((Instant::now() + self.settings.stop_grace, Stop::AtOnce));
                    done = Stop::Gently;
                    begun = Instant::now();
                    self.signal(id, folder, child.as_ref(), leftover::Signal::Stop).await;
                }
                Some(Stop::AtOnce) if is_last_resort => {
                    tracing::error!(job.id = %id, "the shim of the runner does not answer; both are killed");
                    self.signal(id, folder, child.as_ref(), leftover::Signal::KillBoth).await;
                }
                Some(Stop::AtOnce) => {
                    next = Some((Instant::now() + SHIM_GRACE, Stop::AtOnce));
                    done = Stop::AtOnce;
                    self.signal(id, folder, child.as_ref(), leftover::Signal::Kill).await;
                }
                Some(Stop::Gently | Stop::No) | None => {}
            }
            if child.is_none() {
                let place = folder.clone();
                let alive = tokio::task::spawn_blocking(move || leftover::alive(&place)).await;
                match alive.map_err(std::io::Error::other).flatten() {
                    Ok(Alive::Nobody) => break,
                    Ok(Alive::Shim | Alive::RunnerAlone) => {}
                    Err(error) => {
                        // Whoever comes after us finds out.
                        tracing::error!(job.id = %id, %error, "the locks of the job cannot be asked");
                        break;
                    }
                }
            }
        }
        // Where somebody has removed the locks, its shim needs a moment to notice.
        if let Some(runner) = runner {
            let gone = tokio::task::spawn_blocking(move || leftover::wait_for_end_of(&runner)).await;
            if let Err(error) = gone.map_err(std::io::Error::other).flatten() {
                tracing::error!(job.id = %id, %error, "whether the runner is gone cannot be told");
            }
        }
    }

    async fn signal(&self, id: &JobId, folder: &JobFolder, child: Option<&Child>, signal: leftover::Signal) {
        let (place, shim) = (folder.clone(), child.and_then(Child::id));
        let sent = tokio::task::spawn_blocking(move || leftover::signal(&place, shim, signal)).await;
        if let Err(error) = sent.map_err(std::io::Error::other).flatten() {
            tracing::error!(job.id = %id, %error, "the runner could not be signalled");
        }
    }

    /// Reads what the journal has, up to a limit; whether there may be more at once.
    async fn look(&self, id: &JobId, tail: &mut Tail) -> bool {
        let Some(journal) = tail.journal.take() else { return false };
        let fold = std::mem::take(&mut tail.fold);
        let looked = match tokio::task::spawn_blocking(move || look(journal, fold)).await {
            Ok(looked) => looked,
            Err(error) => {
                tail.fault = Some(Fault { is_storage: false, words: format!("the journal cannot be read: {error}") });
                return false;
            }
        };
        let Looked { journal, fold, count, batch, fault } = looked;
        let sequence = journal.sequence();
        tail.fold = fold;
        match fault {
            // There may be too many open files just now, or a disk that answers again.
            Some(JournalError::Io(error)) => {
                if tail.trouble.is_none() {
                    tracing::error!(job.id = %id, %error, "the journal cannot be read now");
                }
                tail.trouble = Some(Fault::of("the journal cannot be read", &error));
                tail.journal = Some(journal);
            }
            // The journal is not looked at again; the runner goes on and ends as it ends.
            Some(error) => {
                tracing::error!(job.id = %id, %error, "the journal cannot be read on");
                tail.fault = Some(Fault { is_storage: true, words: error.to_string() });
            }
            None => {
                tail.trouble = None;
                tail.journal = Some(journal);
            }
        }
        if count > 0 {
            self.tell(id, RunnerNews::Progress { fold: Box::new(tail.fold.clone()), sequence, batch }).await;
        }
        count >= MOST_RECORDS
    }

    async fn tell(&self, id: &JobId, what: RunnerNews) {
        // The manager is gone only when the daemon ends.
        let _ = self.events.send(RunnerEvent { id: id.clone(), what }).await;
    }
}

/// What one look at a journal has brought.
struct Looked {
    journal: JournalTail,
    fold: ProgressFold,
    /// Records that were read.
    count: usize,
    batch: Option<Batch>,
    fault: Option<JournalError>,
}

/// Reads what a journal has. Records that are many are old news, which watchers read for themselves.
fn look(mut journal: JournalTail, mut fold: ProgressFold) -> Looked {
    let from = journal.position();
    let (mut count, mut batch, mut fault) = (0, None, None);
    while count < MOST_RECORDS {
        match journal.read(RECORDS_AT_ONCE) {
            Ok(records) if records.is_empty() => break,
            Ok(records) => {
                records.iter().for_each(|record| fold.add(record));
                let (is_first, to) = (count == 0, journal.position());
                count += records.len();
                let piece = || EncodedWatch::piece(records.into_iter().map(Event::Record));
                batch = is_first.then(|| Batch { from, to, piece: piece() });
            }
            Err(error) => {
                fault = Some(error);
                break;
            }
        }
    }
    Looked { journal, fold, count, batch, fault }
}

/// The journal as far as it was read.
struct Tail {
    /// None once it cannot be read on.
    journal: Option<JournalTail>,
    fold: ProgressFold,
    /// Why the last look has failed.
    trouble: Option<Fault>,
    /// Why it cannot be read on, or why its shim could not work.
    fault: Option<Fault>,
}

/// Returns the exit code of a shim that we started when it has ended, and is reaped; never where there is none.
async fn ended(child: &mut Option<Child>) -> Option<i32> {
    match child {
        Some(child) => child.wait().await.ok()?.code(),
        None => std::future::pending().await,
    }
}

/// The runner of that attempt, once it has signed the lock.
async fn signed(folder: &JobFolder, attempt: u32) -> Option<Runner> {
    let place = folder.clone();
    let signed = tokio::task::spawn_blocking(move || Runner::read(&place)).await.ok()?.ok()??;
    (signed.attempt == attempt).then_some(signed)
}
