//! The reports of the runner: records to the journal, the same scalars to the event file, lines to
//! the log.
//!
//! The journal is the truth. Where an event file cannot be written the disk is full or gone, and
//! the attempt ends: it is taken up at its last checkpoint, up to which the disk has everything, so
//! that TensorBoard's curve has no gap.

use std::fs::File;
use std::time::{Duration, Instant, SystemTime};

use torchd::journal::{Damaged, JournalWriter};
use torchd::proto::journal::record::What;
use torchd::proto::v1::{
    CheckpointSaved, JobEndReason, RunnerEnded, RunnerResumed, RunnerStarted, ScalarValue, ScalarValues, StepProgress,
};
use torchd::tensorboard::EventFileWriter;

use crate::failure::{Failure, Result};
use crate::pulse::Journal;

/// Between scalars, progress is told this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// During validation the runner reports at this interval that it lives.
const ALIVE_EVERY: Duration = Duration::from_secs(1);

/// Bytes of the last word. What libraries say may be of any length, and a record is not.
const MAX_MESSAGE_BYTES: usize = 64 << 10;

const EVENTS: &str = "the event file could not be written";

/// Tells what happens.
pub(crate) struct Report {
    journal: Journal,
    events: Option<EventFileWriter>,
    /// Bytes that the event file may hold.
    event_bytes: u64,
    told: Instant,
    told_examples: u64,
    /// Whether another rank tells what is the same on all of them.
    is_quiet: bool,
    /// How long the loop has waited for the data that it waits for, or last waited for.
    waited: Duration,
}

impl Report {
    pub(crate) fn new(journal: JournalWriter) -> Self {
        Self {
            journal: Journal::new(journal),
            events: None,
            event_bytes: u64::MAX,
            told: Instant::now(),
            told_examples: 0,
            is_quiet: false,
            waited: Duration::ZERO,
        }
    }

    /// Writes scalars to this event file too, up to that many bytes.
    pub(crate) fn write_events(&mut self, events: EventFileWriter, most_bytes: u64) {
        self.event_bytes = most_bytes;
        self.events = Some(events);
    }

    /// Leaves it to another rank to tell what is the same on all of them.
    pub(crate) fn keep_quiet(&mut self) {
        self.is_quiet = true;
    }

    /// The journal, for the thread that reports that the runner lives.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Everything is loaded.
    pub(crate) fn started(&mut self, started: RunnerStarted) -> Result<()> {
        self.told = Instant::now();
        self.append(What::Started(started))
    }

    /// Values at a step, in order, after that many examples of training. The event file holds steps
    /// in 63 bits, which the spec's rules promise.
    pub(crate) fn scalars(&mut self, step: u64, examples: u64, values: &[(String, f64)]) -> Result<()> {
        if self.is_quiet {
            return self.progress(step, examples.max(self.told_examples));
        }
        let now = SystemTime::now();
        // The journal first: the event file never holds what the journal does not.
        let told = values.iter().map(|(tag, value)| ScalarValue { tag: tag.clone(), value: *value }).collect();
        self.told = Instant::now();
        self.told_examples = examples;
        self.append(What::Scalars(ScalarValues { step, values: told }))?;
        if let Some(events) = &mut self.events {
            let mut write = || {
                for (tag, value) in values {
                    events.scalar(now, step as i64, tag, *value as f32)?;
                }
                events.flush_if_due()
            };
            write().map_err(Failure::storage(EVENTS))?;
            if events.length() > self.event_bytes {
                events.flush().map_err(Failure::storage(EVENTS))?;
                tracing::warn!(
                    step,
                    "the event files hold as much as jobs.max_event_bytes allows; TensorBoard ends here, the journal has the rest"
                );
                self.events = None;
            }
        }
        Ok(())
    }

    /// A step without scalars: told if nothing was told for a while. `examples` are those of
    /// training so far.
    pub(crate) fn progress(&mut self, step: u64, examples: u64) -> Result<()> {
        let elapsed = self.told.elapsed();
        if elapsed < PROGRESS_EVERY {
            return Ok(());
        }
        let examples_per_second = (examples - self.told_examples) as f64 / elapsed.as_secs_f64();
        self.told = Instant::now();
        self.told_examples = examples;
        self.append(What::Progress(StepProgress { step, examples_per_second, ..StepProgress::default() }))
    }

    /// A checkpoint cannot be used.
    pub(crate) fn damaged(&mut self, damaged: &Damaged) -> Result<()> {
        self.append(What::Damaged(damaged.to_proto()))
    }

    /// This attempt goes on where another one was.
    pub(crate) fn resumed(&mut self, resumed: RunnerResumed) -> Result<()> {
        self.append(What::Resumed(resumed))
    }

    /// Something that takes longer than a step goes on.
    pub(crate) fn alive(&mut self, step: u64) -> Result<()> {
        if self.told.elapsed() < ALIVE_EVERY {
            return Ok(());
        }
        self.told = Instant::now();
        self.append(What::Progress(StepProgress { step, ..StepProgress::default() }))
    }

    /// Training waits for a checkpoint, and has for so long.
    pub(crate) fn waits_for_checkpoint(&mut self, step: u64, waited: Duration) -> Result<()> {
        let checkpoint_wait_seconds = Some(waited.as_secs_f64());
        self.append(What::Progress(StepProgress { step, checkpoint_wait_seconds, ..StepProgress::default() }))
    }

    /// Training waits for its data, and has for so long. Told once a wait: a reader that hangs is
    /// to be seen by the silence.
    pub(crate) fn waits_for_data(&mut self, step: u64, waited: Duration) -> Result<()> {
        let is_first = std::mem::replace(&mut self.waited, waited).min(waited) < ALIVE_EVERY;
        if waited < ALIVE_EVERY || !is_first {
            return Ok(());
        }
        let data_wait_seconds = Some(waited.as_secs_f64());
        self.append(What::Progress(StepProgress { step, data_wait_seconds, ..StepProgress::default() }))
    }

    /// A checkpoint is on disk; so is everything that was told before its step.
    pub(crate) fn checkpoint(&mut self, checkpoint: CheckpointSaved) -> Result<()> {
        self.append(What::Checkpoint(checkpoint))
    }

    /// Hands everything that was told to the files, whose syncing is somebody else's.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.events.as_mut().map_or(Ok(()), EventFileWriter::flush).map_err(Failure::storage(EVENTS))
    }

    /// The files that hold what was told, for somebody else to sync.
    pub(crate) fn files(&self) -> std::io::Result<Vec<File>> {
        let mut files = vec![self.journal.file()?];
        files.extend(self.events.as_ref().map(EventFileWriter::file).transpose()?);
        Ok(files)
    }

    /// The last word, as it was written: where the event file cannot hold what it should, it is
    /// that.
    pub(crate) fn ended(&mut self, ended: RunnerEnded) -> Result<RunnerEnded> {
        let synced = self.events.as_mut().map_or(Ok(()), EventFileWriter::sync).map_err(Failure::storage(EVENTS));
        let is_good = matches!(ended.reason(), JobEndReason::Finished | JobEndReason::Interrupted);
        let ended = match synced {
            Err(Failure { reason, message }) if is_good => RunnerEnded { reason: reason.into(), message, ..ended },
            // The first failure counts.
            _ => ended,
        };
        let mut end = ended.message.len().min(MAX_MESSAGE_BYTES);
        while !ended.message.is_char_boundary(end) {
            end -= 1;
        }
        let ended = RunnerEnded { message: ended.message[..end].to_owned(), ..ended };
        self.append(What::Ended(ended.clone()))?;
        self.journal.sync().map_err(Failure::storage("the journal could not be synced"))?;
        Ok(ended)
    }

    fn append(&mut self, what: What) -> Result<()> {
        self.journal.append(what).map_err(Failure::storage("the journal could not be written"))
    }
}
