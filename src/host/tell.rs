//! The reports of a host: records to the journal, the same scalars to an event file, and the last
//! checkpoint to a file for the next attempt.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::reports::Report;
use super::say;
use crate::beneath::Folder;
use crate::job::order::{LeasedDevice, Order};
use crate::journal::{JobFolder, JournalWriter, write_whole};
use crate::proto::journal::record::What;
use crate::proto::v1::{
    CheckpointSaved, RunnerEnded, RunnerResumed, RunnerStarted, ScalarValue, ScalarValues, StepProgress,
};
use crate::tensorboard::EventFileWriter;

/// The name of a program's folder in that of its job.
pub(super) const PROGRAM: &str = "program";
/// The file that remembers where a program can go on. It lies beside that folder.
const KEPT: &str = "program.json";
/// Values that are taken in a second; more are dropped and counted.
const MOST_VALUES_A_SECOND: usize = 10_000;
/// Characters of a message at the end.
const MOST_MESSAGE: usize = 10_000;
/// Steps fit into event files, which have 63 bits for them.
const MOST_STEP: u64 = i64::MAX as u64;

/// State that one attempt hands to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Kept {
    /// The last checkpoint that the program has told of, from its folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// Its step.
    pub step: u64,
}

/// Tells what happens.
pub(super) struct Teller {
    folder: JobFolder,
    journal: JournalWriter,
    events: Option<EventFileWriter>,
    /// Bytes that the event file may hold.
    event_bytes: u64,
    kept: Kept,
    /// The highest step so far.
    step: u64,
    /// Whether the journal has yet to be told where this attempt goes on.
    is_resume_due: bool,
    /// When values were taken within the last second, and how many.
    taken: VecDeque<(Instant, usize)>,
    dropped: u64,
}

impl Teller {
    /// Begins an attempt. What an earlier one left beyond the checkpoint that this one goes on from
    /// counts no longer.
    pub(super) fn begin(folder: &JobFolder, order: &Order, journal: JournalWriter) -> io::Result<Self> {
        let goes_on = order.resume_step.is_some();
        let kept = read_kept(folder).filter(|_| goes_on).unwrap_or_default();
        fs::create_dir_all(folder.tensorboard())?;
        let held = fs::read_dir(folder.tensorboard())?.flatten().filter_map(|entry| entry.metadata().ok());
        let held: u64 = held.map(|about| about.len()).sum();
        let mut teller = Self {
            folder: folder.clone(),
            journal,
            events: None,
            event_bytes: order.max_event_bytes.saturating_sub(held),
            step: kept.step,
            is_resume_due: order.attempt > 1 && kept.checkpoint.is_none(),
            kept,
            taken: VecDeque::new(),
            dropped: 0,
        };
        if order.attempt > 1 && teller.kept.checkpoint.is_some() {
            teller.resume(teller.kept.step)?;
        }
        Ok(teller)
    }

    /// Where the program can go on.
    pub(super) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The program runs.
    pub(super) fn started(&mut self, pid: u32, order: &Order) -> io::Result<()> {
        let device = match (order.lease.device, &order.lease.gpu) {
            (LeasedDevice::Cuda, Some(gpu)) => format!("cuda:{}", gpu.index),
            (LeasedDevice::Cuda, None) => "cuda".to_owned(),
            (LeasedDevice::Cpu, _) => "cpu".to_owned(),
        };
        let cpu_threads = order.lease.cpu_threads;
        self.append(What::Started(RunnerStarted { pid, device, cpu_threads, ..RunnerStarted::default() }))
    }

    /// A line that the program has reported.
    pub(super) fn report(&mut self, report: Report) -> io::Result<()> {
        let Report { step, scalars, epoch, epochs, progress, checkpoint, is_finished: _ } = report;
        let step = step.unwrap_or(self.step).min(MOST_STEP);
        self.scalars(step, scalars)?;
        if epoch.is_some() || epochs.is_some() || progress.is_some() || step > self.step {
            self.step = self.step.max(step);
            let told = StepProgress {
                step: self.step,
                progress_ratio: progress,
                epoch,
                total_epochs: epochs,
                ..StepProgress::default()
            };
            self.append(What::Progress(told))?;
        }
        match checkpoint {
            Some(path) => self.checkpoint(step, path),
            None => Ok(()),
        }
    }

    /// Values at a step of which more may be dropped than come in a second.
    fn scalars(&mut self, step: u64, values: Vec<(String, f64)>) -> io::Result<()> {
        if values.is_empty() || !self.takes(values.len()) {
            return Ok(());
        }
        self.values(step, values)
    }

    /// Values at a step.
    pub(super) fn values(&mut self, step: u64, values: Vec<(String, f64)>) -> io::Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut self.is_resume_due) {
            // Nothing tells where the program goes on: at its first value, and what an earlier
            // attempt told from there on counts no longer.
            self.resume(step.saturating_sub(1))?;
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

    fn checkpoint(&mut self, step: u64, path: String) -> io::Result<()> {
        let place = Folder::open(&self.folder.path().join(PROGRAM))?;
        let is_there = place.folder(&path).map(drop).or_else(|_| place.file(&path).map(drop));
        if let Err(error) = is_there {
            say(&format!("the checkpoint {path:?} is nothing to go on from: {error}"));
            return Ok(());
        }
        self.kept = Kept { checkpoint: Some(path.clone()), step };
        let text = serde_json::to_vec_pretty(&self.kept)?;
        write_whole(&self.folder.path().join(KEPT), &text)?;
        self.append(What::Checkpoint(CheckpointSaved { step, path: format!("{PROGRAM}/{path}"), size_bytes: 0 }))
    }

    fn resume(&mut self, step: u64) -> io::Result<()> {
        crate::tensorboard::cut_after(&self.folder.tensorboard(), step as i64)?;
        let path = self.kept.checkpoint.as_ref().map(|path| format!("{PROGRAM}/{path}")).unwrap_or_default();
        self.append(What::Resumed(RunnerResumed { step, path }))
    }

    /// Whether so many more values are taken in this second.
    fn takes(&mut self, count: usize) -> bool {
        let now = Instant::now();
        while self.taken.front().is_some_and(|(time, _)| now - *time > Duration::from_secs(1)) {
            self.taken.pop_front();
        }
        let sum: usize = self.taken.iter().map(|(_, count)| count).sum();
        if sum + count > MOST_VALUES_A_SECOND {
            if self.dropped == 0 {
                say(&format!("more than {MOST_VALUES_A_SECOND} values come in a second; the others are dropped"));
            }
            self.dropped += count as u64;
            return false;
        }
        self.taken.push_back((now, count));
        true
    }

    /// The last word of the attempt.
    pub(super) fn end(&mut self, ended: RunnerEnded) -> io::Result<()> {
        if self.dropped > 0 {
            say(&format!("{} values were dropped in all", self.dropped));
        }
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

/// The state of the attempt before; None where there is none, or it cannot be read.
fn read_kept(folder: &JobFolder) -> Option<Kept> {
    let text = fs::read(folder.path().join(KEPT)).ok()?;
    serde_json::from_slice(&text).map_err(|error| say(&format!("{KEPT} cannot be read: {error}"))).ok()
}
