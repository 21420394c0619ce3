//! Launches: the ranks of a job on other machines.
//!
//! An engine, such as Spark, places the ranks; torchd keeps the job. A launcher runs where the
//! engine's session is: it attaches, is given launches, and has the engine start an outpost for
//! each rank. An outpost joins with the token of the launch, runs the rank, and brings home what
//! that writes. Each rank holds a lease, which its outpost renews; one that is not heard for so
//! long is given up.
//!
//! `launch.json` in the job's folder lets the next daemon go on with a launch.

mod error;
mod incoming;
mod launch;
mod places;
mod put;
mod record;
mod troubles;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

use crate::access::{LaunchTokens, OfLaunch, SealKey, Secret};
use crate::job::JobId;
use crate::job::spec::Engine;
use crate::journal::{JobFolder, JobLock, cut_torn_end};
use crate::sha256::hex;
pub use error::LaunchError;
pub use incoming::Piece;
pub use launch::{Join, Launch, Limits, RankState, Trouble, Wish};
pub use places::{Demand, Line, NoPlace};
pub use put::{Put, PutFile, PutPlan};
use record::Record;

/// The version that daemon and outposts have to share.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Orders that wait for a launcher that does not take them.
const MOST_ORDERS: usize = 1024;

/// All launchers and launches; cheap to clone.
#[derive(Clone)]
pub struct Launches {
    shared: Arc<Shared>,
}

struct Shared {
    limits: Limits,
    tokens: LaunchTokens,
    state: Mutex<State>,
    /// Counts what may let a job begin.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    launchers: HashMap<LauncherKey, Attached>,
    launches: HashMap<(JobId, u32), Given>,
    last_serial: u64,
}

/// A launcher: its owner, and its name among those of the owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LauncherKey {
    /// The owner.
    pub owner: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

/// A launcher as it offers itself.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Its name and owner.
    pub key: LauncherKey,
    /// It takes jobs of all owners.
    pub is_for_all: bool,
    /// Its engine.
    pub engine: Engine,
    /// Ranks that the engine has room for at once.
    pub slots: u32,
    /// GPUs that ranks can have at once; None where that is not known.
    pub gpus: Option<u32>,
    /// Its ranks have no route to the daemon.
    pub has_no_route: bool,
    /// A number by which a launcher is known that attaches again; 0 for none.
    pub session: u64,
}

struct Attached {
    offer: Offer,
    serial: u64,
    orders: mpsc::Sender<LauncherOrder>,
}

/// A launch, and its launcher's part in it.
struct Given {
    launch: Arc<Launch>,
    /// All ranks have ended; the launcher has not told yet that its engine has.
    is_over: bool,
    /// None for one that an earlier daemon has begun.
    ordered: Option<Ordered>,
}

/// The order of a launch, which may have to be given again.
struct Ordered {
    token: Secret,
    /// The session of the launcher that it was given to; None where it was given to nobody.
    to: Option<u64>,
}

/// An order to a launcher.
pub enum LauncherOrder {
    /// Start this.
    Launch {
        /// The launch.
        launch: Arc<Launch>,
        /// The secret of its token.
        token: String,
    },
    /// End whatever is left of this.
    Stop {
        /// The job.
        job: JobId,
        /// The attempt.
        attempt: u32,
    },
}

/// The orders to a launcher, until it is dropped.
pub struct Attachment {
    launches: Launches,
    key: LauncherKey,
    serial: u64,
    orders: mpsc::Receiver<LauncherOrder>,
}

/// A launcher that has room for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    launcher: LauncherKey,
    engine: Engine,
    /// How many ranks the attempt has.
    pub world_size: u32,
}

/// An attempt that is to be launched.
pub struct Beginning {
    /// The job.
    pub job: JobId,
    /// Its folder.
    pub folder: JobFolder,
    /// The attempt.
    pub attempt: u32,
    /// The launcher.
    pub place: Place,
    /// All ranks have to join within this time.
    pub join_timeout: Duration,
    /// The part of its machine that each rank gets.
    pub part: RankPart,
    /// The folder that ranks without a route to the daemon share with it.
    pub storage: Option<PathBuf>,
}

/// The part of its machine that a rank of a launch gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankPart {
    /// Threads of computation.
    pub cpu_threads: u32,
    /// The memory that its runner may take, in bytes; None for no limit.
    pub memory_limit_bytes: Option<u64>,
    /// A GPU.
    pub gpu: bool,
}

/// The folder by whose files ranks without a route to the daemon call it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mailbox {
    /// The job.
    pub job: JobId,
    /// The folder that it lies in, which ranks and daemon share.
    pub storage: PathBuf,
    /// Its name there, which nobody can guess.
    pub name: String,
}

impl Mailbox {
    fn new(storage: PathBuf, job: &JobId, attempt: u32) -> io::Result<Self> {
        let mut number = [0; 16];
        getrandom::fill(&mut number).map_err(io::Error::other)?;
        let name = format!("torchd-{job}-{attempt}-{}", hex(&number));
        Ok(Self { job: job.clone(), storage, name })
    }

    /// Whether no launch uses it any more, as the folder of its job tells. One that may be taken
    /// over does. Blocks.
    ///
    /// # Errors
    /// `launch.json` cannot be read.
    pub fn is_left(&self, jobs_dir: &Path) -> io::Result<bool> {
        let record = Record::read(&JobFolder::new(jobs_dir.join(self.job.as_str())))?;
        Ok(record.is_none_or(|record| record.is_over || record.mailbox.as_ref() != Some(self)))
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        self.storage.join(&self.name)
    }
}

/// A launcher that is attached, for people.
#[derive(Debug, Clone)]
pub struct LauncherView {
    /// As it offered itself.
    pub offer: Offer,
    /// Slots that launches take.
    pub taken: u32,
}

impl Launches {
    /// None yet. `tokens` are told of theirs.
    pub fn new(limits: Limits, tokens: LaunchTokens) -> Self {
        let (state, changes) = (Mutex::default(), watch::channel(0).0);
        Self { shared: Arc::new(Shared { limits, tokens, state, changes }) }
    }

    /// Counts what may let a job begin: launchers that come, and slots that become free.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Attaches a launcher. One of the same name loses its place. `running` are the launches that
    /// it has of before: orders to end those that are over follow at once, and so do those that it
    /// has not read, as its stream was lost.
    pub fn attach(&self, offer: Offer, running: Vec<(JobId, u32)>) -> Attachment {
        let (sender, orders) = mpsc::channel(MOST_ORDERS);
        let key = offer.key.clone();
        let mut state = self.state();
        state.last_serial += 1;
        let serial = state.last_serial;
        // An order that did not reach it comes again. A launch that it has lost does not: the
        // attempt does.
        state.launches.retain(|name, given| {
            if *given.launch.launcher() != key || running.contains(name) {
                return true;
            }
            let order = given.again(offer.session);
            if order.is_none_or(|order| sender.try_send(order).is_err()) {
                given.launch.note_loss();
            }
            !given.is_over
        });
        for name in running {
            if state.launches.get(&name).is_none_or(|given| given.is_over) {
                let (job, attempt) = name;
                let _ = sender.try_send(LauncherOrder::Stop { job, attempt });
            }
        }
        for given in state.launches.values().filter(|given| *given.launch.launcher() == key) {
            given.launch.note_launcher(true);
        }
        tracing::info!(owner = %key.owner, launcher = %key.name, engine = %offer.engine, slots = offer.slots, "a launcher is attached");
        state.launchers.insert(key.clone(), Attached { offer, serial, orders: sender });
        drop(state);
        self.tell_change();
        Attachment { launches: self.clone(), key, serial, orders }
    }

    /// The launchers that are attached, by owner and name.
    pub fn launchers(&self) -> Vec<LauncherView> {
        let state = self.state();
        let view = |attached: &Attached| LauncherView {
            offer: attached.offer.clone(),
            taken: state.taken(&attached.offer.key),
        };
        let mut all: Vec<_> = state.launchers.values().map(view).collect();
        all.sort_by(|one, other| {
            let key = |view: &LauncherView| (view.offer.key.owner.clone(), view.offer.key.name.clone());
            key(one).cmp(&key(other))
        });
        all
    }

    /// Begins a launch: writes it down, and orders it from its launcher. Blocks.
    ///
    /// # Errors
    /// The job's folder cannot be written.
    pub fn begin(&self, beginning: Beginning) -> io::Result<Arc<Launch>> {
        let Beginning { job, folder, attempt, place, join_timeout, part, storage } = beginning;
        let (secret, token_sha256) = self.shared.tokens.make(job.as_str(), attempt)?;
        cut_torn_ends(&folder, place.world_size)?;
        let mailbox = storage.map(|storage| Mailbox::new(storage, &job, attempt)).transpose()?;
        let record = Record::new(&folder, attempt, place, token_sha256, join_timeout, part, mailbox)?;
        record.write(&folder)?;
        let launch = Arc::new(Launch::new(job.clone(), folder, record, self.shared.limits));
        let mut state = self.state();
        let order = LauncherOrder::Launch { launch: launch.clone(), token: secret.reveal().to_owned() };
        let to = state.launchers.get(launch.launcher()).and_then(|attached| match attached.orders.try_send(order) {
            Ok(()) => Some(attached.offer.session),
            Err(TrySendError::Closed(_)) => None,
            Err(TrySendError::Full(_)) => {
                launch.note_loss();
                None
            }
        });
        if to.is_none() {
            // It may be attaching again.
            launch.note_launcher(false);
        }
        let ordered = Some(Ordered { token: secret, to });
        state.launches.insert((job, attempt), Given { launch: launch.clone(), is_over: false, ordered });
        Ok(launch)
    }

    /// Goes on with a launch that an earlier daemon has begun; None where there is none. Blocks.
    ///
    /// # Errors
    /// `launch.json` cannot be read.
    pub fn adopt(&self, job: &JobId, folder: &JobFolder, attempt: u32) -> io::Result<Option<Arc<Launch>>> {
        let record = Record::read(folder)?.filter(|record| record.attempt == attempt);
        let Some(record) = record else { return Ok(None) };
        if !self.shared.tokens.take(job.as_str(), attempt, &record.token_sha256) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "launch.json has no hash of a token"));
        }
        cut_torn_ends(folder, record.world_size)?;
        let launch = Arc::new(Launch::adopted(job.clone(), folder.clone(), record, self.shared.limits));
        let mut state = self.state();
        let is_attached = state.launchers.contains_key(launch.launcher());
        launch.note_launcher(is_attached);
        let given = Given { launch: launch.clone(), is_over: false, ordered: None };
        state.launches.insert((job.clone(), attempt), given);
        Ok(Some(launch))
    }

    /// All ranks of a launch have ended: its token ends too, and its launcher ends what is left.
    /// Nothing is written for it from here on. Blocks.
    pub fn finish(&self, launch: &Launch) {
        launch.close();
        self.shared.tokens.end(launch.job().as_str());
        let mut state = self.state();
        let State { launchers, launches, .. } = &mut *state;
        let name = (launch.job().clone(), launch.attempt());
        let Some(given) = launches.get_mut(&name) else { return };
        given.is_over = true;
        let order = LauncherOrder::Stop { job: launch.job().clone(), attempt: launch.attempt() };
        let is_told = launchers.get(launch.launcher()).is_some_and(|attached| attached.orders.try_send(order).is_ok());
        if !is_told || launch.has_engine_ended() {
            launches.remove(&name);
        }
        drop(state);
        self.tell_change();
    }

    /// The engine of a launcher has ended a launch; whether there is such a launch.
    pub fn engine_ended(&self, launcher: &LauncherKey, job: &JobId, attempt: u32, message: String) -> bool {
        let mut state = self.state();
        let name = (job.clone(), attempt);
        let is_theirs = |given: &&Given| given.launch.launcher() == launcher;
        let Some(given) = state.launches.get(&name).filter(is_theirs) else { return false };
        given.launch.end_by_engine(message);
        if given.is_over {
            state.launches.remove(&name);
        }
        drop(state);
        self.tell_change();
        true
    }

    /// The launch of an attempt that is not over.
    pub fn of(&self, job: &str, attempt: u32) -> Option<Arc<Launch>> {
        let job = job.parse::<JobId>().ok()?;
        let state = self.state();
        let given = state.launches.get(&(job, attempt)).filter(|given| !given.is_over)?;
        Some(given.launch.clone())
    }

    /// The launches that have mailboxes, and are not over.
    pub fn with_mailboxes(&self) -> Vec<Arc<Launch>> {
        let state = self.state();
        let given = state.launches.values().filter(|given| !given.is_over && given.launch.mailbox().is_some());
        given.map(|given| given.launch.clone()).collect()
    }

    /// The key of the seals of a launch's messages; None where it is over.
    pub fn seal_key(&self, launch: &Launch) -> Option<SealKey> {
        self.shared.tokens.seal_key(&of(launch))
    }

    fn detach(&self, key: &LauncherKey, serial: u64) {
        let mut state = self.state();
        if state.launchers.get(key).is_none_or(|attached| attached.serial != serial) {
            return;
        }
        state.launchers.remove(key);
        tracing::info!(owner = %key.owner, launcher = %key.name, "a launcher has left");
        // Nobody will tell of these.
        state.launches.retain(|_, given| !(given.is_over && given.launch.launcher() == key));
        for given in state.launches.values().filter(|given| given.launch.launcher() == key) {
            given.launch.note_launcher(false);
        }
        drop(state);
        self.tell_change();
    }

    fn tell_change(&self) {
        self.shared.changes.send_modify(|count| *count += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Slots of a launcher that launches take.
    fn taken(&self, key: &LauncherKey) -> u32 {
        self.taken_by(key, |_| true)
    }

    fn taken_by(&self, key: &LauncherKey, counts: impl Fn(&Launch) -> bool) -> u32 {
        let launches = self.launches.values().map(|given| &given.launch);
        launches.filter(|launch| launch.launcher() == key && counts(launch)).map(|launch| launch.world_size()).sum()
    }
}

impl Given {
    /// The order once more for a launcher that does not run it; None where another one may have
    /// begun it, or it has been begun.
    fn again(&mut self, session: u64) -> Option<LauncherOrder> {
        let ordered = self.ordered.as_mut()?;
        let is_unread = ordered.to.is_none_or(|to| to != 0 && to == session);
        if !is_unread || self.is_over || !self.launch.is_untouched() {
            return None;
        }
        ordered.to = Some(session);
        Some(LauncherOrder::Launch { launch: self.launch.clone(), token: ordered.token.reveal().to_owned() })
    }
}

impl Attachment {
    /// The next order; None where another launcher has taken the place.
    pub async fn next(&mut self) -> Option<LauncherOrder> {
        self.orders.recv().await
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.launches.detach(&self.key, self.serial);
    }
}

/// Cuts what a crash has left half-written at the ends of journals: outposts send it again.
fn cut_torn_ends(folder: &JobFolder, ranks: u32) -> io::Result<()> {
    for folder in (0..ranks).map(|rank| if rank == 0 { folder.clone() } else { folder.rank(rank) }) {
        if let Some(lock) = JobLock::take(&folder)? {
            cut_torn_end(&folder, &lock)?;
        }
    }
    Ok(())
}

/// Names a launch.
pub fn of(launch: &Launch) -> OfLaunch {
    OfLaunch { job: launch.job().as_str().into(), attempt: launch.attempt() }
}

/// The way to have a launcher, in words.
fn how_to_attach(engine: Engine) -> &'static str {
    match engine {
        Engine::Spark => "torchd.spark.attach(spark) attaches one",
        Engine::Torchrun => "`torchd launch --torchrun` attaches one",
    }
}

/// The time since then; none where the clock went back.
fn since(time: SystemTime) -> Duration {
    time.elapsed().unwrap_or_default()
}

/// That long ago, as far as this clock goes back.
fn before(now: Instant, ago: Duration) -> Instant {
    now.checked_sub(ago).unwrap_or(now)
}

#[cfg(test)]
mod tests;
