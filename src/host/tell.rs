//! The reports of a host: records to the journal, the same scalars to an event file, and the last
//! checkpoint to a file for the next attempt.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::artifacts::Artifacts;
use super::rate::Rate;
use super::reports::{MOST_TOLD, Report};
use super::say;
use crate::beneath::Folder;
use crate::fault;
use crate::job::order::{LeasedDevice, Order};
use crate::journal::{JobFolder, JournalWriter, PROGRAM, ProgramCheckpoint, ProgramCheckpoints};
use crate::proto::journal::record::What;
use crate::proto::v1::{
    CheckpointSaved, RunnerEnded, RunnerResumed, RunnerStarted, ScalarValue, ScalarValues, StepProgress,
};
use crate::shortage::is_shortage;
use crate::tensorboard::EventFileWriter;

/// Values that are taken in a second; more are dropped and counted.
const MOST_VALUES_A_SECOND: usize = 10_000;
/// Tags that are taken from an attempt.
const MOST_TAGS: usize = 10_000;
/// Values are written to a journal up to this many times the bytes that event files may have.
pub const JOURNAL_FACTOR: u64 = 4;
/// The interval between two records of progress, and between two of checkpoints.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// Characters of a message at the end.
const MOST_MESSAGE: usize = 10_000;
/// Characters of a path that are told.
const MOST_PATH_TOLD: usize = 300;
/// Steps fit into event files, which have 63 bits for them.
const MOST_STEP: u64 = i64::MAX as u64;

/// Tells what happens.
pub(super) struct Teller {
    folder: JobFolder,
    journal: JournalWriter,
    events: Option<EventFileWriter>,
    /// Bytes that the event file may hold.
    event_bytes: u64,
    /// The checkpoints that the program has reported, one attempt after another.
    checkpoints: ProgramCheckpoints,
    /// The highest step so far.
    step: u64,
    /// The step from which this attempt goes on, as the journal has it, until the first value that
    /// it tells; None behind that, and in the first attempt.
    resumed: Option<Resumed>,
    values: Rate,
    tags: BTreeSet<String>,
    /// The journal takes no values when it has so many bytes.
    journal_bytes: u64,
    /// Values that were not written.
    dropped: u64,
    /// The reasons for it that the log has.
    is_told: Told,
    /// Progress that has yet to be told, and when some was.
    progress: (Option<StepProgress>, Option<Instant>),
    /// A checkpoint that has yet to be told, by step and path, and when one was.
    checkpoint: (Option<(u64, String)>, Option<Instant>),
    /// Checkpoints that were none.
    absent: u64,
    artifacts: Artifacts,
}

/// The step from which an attempt goes on, by the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resumed {
    /// It has no checkpoint, and the journal has no step yet.
    Nowhere,
    /// The step of its checkpoint.
    At(u64),
}

/// Reasons for which values were dropped that the log has.
#[derive(Debug, Default)]
struct Told {
    rate: bool,
    tags: bool,
    journal: bool,
}

impl Teller {
    /// Begins an attempt. What an earlier one left beyond the checkpoint that this one goes on from
    /// counts no longer.
    pub(super) fn begin(folder: &JobFolder, order: &Order, journal: JournalWriter) -> io::Result<Self> {
        let goes_on = order.resume_step.is_some();
        let checkpoints = if goes_on { there(folder)? } else { ProgramCheckpoints::default() };
        let resume_step = checkpoints.newest().map(|checkpoint| checkpoint.step);
        fs::create_dir_all(folder.tensorboard())?;
        let held = fs::read_dir(folder.tensorboard())?.flatten().filter_map(|entry| entry.metadata().ok());
        let held: u64 = held.map(|about| about.len()).sum();
        let mut teller = Self {
            folder: folder.clone(),
            journal,
            events: None,
            event_bytes: order.max_event_bytes.saturating_sub(held),
            step: resume_step.unwrap_or(0),
            resumed: (order.attempt > 1).then_some(Resumed::Nowhere),
            checkpoints,
            values: Rate::new(MOST_VALUES_A_SECOND),
            tags: BTreeSet::new(),
            journal_bytes: order.max_event_bytes.saturating_mul(JOURNAL_FACTOR),
            dropped: 0,
            is_told: Told::default(),
            progress: (None, None),
            checkpoint: (None, None),
            absent: 0,
            artifacts: Artifacts::of(folder),
        };
        if let Some(step) = resume_step.filter(|_| order.attempt > 1) {
            teller.resume(step, false)?;
            teller.resumed = Some(Resumed::At(step));
        }
        Ok(teller)
    }

    /// Where the program can go on.
    pub(super) fn goes_on_from(&self) -> Option<&ProgramCheckpoint> {
        self.checkpoints.newest()
    }

    /// The program runs.
    pub(super) fn started(&mut self, pid: u32, order: &Order) -> io::Result<()> {
        let gpus: Vec<_> = order.lease.gpus.iter().map(|gpu| format!("cuda:{}", gpu.index)).collect();
        let device = match order.lease.device {
            LeasedDevice::Cuda if gpus.is_empty() => "cuda".to_owned(),
            LeasedDevice::Cuda => gpus.join(","),
            LeasedDevice::Cpu => "cpu".to_owned(),
        };
        let cpu_threads = order.lease.cpu_threads;
        self.append(What::Started(RunnerStarted { pid, device, cpu_threads, ..RunnerStarted::default() }))
    }

    /// A line that the program has reported. Its checkpoint waits for `tell_checkpoint`.
    pub(super) fn report(&mut self, report: Report) -> io::Result<()> {
        let Report { step, scalars, nulls: _, epoch, epochs, progress, checkpoint, artifact, is_finished: _ } = report;
        // A program that reports values of a step before its checkpoint has gone back there. Event
        // files tell that of nobody: their tags may count epochs beside steps.
        if let (Some(step), Some(Resumed::At(before)), false) = (step, self.resumed, scalars.is_empty())
            && step <= before
        {
            self.resumed = None;
            self.resume(step.saturating_sub(1), step == 0)?;
        }
        let step = step.unwrap_or(self.step).min(MOST_STEP);
        if self.values.takes(scalars.len(), Instant::now()) {
            self.values(step, scalars)?;
        } else {
            let is_told = std::mem::replace(&mut self.is_told.rate, true);
            let what = || format!("more than {MOST_VALUES_A_SECOND} values come in a second; the others are dropped");
            self.drop(scalars.len(), is_told, what);
        }
        if epoch.is_some() || epochs.is_some() || progress.is_some() || step > self.step {
            self.step = self.step.max(step);
            let told = self.progress.0.get_or_insert_default();
            told.step = self.step;
            told.progress_ratio = progress.or(told.progress_ratio);
            told.epoch = epoch.or(told.epoch);
            told.total_epochs = epochs.or(told.total_epochs);
            self.tell_progress(false)?;
        }
        let place = self.folder.path().join(PROGRAM);
        let below = |path: String| match Path::new(&path).strip_prefix(&place) {
            Ok(below) => below.to_string_lossy().into_owned(),
            Err(_) => path,
        };
        if let Some(path) = checkpoint {
            self.checkpoint.0 = Some((step, below(path)));
        }
        artifact.map_or(Ok(()), |path| self.artifacts.add(&below(path)))
    }

    /// Tells the newest progress, where the last was told long enough ago, or this is the end.
    pub(super) fn tell_progress(&mut self, is_end: bool) -> io::Result<()> {
        let (waiting, told) = &mut self.progress;
        if (is_end || is_due(*told))
            && let Some(progress) = waiting.take()
        {
            *told = Some(Instant::now());
            self.append(What::Progress(progress))?;
        }
        Ok(())
    }

    fn drop(&mut self, count: usize, is_told: bool, why: impl Fn() -> String) {
        self.dropped += count as u64;
        if !is_told {
            say(&why());
        }
    }

    /// Whether the journal takes no more values, and the log has been told.
    pub(super) fn is_full(&self) -> bool {
        self.is_told.journal
    }

    /// Values at a step, as far as the journal has room and there are not too many tags.
    pub(super) fn values(&mut self, step: u64, mut values: Vec<(String, f64)>) -> io::Result<()> {
        if self.journal.length() >= self.journal_bytes {
            let is_told = std::mem::replace(&mut self.is_told.journal, true);
            let most = self.journal_bytes;
            let what = || {
                let why = format!("{JOURNAL_FACTOR} times jobs.max_event_bytes");
                format!("the journal has {most} bytes, {why}, and takes no more values")
            };
            self.drop(values.len(), is_told, what);
            return Ok(());
        }
        let count = values.len();
        values
            .retain(|(tag, _)| self.tags.contains(tag) || self.tags.len() < MOST_TAGS && self.tags.insert(tag.clone()));
        if values.len() < count {
            let is_told = std::mem::replace(&mut self.is_told.tags, true);
            let what = || format!("the program has {MOST_TAGS} tags; values of further ones are dropped");
            self.drop(count - values.len(), is_told, what);
        }
        if values.is_empty() {
            return Ok(());
        }
        if let Some(Resumed::Nowhere) = self.resumed.take() {
            // Nothing tells where the program goes on: at its first value, and what an earlier
            // attempt told from there on counts no longer.
            self.resume(step.saturating_sub(1), step == 0)?;
        }
        self.step = self.step.max(step);
        let told = values.iter().map(|(tag, value)| ScalarValue { tag: tag.clone(), value: *value }).collect();
        self.append(What::Scalars(ScalarValues { step, values: told }))?;
        self.write_events(step, &values)
    }

    fn write_events(&mut self, step: u64, values: &[(String, f64)]) -> io::Result<()> {
        if self.event_bytes == 0 {
            return Ok(());
        }
        if self.events.is_none() {
            self.events = Some(EventFileWriter::create(&self.folder.tensorboard(), step as i64)?);
        }
        let Some(events) = &mut self.events else { return Ok(()) };
        let now = SystemTime::now();
        for (tag, value) in values {
            events.scalar(now, step as i64, tag, *value as f32)?;
        }
        events.flush_if_due()?;
        if events.length() > self.event_bytes {
            events.flush()?;
            say("the event files hold as much as jobs.max_event_bytes allows; the journal has the rest");
            (self.events, self.event_bytes) = (None, 0);
        }
        Ok(())
    }

    /// Whether a checkpoint waits, and the last was told long enough ago.
    pub(super) fn is_checkpoint_due(&self) -> bool {
        self.checkpoint.0.is_some() && is_due(self.checkpoint.1)
    }

    /// Tells the newest checkpoint that the program has reported. The disk has all values that were
    /// told before.
    pub(super) fn tell_checkpoint(&mut self) -> io::Result<()> {
        let Some((step, path)) = self.checkpoint.0.take() else { return Ok(()) };
        self.checkpoint.1 = Some(Instant::now());
        let checkpoint = ProgramCheckpoint { step, path };
        let size_bytes = match size(&self.folder, &checkpoint) {
            Ok(size_bytes) => size_bytes,
            Err(error) => {
                self.absent += 1;
                if self.absent <= MOST_TOLD {
                    let path: String = checkpoint.path.chars().take(MOST_PATH_TOLD).collect();
                    say(&format!("the checkpoint {path:?} is nothing to go on from: {error}"));
                }
                return Ok(());
            }
        };
        self.journal.sync()?;
        if let Some(events) = &mut self.events {
            events.sync()?;
        }
        let path = format!("{PROGRAM}/{}", checkpoint.path);
        let checkpoints = self.checkpoints.with(checkpoint);
        checkpoints.write(&self.folder)?;
        self.checkpoints = checkpoints;
        fault::point("program-kept");
        self.append(What::Checkpoint(CheckpointSaved { step, path, size_bytes }))
    }

    /// Tells that what stands behind a step counts no longer, and that of step 0 either where the
    /// program tells it anew.
    fn resume(&mut self, step: u64, replaces_first: bool) -> io::Result<()> {
        let last = if replaces_first { -1 } else { step as i64 };
        crate::tensorboard::cut_after(&self.folder.tensorboard(), last)?;
        let path =
            self.checkpoints.newest().map(|checkpoint| format!("{PROGRAM}/{}", checkpoint.path)).unwrap_or_default();
        self.append(What::Resumed(RunnerResumed { step, path, replaces_first }))
    }

    /// The last word of the attempt.
    pub(super) fn end(&mut self, ended: RunnerEnded) -> io::Result<()> {
        self.tell_checkpoint()?;
        self.tell_progress(true)?;
        if self.dropped > 0 {
            say(&format!("{} values were dropped in all", self.dropped));
        }
        if self.absent > MOST_TOLD {
            say(&format!("{} checkpoints were nothing to go on from", self.absent));
        }
        self.artifacts.say_what_was_refused();
        if let Some(events) = &mut self.events {
            events.sync()?;
        }
        let message = ended.message.chars().take(MOST_MESSAGE).collect();
        self.append(What::Ended(RunnerEnded { message, step: self.step, ..ended }))?;
        self.journal.sync()
    }

    fn append(&mut self, what: What) -> io::Result<()> {
        self.journal.append(SystemTime::now(), what)
    }
}

/// Whether what was told at that time may be told again.
fn is_due(told: Option<Instant>) -> bool {
    told.is_none_or(|told| told.elapsed() >= TELL_EVERY)
}

/// Finds a file or a folder of a program, and tells the bytes of its files. Links are not followed.
fn size(folder: &JobFolder, checkpoint: &ProgramCheckpoint) -> io::Result<u64> {
    let place = Folder::open(folder.path())?.folder(PROGRAM)?;
    place.folder(&checkpoint.path).map(drop).or_else(|_| place.file(&checkpoint.path).map(drop))?;
    let (files, are_all) = checkpoint.files(folder)?.unwrap_or_default();
    if !are_all {
        let path = &checkpoint.path;
        say(&format!("the checkpoint {path:?} has too many files; {} are listed and copied", files.len()));
    }
    Ok(files.iter().map(|file| file.size_bytes).sum())
}

/// The checkpoints of the attempts before, up to the newest one that is still there.
///
/// # Errors
/// The machine is short of something, so that nothing is known of them.
fn there(folder: &JobFolder) -> io::Result<ProgramCheckpoints> {
    let mut checkpoints = match ProgramCheckpoints::read(folder) {
        Ok(checkpoints) => checkpoints,
        Err(error) if is_shortage(&error) => return Err(error),
        Err(error) => {
            say(&format!("program.json cannot be read: {error}"));
            ProgramCheckpoints::default()
        }
    };
    while let Some(newest) = checkpoints.newest() {
        let Err(error) = size(folder, newest) else { break };
        if is_shortage(&error) {
            return Err(error);
        }
        let path = checkpoints.forget_newest().map(|newest| newest.path).unwrap_or_default();
        let then = match checkpoints.newest() {
            Some(earlier) => format!("{:?} is tried", earlier.path),
            None => "the program begins anew".to_owned(),
        };
        say(&format!("the checkpoint {path:?} is gone, and {then}: {error}"));
    }
    Ok(checkpoints)
}
