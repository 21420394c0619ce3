//! A launch: its ranks, who runs them, and whether they are heard.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::record::Record;
use super::troubles::Looks;
use super::{LaunchError, LauncherKey, Mailbox, RankPart, VERSION, before, since};
use crate::job::JobId;
use crate::job::end::Exit;
use crate::journal::JobFolder;

/// A look counts for the time since the look before, but for no more than this.
const MOST_OF_A_LOOK: Duration = Duration::from_secs(1);
/// The least lease of ranks with a mailbox. A call that is lost is given up after two minutes, and
/// the next one may be seen a minute late.
const MAILBOX_LEASE: Duration = Duration::from_secs(300);
/// Files that came within this time are still coming.
const CARRIES: Duration = Duration::from_secs(5);

/// The limits of launches.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A rank that is not heard for so long is given up.
    pub lease: Duration,
    /// A rank stops by itself after so long without a daemon.
    pub orphan_timeout: Duration,
    /// From asking a runner to stop to killing it.
    pub stop_grace: Duration,
    /// Limit of a rank's log, in bytes.
    pub log_max_bytes: u64,
    /// Limit of the event files of a job, in bytes.
    pub max_event_bytes: u64,
    /// Limit of a rank's journal, in bytes.
    pub journal_bytes: u64,
    /// Ranks may speak to each other over other addresses than loopback, in clear.
    pub may_leave_machine: bool,
    /// The group may read event files and results.
    pub group_reads: bool,
}

/// The wish for a rank. A later one is stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wish {
    /// It goes on.
    GoOn,
    /// It checkpoints and stops.
    Stop,
    /// It ends at once.
    Kill,
}

/// A rank as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RankState {
    /// It has not joined.
    Waits,
    /// It has joined, and is heard.
    Runs,
    /// It has ended: how, and why nothing ran or it was given up.
    Over(Exit, Option<Trouble>),
}

/// Why a rank did not run, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It has not run, for this reason.
    NotStarted(String),
    /// It is not heard any more.
    Lost(String),
    /// It wrote more than it may.
    Full(String),
}

/// An outpost that takes the place of a rank.
#[derive(Debug, Clone)]
pub struct Join {
    /// The rank.
    pub rank: u32,
    /// A number of its own.
    pub outpost: u64,
    /// As many ranks as the engine has started.
    pub world_size: u32,
    /// Its version.
    pub version: String,
    /// Its host, for people.
    pub host: String,
}

/// An attempt whose ranks run on other machines.
pub struct Launch {
    job: JobId,
    pub(super) folder: JobFolder,
    pub(super) limits: Limits,
    attempt: u32,
    world_size: u32,
    launcher: LauncherKey,
    begun: Instant,
    join_by: Instant,
    /// The fence: held while files of the job are written, and while a rank is declared over. So
    /// nothing is written for a rank that is. It is locked before `parts`.
    record: Mutex<Record>,
    parts: Mutex<Parts>,
    puts: AtomicU64,
    /// An earlier daemon has begun it, and its ranks may have joined that.
    is_adopted: bool,
    join_timeout: Duration,
    part: RankPart,
    mailbox: Option<Mailbox>,
}

pub(super) struct Parts {
    pub(super) ranks: Vec<Rank>,
    /// When the launcher left.
    launcher_left: Option<Instant>,
    /// The engine has ended the launch, with these words.
    engine_ended: Option<String>,
    /// Its launcher does not know it.
    is_lost: bool,
    /// Nobody wants what it has not brought home yet.
    pub(super) is_unwanted: bool,
    /// Its mailbox, as far as it could be looked at.
    pub(super) looks: Looks,
}

pub(super) struct Rank {
    outpost: Option<u64>,
    host: String,
    /// How long it has not been heard, as far as somebody has looked.
    silent: Duration,
    looked: Instant,
    /// When files of it last came.
    carried: Option<Instant>,
    /// Why the job's folder did not take the last bytes that came.
    pub(super) disk: Option<String>,
    /// Why there is no room for files that are to come whole.
    pub(super) room: Option<String>,
    wish: Wish,
    pub(super) end: Option<(Exit, Option<Trouble>)>,
}

impl Launch {
    /// One that has been written down.
    pub(super) fn new(job: JobId, folder: JobFolder, record: Record, limits: Limits) -> Self {
        let now = Instant::now();
        let begun = before(now, since(record.began));
        let lease = if record.mailbox.is_some() { limits.lease.max(MAILBOX_LEASE) } else { limits.lease };
        let limits = Limits { lease, ..limits };
        let rank = || Rank {
            outpost: None,
            host: String::new(),
            silent: Duration::ZERO,
            looked: now,
            carried: None,
            disk: None,
            room: None,
            wish: Wish::GoOn,
            end: None,
        };
        let ranks = (0..record.world_size).map(|_| rank()).collect();
        Self {
            job,
            folder,
            limits,
            attempt: record.attempt,
            world_size: record.world_size,
            launcher: record.launcher(),
            begun,
            join_by: begun + record.join_timeout,
            puts: AtomicU64::new(0),
            is_adopted: false,
            join_timeout: record.join_timeout,
            part: record.part(),
            mailbox: record.mailbox.clone(),
            record: Mutex::new(record),
            parts: Mutex::new(Parts {
                ranks,
                launcher_left: None,
                engine_ended: None,
                is_lost: false,
                is_unwanted: false,
                looks: Looks::new(now),
            }),
        }
    }

    /// One that an earlier daemon has begun: its ranks may have joined, and need time to be heard.
    pub(super) fn adopted(job: JobId, folder: JobFolder, record: Record, limits: Limits) -> Self {
        let launch = Self::new(job, folder, record, limits);
        let join_by = launch.join_by.max(Instant::now() + launch.limits.lease);
        Self { join_by, is_adopted: true, ..launch }
    }

    /// The job.
    pub fn job(&self) -> &JobId {
        &self.job
    }

    /// The attempt.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How many ranks there are.
    pub fn world_size(&self) -> u32 {
        self.world_size
    }

    /// Its launcher.
    pub fn launcher(&self) -> &LauncherKey {
        &self.launcher
    }

    /// How long ago it began.
    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How long ranks have to join.
    pub fn join_timeout(&self) -> Duration {
        self.join_timeout
    }

    /// The part of its machine that each rank gets.
    pub fn part(&self) -> RankPart {
        self.part
    }

    /// Its limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Its mailbox; None where ranks have a route to the daemon.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        self.mailbox.as_ref()
    }

    /// The folder of a rank.
    pub fn folder_of(&self, rank: u32) -> JobFolder {
        if rank == 0 { self.folder.clone() } else { self.folder.rank(rank) }
    }

    /// Takes the place of a rank.
    ///
    /// # Errors
    /// It is another one's, or over, or the engine did not start what was ordered.
    pub fn join(&self, join: Join) -> Result<(), LaunchError> {
        let Join { rank, outpost, world_size, version, host } = join;
        if version != VERSION {
            return Err(LaunchError::Version { found: version, wanted: VERSION });
        }
        if world_size != self.world_size {
            return Err(LaunchError::WorldSize { found: world_size, wanted: self.world_size });
        }
        let mut parts = self.parts();
        let place = self.check(&mut parts, rank, outpost)?;
        place.host = host;
        tracing::info!(job.id = %self.job, attempt = self.attempt, rank, host = %place.host, "a rank has joined");
        Ok(())
    }

    /// A call of an outpost: the rank is its own, and its lease begins anew. Returns the wish.
    ///
    /// # Errors
    /// As for [`Launch::join`].
    pub fn hear(&self, rank: u32, outpost: u64) -> Result<Wish, LaunchError> {
        let mut parts = self.parts();
        Ok(self.check(&mut parts, rank, outpost)?.wish)
    }

    /// Lets a call of an outpost write: while the record is held, the rank is not declared over.
    /// Blocks.
    ///
    /// # Errors
    /// As for [`Launch::join`].
    pub(super) fn admit(&self, rank: u32, outpost: u64) -> Result<(MutexGuard<'_, Record>, Wish), LaunchError> {
        let record = self.record();
        let wish = self.hear(rank, outpost)?;
        Ok((record, wish))
    }

    fn check<'a>(&self, parts: &'a mut Parts, rank: u32, outpost: u64) -> Result<&'a mut Rank, LaunchError> {
        let count = self.world_size;
        let place = parts.ranks.get_mut(rank as usize).ok_or(LaunchError::NoSuchRank { rank, count })?;
        if place.end.is_some() {
            return Err(LaunchError::Over(rank));
        }
        // The daemon may be another one than that which it joined.
        if *place.outpost.get_or_insert(outpost) != outpost {
            return Err(LaunchError::Taken { rank, host: place.host.clone() });
        }
        place.silent = Duration::ZERO;
        Ok(place)
    }

    /// The runner of a rank has ended; `fault` tells why nothing could run. The disk has what the
    /// rank has told when this returns. Blocks.
    ///
    /// # Errors
    /// As for [`Launch::join`]; or the disk does not take it.
    pub fn end_rank(&self, rank: u32, outpost: u64, exit: Exit, fault: Option<String>) -> Result<(), LaunchError> {
        self.hear(rank, outpost)?;
        self.sync_told(rank)?;
        let _fence = self.record();
        let mut parts = self.parts();
        let place = self.check(&mut parts, rank, outpost)?;
        let host = &place.host;
        place.end = Some((exit, fault.map(|words| Trouble::NotStarted(format!("on {host}: {words}")))));
        Ok(())
    }

    /// A rank has written more than it may, and is over. The caller holds the fence.
    pub(super) fn give_up(&self, rank: u32, _fence: &Record, words: String) {
        if let Some(place) = self.parts().ranks.get_mut(rank as usize) {
            place.end.get_or_insert((Exit::Unknown, Some(Trouble::Full(words))));
        }
    }

    /// Nothing is written for any rank from here on. Blocks.
    pub(super) fn close(&self) {
        let mut record = self.record();
        for place in &mut self.parts().ranks {
            place.end.get_or_insert((Exit::Unknown, None));
        }
        record.is_over = true;
        if self.mailbox.is_some()
            && let Err(error) = record.write(&self.folder)
        {
            tracing::warn!(job.id = %self.job, %error, "the end of the launch cannot be noted, and its mailbox may stay");
        }
    }

    /// Wishes something of a rank, where that is stronger than before.
    pub fn ask(&self, rank: u32, wish: Wish) {
        if let Some(place) = self.parts().ranks.get_mut(rank as usize) {
            place.wish = place.wish.max(wish);
        }
    }

    /// A rank as far as it is known now. One that is not heard for too long, or does not join, is
    /// over from here on.
    pub fn state(&self, rank: u32, now: Instant) -> RankState {
        let Parts { ranks, launcher_left, engine_ended, is_lost, looks, .. } = &mut *self.parts();
        let nobody_came = ranks.iter().all(|rank| rank.outpost.is_none() && rank.end.is_none());
        let Some(place) = ranks.get_mut(rank as usize) else { return RankState::Over(Exit::Unknown, None) };
        if let Some((exit, trouble)) = &place.end {
            return RankState::Over(*exit, trouble.clone());
        }
        let lease = self.limits.lease;
        // A daemon that stood still, or cannot look at the mailbox, has heard no rank.
        let hears = self.mailbox.is_none() || looks.are_good(now);
        let blind = looks.blind();
        if hears {
            place.silent += now.saturating_duration_since(place.looked).min(MOST_OF_A_LOOK);
        }
        place.looked = now;
        let trouble = match place.outpost {
            Some(_) if place.silent > lease => {
                let lease = humantime::format_duration(lease);
                Some(Trouble::Lost(format!("it was not heard from {} for {lease}", place.host)))
            }
            Some(_) => return RankState::Runs,
            None if place.wish > Wish::GoOn => None,
            None => {
                let is_long = |left: &Instant| now.saturating_duration_since(*left) > lease + blind;
                let left = launcher_left.filter(|left| hears && nobody_came && is_long(left));
                let why = match engine_ended {
                    Some(words) if words.is_empty() => "the engine ended before it had joined".to_owned(),
                    Some(words) => format!("the engine ended before it had joined: {words}"),
                    None if left.is_some() => "its launcher left before any rank had joined".to_owned(),
                    None if hears && now >= self.join_by + blind => {
                        let time = humantime::format_duration(self.join_timeout);
                        format!("it has not joined within scale.join_timeout, {time}")
                    }
                    None if *is_lost => "its launcher has lost the launch".to_owned(),
                    None => return RankState::Waits,
                };
                // It may have run, or nobody was there to start it.
                let is_lost = self.is_adopted || *is_lost || left.is_some();
                Some(if is_lost { Trouble::Lost(why) } else { Trouble::NotStarted(why) })
            }
        };
        // Something is being written, maybe for this rank: it is asked again.
        let _fence = match self.record.try_lock() {
            Ok(fence) => fence,
            Err(TryLockError::Poisoned(fence)) => fence.into_inner(),
            Err(TryLockError::WouldBlock) if place.outpost.is_some() => return RankState::Runs,
            Err(TryLockError::WouldBlock) => return RankState::Waits,
        };
        place.end = Some((Exit::Unknown, trouble.clone()));
        RankState::Over(Exit::Unknown, trouble)
    }

    /// Whether nobody can have begun a rank of it, as far as its ranks and its engine tell.
    pub(super) fn is_untouched(&self) -> bool {
        let parts = self.parts();
        let nobody_came = parts.ranks.iter().all(|rank| rank.outpost.is_none() && rank.end.is_none());
        nobody_came && parts.engine_ended.is_none() && !parts.is_lost
    }

    /// The launcher does not know of it: ranks that have not joined do not come.
    pub(super) fn note_loss(&self) {
        self.parts().is_lost = true;
    }

    /// A number for each time that files come.
    pub(super) fn next_put(&self) -> u64 {
        self.puts.fetch_add(1, Ordering::Relaxed)
    }

    /// Files of a rank are coming.
    pub fn note_carried(&self, rank: u32) {
        if let Some(place) = self.parts().ranks.get_mut(rank as usize) {
            place.carried = Some(Instant::now());
        }
    }

    /// Whether files of a rank are coming now, before which its journal tells nothing.
    pub fn carries(&self, rank: u32, now: Instant) -> bool {
        let carried = self.parts().ranks.get(rank as usize).and_then(|place| place.carried);
        carried.is_some_and(|carried| now.saturating_duration_since(carried) < CARRIES)
    }

    /// The launcher is there, or not.
    pub(super) fn note_launcher(&self, is_there: bool) {
        let left = &mut self.parts().launcher_left;
        *left = if is_there { None } else { Some(left.unwrap_or_else(Instant::now)) };
    }

    /// The engine has ended the launch, with these words.
    pub(super) fn end_by_engine(&self, words: String) {
        self.parts().engine_ended.get_or_insert(words);
    }

    /// Whether no engine runs it any more: it has ended, or its launcher never knew of it.
    pub(super) fn has_engine_ended(&self) -> bool {
        let parts = self.parts();
        parts.engine_ended.is_some() || parts.is_lost
    }

    /// The ranks that are waited for, in words; None where all have joined.
    pub fn waits_for(&self) -> Option<String> {
        let ranks = &self.parts().ranks;
        let absent = ranks.iter().filter(|rank| rank.outpost.is_none() && rank.end.is_none()).count();
        (absent > 0 && !self.is_adopted).then(|| format!("{absent} of {} ranks have not joined yet", self.world_size))
    }

    /// The bytes of the order of a rank, as the daemon wrote it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn order(&self, rank: u32) -> io::Result<Vec<u8>> {
        std::fs::read(self.folder_of(rank).order(self.attempt))
    }

    /// The bytes that the log of a rank may have in this attempt. Blocks.
    pub fn log_bytes(&self, rank: u32) -> u64 {
        let before = self.record().before.get(rank as usize).map_or(0, |before| before.log);
        self.limits.log_max_bytes.saturating_sub(before)
    }

    /// Whether something is being written.
    #[cfg(test)]
    pub(super) fn is_written(&self) -> bool {
        matches!(self.record.try_lock(), Err(TryLockError::WouldBlock))
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
