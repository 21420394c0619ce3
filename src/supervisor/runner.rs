//! One runner from its start, or from where we find it, to its end. Whoever started it: what is
//! known of it is what lies in the job's folder, and what the locks there say.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::leftover::{self, Alive, NotOver};
use super::stopping::{Stop, Stopping};
use super::{Fault, FaultKind, RunnerEvent, RunnerNews, Supervisor, environment, is_of_machine, log, shim};
use crate::job::JobId;
use crate::job::end::{EXIT_STORAGE, Exit};
use crate::journal::{Batch, JobFolder, JournalError, JournalTail, ProgressFold, Signature};
use crate::proto::EncodedWatch;
use crate::proto::v1::watch_event::Event;
use crate::shortage::is_shortage;

/// The journal is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Records read at a time.
const RECORDS_AT_ONCE: usize = 1_000;
/// Records read before signals are looked at again: a long journal does not starve them.
const MOST_RECORDS: usize = 100_000;
/// A journal that cannot be read is looked at so often once its runner is gone.
const LAST_LOOKS: u32 = 10;
/// What cannot be told is asked again after this.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Lines of the log that go with an end.
const TAIL_LINES: usize = 20;

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
    /// Starts the runner of an attempt whose order lies in the folder. Everything else comes as
    /// events. `visible` is the GPU that CUDA shows it, if any.
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
            let mut origin = origin;
            let news = loop {
                let supervised = this.clone().supervise(id.clone(), folder.clone(), attempt, origin, asked.clone());
                match tokio::spawn(supervised).await {
                    Ok(news) => break news,
                    // A fault of ours says nothing of the runner, which may well live.
                    Err(error) => {
                        tracing::error!(job.id = %id, %error, "the runner is looked after from the beginning");
                        this.tell(&id, RunnerNews::Doubt(Some(error.to_string()))).await;
                        tokio::time::sleep(ASK_AGAIN).await;
                        origin = Origin::Found;
                    }
                }
            };
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
        let child = match origin {
            Origin::Found => None,
            Origin::New { visible } => self.spawn(&folder, attempt, visible).map_or_else(
                // Also then the locks tell whether there is somebody.
                |fault| {
                    tail.fault = Some(fault);
                    None
                },
                Some,
            ),
        };
        self.follow(&id, &folder, attempt, child, asked, &mut tail).await;
        let exit = match self.bury(&id, &folder, attempt).await {
            Ok(exit) => exit,
            Err(fault) => {
                tail.fault.get_or_insert(fault);
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
        let log_tail = tokio::task::spawn_blocking(move || log::last_lines(&job, TAIL_LINES)).await.unwrap_or_default();
        let mut fault = tail.fault.or(tail.trouble);
        // A shim that could not start its runner has said why there.
        if let Some(Fault { kind: FaultKind::Machine, words }) = &mut fault
            && words.is_empty()
        {
            words.extend(log_tail.last().cloned());
        }
        RunnerNews::Ended { exit, fault, log_tail }
    }

    /// Says that the attempt is over, and tells how it ended. Only a lock that is free, or a note
    /// of its end, says that it is: what cannot be told now is asked again.
    async fn bury(&self, id: &JobId, folder: &JobFolder, attempt: u32) -> Result<Exit, Fault> {
        let mut doubt = None;
        loop {
            let place = folder.clone();
            let burial = tokio::task::spawn_blocking(move || leftover::end(&place, attempt)).await;
            let why = match burial {
                Ok(Ok(exit)) => {
                    self.settle(id, &mut doubt, None).await;
                    return Ok(exit);
                }
                Ok(Err(NotOver::Unnoted(error))) if !is_shortage(&error) => {
                    return Err(Fault::of("the end of the runner could not be noted", &error));
                }
                Ok(Err(not_over)) => not_over.to_string(),
                Err(error) => error.to_string(),
            };
            self.settle(id, &mut doubt, Some(why)).await;
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Tells why it cannot be told whether the runner lives, or that it can, where that is not what
    /// was told before.
    async fn settle(&self, id: &JobId, told: &mut Option<String>, why: Option<String>) {
        if why == *told {
            return;
        }
        if let Some(why) = why.as_ref().filter(|_| told.is_none()) {
            tracing::error!(job.id = %id, "{why}; it is asked again");
        }
        told.clone_from(&why);
        self.tell(id, RunnerNews::Doubt(why)).await;
    }

    /// Starts a shim, which starts the runner.
    fn spawn(&self, folder: &JobFolder, attempt: u32, visible: Option<String>) -> Result<Child, Fault> {
        let settings = &self.settings;
        let what = format!("{} cannot be started", settings.shim.display());
        let of_machine = |error: &std::io::Error| Fault { kind: FaultKind::Machine, words: format!("{what}: {error}") };
        let log = shim::log_for_shim(&folder.log());
        let log = log.map_err(|error| match is_shortage(&error) {
            true => of_machine(&error),
            false => Fault::of("the log of the job cannot be opened", &error),
        })?;
        let spawned = Command::new(&settings.shim)
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
            .stderr(log)
            // A terminal that ends the daemon does not end it.
            .process_group(0)
            .spawn();
        spawned.map_err(|error| match is_of_machine(&error, folder.path()) {
            true => of_machine(&error),
            false => Fault::of(&what, &error),
        })
    }

    /// Follows a runner until nobody looks after it any more and it is gone. What cannot be
    /// determined is asked again.
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
        // One that an earlier daemon has started has signed already; whether anybody finds it later
        // is not certain.
        let mut runner = signed(folder, attempt).await;
        if let Some(runner) = &runner {
            self.tell(id, RunnerNews::Spawned { process_group: runner.pid }).await;
        }
        let mut stopping = Stopping::new(self.settings.stop_grace, Instant::now());
        let mut doubt = None;
        loop {
            tokio::select! {
                // While it runs nobody else can tell us of its end any sooner.
                code = ended(&mut child) => {
                    child = None;
                    let of = |kind, words: &str| Some(Fault { kind, words: words.into() });
                    match code {
                        Some(EXIT_STORAGE) => tail.fault = of(FaultKind::Storage, shim::NO_ROOM),
                        // Its words stand in the log.
                        Some(shim::EXIT_MACHINE) => tail.fault = of(FaultKind::Machine, ""),
                        _ => {}
                    }
                }
                _ = ticks.tick() => {
                    let before = tail.journal.as_ref().map(JournalTail::sequence);
                    self.look(id, tail).await;
                    if tail.journal.as_ref().map(JournalTail::sequence) != before {
                        stopping.hear(Instant::now());
                    }
                    if runner.is_none() && let Some(signed) = signed(folder, attempt).await {
                        // It leads a group of its own.
                        self.tell(id, RunnerNews::Spawned { process_group: signed.pid }).await;
                        runner = Some(signed);
                    }
                }
                Ok(()) = asked.changed() => {}
            }
            let mut why = None;
            stopping.want(*asked.borrow_and_update());
            if let Some(signal) = stopping.due(Instant::now()) {
                match self.signal(folder, child.as_ref(), signal).await {
                    Ok(()) => {
                        match (signal, *asked.borrow()) {
                            (leftover::Signal::Kill, Stop::Gently) => {
                                tracing::warn!(job.id = %id, "the runner did not stop in time and is killed");
                            }
                            (leftover::Signal::KillBoth, _) => {
                                tracing::error!(job.id = %id, "the shim of the runner does not answer; both are killed");
                            }
                            (leftover::Signal::Stop | leftover::Signal::Kill, _) => {}
                        }
                        stopping.sent(signal, Instant::now());
                    }
                    Err(error) => why = Some(format!("the runner cannot be signalled: {error}")),
                }
            }
            if child.is_none() {
                let (place, runner) = (folder.clone(), runner.clone());
                let alive = tokio::task::spawn_blocking(move || leftover::alive(&place, runner.as_ref())).await;
                match alive.map_err(std::io::Error::other).flatten() {
                    Ok(Alive::Nobody) => break,
                    Ok(Alive::Shim | Alive::RunnerAlone) => {}
                    Err(error) => why = Some(format!("whether the runner still lives cannot be told: {error}")),
                }
            }
            self.settle(id, &mut doubt, why).await;
        }
        self.settle(id, &mut doubt, None).await;
    }

    async fn signal(&self, folder: &JobFolder, child: Option<&Child>, signal: leftover::Signal) -> std::io::Result<()> {
        let (place, shim) = (folder.clone(), child.and_then(Child::id));
        let sent = tokio::task::spawn_blocking(move || leftover::signal(&place, shim, signal)).await;
        sent.map_err(std::io::Error::other).flatten()
    }

    /// Reads what the journal has, up to a limit; whether there may be more at once.
    async fn look(&self, id: &JobId, tail: &mut Tail) -> bool {
        let Some(journal) = tail.journal.take() else { return false };
        let fold = std::mem::take(&mut tail.fold);
        let looked = match tokio::task::spawn_blocking(move || look(journal, fold)).await {
            Ok(looked) => looked,
            Err(error) => {
                let words = format!("the journal cannot be read: {error}");
                tail.fault = Some(Fault { kind: FaultKind::Other, words });
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
                tail.fault = Some(Fault { kind: FaultKind::Storage, words: error.to_string() });
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

/// Reads what a journal has. Records that are many are old news, which watchers read for
/// themselves.
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

/// Returns the exit code of a shim that we started when it has ended, and is reaped; never where
/// there is none.
async fn ended(child: &mut Option<Child>) -> Option<i32> {
    match child {
        Some(child) => child.wait().await.ok()?.code(),
        None => std::future::pending().await,
    }
}

/// The runner of that attempt, once it has signed the lock.
async fn signed(folder: &JobFolder, attempt: u32) -> Option<Signature> {
    let place = folder.clone();
    let signed = tokio::task::spawn_blocking(move || Signature::read(&place)).await.ok()?.ok()??;
    (signed.attempt == attempt).then_some(signed)
}
