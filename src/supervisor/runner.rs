//! One runner from its start, or from where we find it, to its end. All knowledge of it comes from
//! the job's folder and the locks there, also where another daemon started it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::hearing::{Heard, Silence};
use super::leftover::{self, Alive, NotOver};
use super::listening::Tail;
use super::spawn::Start;
use super::stopping::{Stop, Stopping};
use super::{Fault, FaultKind, RunnerEvent, RunnerNews, Supervisor, log, shim};
use crate::job::JobId;
use crate::job::end::{EXIT_MACHINE, EXIT_STORAGE, Exit};
use crate::journal::{JobFolder, Signature};
use crate::launches::Launch;
use crate::shortage::is_shortage;

/// The journal is looked at this often.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Reads of an unreadable journal after its runner has ended.
const LAST_LOOKS: u32 = 10;
/// Time until an undetermined question is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Exit code of a shim that has no business here: another one is there, or the attempt is over.
const NOT_MINE: i32 = crate::attempt::NOT_MINE as i32;
/// Lines of the log that go with an end.
const TAIL_LINES: usize = 20;

/// A runner that is looked after. Dropping it changes nothing.
#[derive(Debug)]
pub struct RunnerHandle {
    stop: watch::Sender<Stop>,
    silence: Silence,
}

impl RunnerHandle {
    pub(super) fn new(stop: watch::Sender<Stop>, silence: Silence) -> Self {
        Self { stop, silence }
    }

    /// Asks the runner to end: SIGTERM now, SIGKILL after the grace time. Asking twice is fine.
    pub fn stop(&self) {
        self.ask(Stop::Gently);
    }

    /// Kills the runner with everything that it started; whether that is news.
    pub fn kill(&self) -> bool {
        self.ask(Stop::AtOnce)
    }

    /// How long the runner has told nothing, as far as it could be heard.
    pub fn silence(&self) -> Duration {
        self.silence.get()
    }

    fn ask(&self, wanted: Stop) -> bool {
        self.stop.send_if_modified(|stop| {
            let is_news = wanted > *stop;
            *stop = wanted.max(*stop);
            is_news
        })
    }
}

/// A runner that is looked after, as its follower knows it.
#[derive(Clone)]
pub(super) struct Charge {
    pub(super) id: JobId,
    pub(super) folder: JobFolder,
    pub(super) attempt: u32,
    pub(super) rank: u32,
    asked: watch::Receiver<Stop>,
    pub(super) silence: Silence,
}

impl Charge {
    /// That of the first rank, or of a runner that is alone.
    pub(super) fn new(
        id: JobId,
        folder: JobFolder,
        attempt: u32,
        asked: watch::Receiver<Stop>,
        silence: Silence,
    ) -> Self {
        Self { id, folder, attempt, rank: 0, asked, silence }
    }

    /// How it is to end now.
    pub(super) fn asked(&self) -> Stop {
        *self.asked.borrow()
    }

    /// That of another rank.
    pub(super) fn of_rank(&self, rank: u32) -> Self {
        Self { folder: self.folder.rank(rank), rank, silence: Silence::default(), ..self.clone() }
    }
}

/// Where a runner comes from.
#[derive(Clone)]
pub(super) enum Origin {
    /// We start it.
    New(Start),
    /// An earlier daemon has.
    Found,
    /// An engine does, on other machines.
    Afar(Arc<Launch>),
}

impl Supervisor {
    /// Starts the runner of an attempt whose order lies in the folder. Everything else comes as
    /// events.
    pub fn start(&self, id: JobId, folder: JobFolder, attempt: u32, start: Start) -> RunnerHandle {
        let ranks = start.ranks;
        self.look_after(id, folder, attempt, Origin::New(start), ranks)
    }

    /// Looks after the runner that an earlier daemon has started, or that many ranks of it, whether
    /// it still lives or not.
    pub fn adopt(&self, id: JobId, folder: JobFolder, attempt: u32, ranks: u32) -> RunnerHandle {
        self.look_after(id, folder, attempt, Origin::Found, ranks)
    }

    fn look_after(&self, id: JobId, folder: JobFolder, attempt: u32, origin: Origin, ranks: u32) -> RunnerHandle {
        let (stop, asked) = watch::channel(Stop::No);
        let silence = Silence::default();
        let charge = Charge::new(id, folder, attempt, asked, silence.clone());
        let (this, stops) = (self.clone(), stop.clone());
        tokio::spawn(async move {
            let id = charge.id.clone();
            let news = match ranks {
                0 | 1 => this.see_through(charge, origin).await,
                _ => this.see_ranks_through(charge, origin, ranks, stops).await,
            };
            this.tell(&id, news).await;
        });
        RunnerHandle::new(stop, silence)
    }

    /// Looks after a runner until its end, whatever becomes of those who do.
    pub(super) async fn see_through(&self, charge: Charge, origin: Origin) -> RunnerNews {
        let (mut origin, mut doubt) = (origin, None);
        loop {
            let again = match &origin {
                Origin::New(_) | Origin::Found => Origin::Found,
                Origin::Afar(launch) => Origin::Afar(launch.clone()),
            };
            match tokio::spawn(self.clone().supervise(charge.clone(), origin, doubt.take())).await {
                Ok(news) => return news,
                // A fault of ours says nothing of the runner, which may well live.
                Err(error) => {
                    tracing::error!(job.id = %charge.id, %error, "the runner is looked after from the beginning");
                    doubt = Some(error.to_string());
                    self.tell(&charge.id, RunnerNews::Doubt(doubt.clone())).await;
                    tokio::time::sleep(ASK_AGAIN).await;
                    origin = again;
                }
            }
        }
    }

    /// Sees a runner through, and returns how it ended. `doubt` is what was told last.
    async fn supervise(self, charge: Charge, origin: Origin, doubt: Option<String>) -> RunnerNews {
        let Charge { id, folder, attempt, .. } = &charge;
        let mut tail = Tail::new(folder, charge.silence.clone());
        let (child, launch) = match origin {
            Origin::Found => (None, None),
            Origin::Afar(launch) => (None, Some(launch)),
            Origin::New(start) => (
                self.spawn(&charge, start).map_or_else(
                    // Also then the locks tell whether there is somebody.
                    |fault| {
                        tail.fault = Some(fault);
                        None
                    },
                    Some,
                ),
                None,
            ),
        };
        let followed = match &launch {
            Some(launch) => self.follow_afar(&charge, launch, &mut tail, doubt).await,
            None => self.follow(&charge, child, &mut tail, doubt).await,
        };
        let exit = followed.unwrap_or_else(|fault| {
            tail.fault.get_or_insert(fault);
            Exit::Unknown
        });
        if let Some(groups) = &self.settings.control_groups {
            groups.remove(id, charge.rank);
        }
        for _ in 0..LAST_LOOKS {
            while self.look(id, &mut tail).await {}
            if tail.trouble.is_none() {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let (place, attempt) = (folder.clone(), *attempt);
        let log_tail = tokio::task::spawn_blocking(move || log::last_lines(&place, attempt, TAIL_LINES));
        let log_tail = log_tail.await.unwrap_or_default();
        let said = tail.ended(attempt);
        let mut fault = tail.fault.or(tail.trouble);
        // A runner that lacked something while it loaded. What another machine lacks keeps no job
        // of this one from its start.
        if exit == Exit::Code(EXIT_MACHINE) {
            let kind = if launch.is_none() { FaultKind::Machine } else { FaultKind::Other };
            fault.get_or_insert(Fault { kind, words: String::new() });
        }
        // A shim that could not start its runner, or that runner, has said why there.
        if let Some(Fault { words, .. }) = &mut fault
            && words.is_empty()
        {
            *words = log_tail.last().cloned().unwrap_or_else(|| "the runner's parent has ended without a word".into());
        }
        RunnerNews::Ended { exit, fault, log_tail, said, rank: 0 }
    }

    /// Tells why something cannot be told of the runner, or that it can, where that is not what was
    /// told before.
    pub(super) async fn settle(&self, id: &JobId, told: &mut Option<String>, why: Option<String>) {
        if why == *told {
            return;
        }
        if let Some(why) = why.as_ref().filter(|_| told.is_none()) {
            tracing::error!(job.id = %id, "{why}; it is asked again");
        }
        told.clone_from(&why);
        self.tell(id, RunnerNews::Doubt(why)).await;
    }

    /// Follows a runner until nobody looks after it any more and it is gone, says that its attempt
    /// is over, and returns how it ended. Only a lock that is free, or a note of its end, says that
    /// it is: what cannot be determined is asked again. `doubt` is what was told last.
    async fn follow(
        &self,
        charge: &Charge,
        mut child: Option<Child>,
        tail: &mut Tail,
        mut doubt: Option<String>,
    ) -> Result<Exit, Fault> {
        let Charge { id, folder, attempt, asked, .. } = charge;
        let mut asked = asked.clone();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // One that an earlier daemon has started has signed already; whether anybody finds it later
        // is not certain.
        let mut runner = signed(folder, *attempt).await;
        if let Some(runner) = &runner {
            self.tell(id, RunnerNews::Spawned { process_group: runner.pid }).await;
        }
        let mut stopping = Stopping::new(self.settings.stop_grace, Instant::now());
        // Why what the runner tells cannot be heard.
        let mut deaf = None;
        // Why its attempt could not be said to be over, and when that was tried.
        let mut unburied: Option<(String, Instant)> = None;
        loop {
            tokio::select! {
                // While it runs nobody else can tell us of its end any sooner.
                code = ended(&mut child) => {
                    child = None;
                    let has_begun = runner.is_some() || signed(folder, *attempt).await.is_some();
                    tail.fault = self.fault_of_shim(code, has_begun).or(tail.fault.take());
                }
                _ = ticks.tick() => {
                    let heard = self.listen(id, folder, tail).await;
                    stopping.hear(&heard, Instant::now());
                    deaf = match heard {
                        Heard::Unknown(error) => Some(format!("what the runner tells cannot be heard: {error}")),
                        Heard::Something | Heard::Nothing => tail.trouble.as_ref().map(|trouble| trouble.words.clone()),
                    };
                    if runner.is_none() && let Some(signed) = signed(folder, *attempt).await {
                        // It leads a group of its own.
                        self.tell(id, RunnerNews::Spawned { process_group: signed.pid }).await;
                        runner = Some(signed);
                    }
                }
                Ok(()) = asked.changed() => {}
            }
            let mut why = deaf.clone();
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
                    Ok(Alive::Shim | Alive::RunnerAlone) => unburied = None,
                    Err(error) => why = Some(format!("whether the runner still lives cannot be told: {error}")),
                    Ok(Alive::Nobody) => {
                        if unburied.as_ref().is_none_or(|(_, tried)| tried.elapsed() >= ASK_AGAIN) {
                            match bury(folder, *attempt).await {
                                Burial::Over(end) => {
                                    self.settle(id, &mut doubt, None).await;
                                    return end;
                                }
                                Burial::Unknown(words) => unburied = Some((words, Instant::now())),
                            }
                        }
                        why = unburied.as_ref().map(|(words, _)| words.clone());
                    }
                }
            }
            self.settle(id, &mut doubt, why).await;
        }
    }

    /// Why nothing could run, as far as the exit code of a shim tells; `has_begun` tells whether a
    /// runner has signed.
    fn fault_of_shim(&self, code: Option<i32>, has_begun: bool) -> Option<Fault> {
        let of = |kind, words: String| Some(Fault { kind, words });
        match code {
            Some(EXIT_STORAGE) => of(FaultKind::Storage, shim::NO_ROOM.into()),
            // Its words stand in the log.
            Some(EXIT_MACHINE) => of(FaultKind::Machine, String::new()),
            Some(shim::EXIT_USAGE) => {
                let program = self.settings.shim.display();
                let words = format!("{program} does not know how it was started; another version may be in its place");
                of(FaultKind::Machine, words)
            }
            // A signal ended it, it has done its work, or it had none.
            None | Some(0 | NOT_MINE) => None,
            Some(_) if has_begun => None,
            // As above.
            Some(_) => of(FaultKind::Other, String::new()),
        }
    }

    async fn signal(&self, folder: &JobFolder, child: Option<&Child>, signal: leftover::Signal) -> std::io::Result<()> {
        let (place, shim) = (folder.clone(), child.and_then(Child::id));
        let sent = tokio::task::spawn_blocking(move || leftover::signal(&place, shim, signal)).await;
        sent.map_err(std::io::Error::other).flatten()
    }

    pub(super) async fn tell(&self, id: &JobId, what: RunnerNews) {
        // The manager is gone only when the daemon ends.
        let _ = self.events.send(RunnerEvent { id: id.clone(), what }).await;
    }
}

/// Whether an attempt is over.
enum Burial {
    /// It is; how the runner ended, or why that could not be noted.
    Over(Result<Exit, Fault>),
    /// That cannot be told now, for this reason.
    Unknown(String),
}

/// Says that an attempt is over.
async fn bury(folder: &JobFolder, attempt: u32) -> Burial {
    let place = folder.clone();
    match tokio::task::spawn_blocking(move || leftover::end(&place, attempt)).await {
        Ok(Ok(exit)) => Burial::Over(Ok(exit)),
        Ok(Err(NotOver::Unnoted(error))) if !is_shortage(&error) => {
            Burial::Over(Err(Fault::of("the end of the runner could not be noted", &error)))
        }
        Ok(Err(not_over)) => Burial::Unknown(not_over.to_string()),
        Err(error) => Burial::Unknown(error.to_string()),
    }
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::SystemTime;

    use tokio::sync::mpsc;

    use super::*;
    use crate::journal::ExitNote;
    use crate::supervisor::{RunnerLimits, RunnerSettings};

    fn supervisor() -> (Supervisor, mpsc::Receiver<RunnerEvent>) {
        let (events, told) = mpsc::channel(8);
        let settings = RunnerSettings {
            program: PathBuf::from("runner"),
            libtorch_dir: None,
            stop_grace: Duration::from_secs(1),
            dry_run_timeout: Duration::from_secs(60),
            dry_run_memory_bytes: None,
            shim: PathBuf::from("torchd"),
            daemon_lock: PathBuf::from("torchd.lock"),
            orphan_timeout: Duration::from_secs(1),
            log_max_bytes: 1,
            limits: RunnerLimits::default(),
            control_groups: None,
            program_environment: Vec::new(),
            group_reads: false,
            open_files: None,
        };
        (Supervisor::new(settings, events), told)
    }

    #[tokio::test]
    async fn what_a_follower_that_died_has_doubted_is_taken_back_by_the_next() {
        let place = tempfile::tempdir().unwrap();
        let folder = JobFolder::new(place.path().into());
        ExitNote::new(1, Exit::Code(0)).write(&folder).unwrap();
        let (id, (stop, asked)) = (JobId::new(SystemTime::now(), 1), watch::channel(Stop::No));
        let charge = Charge { id, folder, attempt: 1, rank: 0, asked, silence: Silence::default() };
        let (supervisor, mut told) = supervisor();
        let news = supervisor.supervise(charge, Origin::Found, Some("a fault of ours".into())).await;
        assert!(matches!(news, RunnerNews::Ended { exit: Exit::Code(0), fault: None, .. }), "{news:?}");
        let event = told.recv().await.unwrap();
        assert!(matches!(event.what, RunnerNews::Doubt(None)), "{event:?}");
        drop(stop);
    }

    #[test]
    fn a_shim_that_could_not_begin_says_whose_fault_that_is() {
        let (supervisor, _told) = supervisor();
        let kind = |code, has_begun| supervisor.fault_of_shim(code, has_begun).map(|fault| fault.kind);
        assert_eq!(kind(Some(EXIT_STORAGE), false), Some(FaultKind::Storage));
        assert_eq!(kind(Some(EXIT_MACHINE), false), Some(FaultKind::Machine));
        assert_eq!(kind(Some(shim::EXIT_USAGE), false), Some(FaultKind::Machine));
        assert_eq!(kind(Some(1), false), Some(FaultKind::Other));
        for (code, has_begun) in [(None, false), (Some(0), false), (Some(NOT_MINE), false), (Some(1), true)] {
            assert_eq!(kind(code, has_begun), None, "{code:?}");
        }
    }
}
