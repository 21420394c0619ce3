//! The sum of a job's records: how far it is, how fast, how long it will take.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use crate::proto::json;
use crate::proto::v1::{self, job_record::What};

/// Speed is taken over this much of the past.
const SPEED_WINDOW: Duration = Duration::from_secs(10);
/// The newest step stands for all steps of this time, so that the window holds about a hundred.
const SPEED_TICK: Duration = Duration::from_millis(100);
/// Tags whose newest values are kept. Later ones are in the journal alone.
const MAX_TAGS: usize = 1_000;
/// Bytes of a tag whose newest value is kept.
const MAX_TAG_BYTES: usize = 1_000;

/// Adds up records, in order.
#[derive(Debug, Clone, Default)]
pub struct ProgressFold {
    /// The attempt of the newest record.
    attempt: u32,
    /// The times of the first and of the newest record of that attempt.
    span: Option<(SystemTime, SystemTime)>,
    /// The first record of the newest runner that began, and its attempt.
    started: Option<(u32, v1::RunnerStarted)>,
    step: u64,
    examples_per_second: Option<f64>,
    /// The newest value of each tag, with its step.
    latest: BTreeMap<String, (u64, f64)>,
    window: VecDeque<(SystemTime, u64)>,
    ended: Option<v1::RunnerEnded>,
    /// Checkpoints that the attempt of the newest record has found damaged.
    damaged: Vec<v1::CheckpointDamaged>,
    /// The step of the newest checkpoint that the attempt of the newest record went on from or has
    /// saved.
    saved: Option<u64>,
    /// For how long training has been waiting for a checkpoint, in seconds.
    checkpoint_wait: Option<f64>,
    /// For how long it has been waiting for its data, in seconds.
    data_wait: Option<f64>,
    /// The share that a program says is done, and when it said so.
    told_ratio: Option<(SystemTime, f64)>,
    /// The epoch in hand and epochs in all, where a program tells them.
    told_epochs: (Option<u32>, Option<u32>),
}

impl ProgressFold {
    /// Adds a record.
    pub fn add(&mut self, record: &v1::JobRecord) {
        let time = record.time.and_then(|time| SystemTime::try_from(time).ok()).unwrap_or(SystemTime::UNIX_EPOCH);
        if self.attempt != record.attempt {
            // A new attempt clears the state of the one before. Its step stays until the new
            // attempt tells where it begins.
            self.attempt = record.attempt;
            self.span = None;
            self.ended = None;
            self.damaged.clear();
            self.saved = None;
            self.examples_per_second = None;
            self.window.clear();
            (self.told_ratio, self.told_epochs) = (None, (None, None));
        }
        if record.time.is_some() {
            self.span = Some((self.span.map_or(time, |(first, _)| first), time));
        }
        (self.checkpoint_wait, self.data_wait) = match &record.what {
            Some(What::Progress(progress)) => (progress.checkpoint_wait_seconds, progress.data_wait_seconds),
            _ => (None, None),
        };
        match &record.what {
            Some(What::Resumed(resumed)) => {
                self.step = resumed.step;
                self.saved = Some(resumed.step).filter(|step| *step > 0);
                self.latest.retain(|_, (step, _)| *step <= resumed.step && !resumed.replaces_first);
                // Steps only rise within it.
                self.window.clear();
            }
            Some(What::Started(started)) => {
                self.started = Some((record.attempt, started.clone()));
                // A job that begins with another one's checkpoint begins there.
                self.step = self.step.max(started.first_step);
                self.window.clear();
                self.advance(time, self.step);
            }
            Some(What::Scalars(scalars)) => {
                for value in &scalars.values {
                    if value.tag == "throughput/examples_per_second" {
                        self.examples_per_second = Some(value.value);
                    }
                    self.keep_latest(&value.tag, scalars.step, value.value);
                }
                self.advance(time, scalars.step);
            }
            Some(What::Progress(progress)) => {
                if progress.examples_per_second > 0.0 {
                    self.examples_per_second = Some(progress.examples_per_second);
                }
                if let Some(ratio) = progress.progress_ratio {
                    self.told_ratio = Some((time, ratio));
                }
                let (epoch, epochs) = self.told_epochs;
                self.told_epochs = (progress.epoch.or(epoch), progress.total_epochs.or(epochs));
                self.advance(time, progress.step);
            }
            // It is told once the disk has it, some steps later.
            Some(What::Checkpoint(saved)) => self.saved = Some(saved.step),
            Some(What::Damaged(damaged)) => self.damaged.push(damaged.clone()),
            Some(What::Ended(ended)) => {
                self.advance(time, ended.step);
                self.ended = Some(ended.clone());
            }
            None => {}
        }
    }

    fn keep_latest(&mut self, tag: &str, step: u64, value: f64) {
        if let Some(latest) = self.latest.get_mut(tag) {
            *latest = (step, value);
        } else if self.latest.len() < MAX_TAGS && tag.len() <= MAX_TAG_BYTES {
            self.latest.insert(tag.to_owned(), (step, value));
        }
    }

    fn advance(&mut self, time: SystemTime, step: u64) {
        self.step = self.step.max(step);
        // Behind a clock that was set back nothing would ever be old enough to go.
        if self.window.back().is_some_and(|&(newest, _)| time < newest) {
            self.window.clear();
        }
        let before = self.window.len().checked_sub(2).map(|place| self.window[place].0);
        if before.is_some_and(|before| time.duration_since(before).is_ok_and(|since| since < SPEED_TICK)) {
            self.window.pop_back();
        }
        self.window.push_back((time, self.step));
        while let Some(&(oldest, _)) = self.window.front()
            && self.window.len() > 2
            && time.duration_since(oldest).is_ok_and(|age| age > SPEED_WINDOW)
        {
            self.window.pop_front();
        }
    }

    /// The time from the first record of an attempt to its newest one, by the clock of the runner.
    pub fn span(&self, attempt: u32) -> Duration {
        let span = self.span.filter(|_| self.attempt == attempt);
        span.and_then(|(first, newest)| newest.duration_since(first).ok()).unwrap_or_default()
    }

    /// The record with which the runner of that attempt began, once it has.
    pub fn started(&self, attempt: u32) -> Option<&v1::RunnerStarted> {
        self.started.as_ref().filter(|(of, _)| *of == attempt).map(|(_, started)| started)
    }

    /// The record with which the runner of that attempt ended, once it has.
    pub fn ended(&self, attempt: u32) -> Option<&v1::RunnerEnded> {
        self.ended.as_ref().filter(|_| self.attempt == attempt)
    }

    /// The checkpoints that the runner of that attempt has found damaged so far.
    pub fn damaged(&self, attempt: u32) -> &[v1::CheckpointDamaged] {
        if self.attempt == attempt { &self.damaged } else { &[] }
    }

    /// The step of the newest checkpoint that the runner of that attempt has told of: the one that
    /// it went on from, or has saved.
    pub fn saved(&self, attempt: u32) -> Option<u64> {
        self.saved.filter(|_| self.attempt == attempt)
    }

    /// How long training has been waiting for a checkpoint, where that is what it does.
    pub fn checkpoint_wait(&self) -> Option<Duration> {
        self.checkpoint_wait.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }

    /// How long training has been waiting for its data, where that is what it does.
    pub fn data_wait(&self) -> Option<Duration> {
        self.data_wait.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }

    /// How far the job is; None before its first runner has begun.
    pub fn progress(&self) -> Option<v1::JobProgress> {
        let (_, started) = self.started.as_ref()?;
        let done = self.step.saturating_sub(started.first_step);
        let further_epochs = match done.checked_sub(started.steps_left_in_epoch) {
            None => 0,
            Some(beyond) => (beyond / started.steps_per_epoch.max(1)).saturating_add(1),
        };
        let epoch = u64::from(started.first_epoch).saturating_add(further_epochs);
        let (told_epoch, told_epochs) = self.told_epochs;
        let progress_ratio = match (self.told_ratio, started.total_steps) {
            (Some((_, told)), _) => told,
            // A program that does not tell how far it is.
            (None, 0) => 0.0,
            (None, total) => self.step as f64 / total as f64,
        };
        Some(v1::JobProgress {
            step: self.step,
            total_steps: started.total_steps,
            epoch: told_epoch.unwrap_or(u32::try_from(epoch).unwrap_or(u32::MAX).min(started.total_epochs)),
            total_epochs: told_epochs.unwrap_or(started.total_epochs),
            progress_ratio,
            examples_per_second: self.examples_per_second,
            remaining: match started.total_steps {
                0 => self.remaining_by_ratio(),
                total => self.remaining(total),
            },
            latest_scalars: self.latest.iter().map(|(tag, (_, value))| (tag.clone(), *value)).collect(),
            gpu: self.gpu_share(),
            cpu_threads: started.cpu_threads,
            thread_wait: started.thread_wait,
        })
    }

    /// The values of the GPU's scalars, which have its number in their tags.
    fn gpu_share(&self) -> Option<v1::GpuShare> {
        let mut share: Option<v1::GpuShare> = None;
        for (tag, &(_, value)) in &self.latest {
            let Some((index, reading)) = tag.strip_prefix("gpu/").and_then(|rest| rest.split_once('/')) else {
                continue;
            };
            let Ok(index) = index.parse() else { continue };
            let share = share.get_or_insert_default();
            share.index = index;
            match reading {
                "utilization_ratio" => share.utilization_ratio = Some(value),
                "memory_used_bytes" => share.memory_used_bytes = Some(value as u64),
                "energy_joules" => share.energy_joules = Some(value),
                _ => {}
            }
        }
        share
    }

    /// The same by the share that a program says is done, and the time that its attempt took for
    /// that.
    fn remaining_by_ratio(&self) -> Option<prost_types::Duration> {
        let (told, ratio) = self.told_ratio.filter(|(_, ratio)| self.ended.is_none() && *ratio > 0.0)?;
        let (first, _) = self.span?;
        let seconds = told.duration_since(first).ok()?.as_secs_f64();
        let remaining = Duration::try_from_secs_f64(seconds * (1.0 - ratio) / ratio).ok()?;
        remaining.try_into().ok().filter(json::is_duration)
    }

    /// None where nobody can know, and where it is longer than can be written down.
    fn remaining(&self, total: u64) -> Option<prost_types::Duration> {
        if self.ended.is_some() {
            return None;
        }
        let (&(from, first), &(to, last)) = (self.window.front()?, self.window.back()?);
        let seconds = to.duration_since(from).ok()?.as_secs_f64();
        let steps = (last - first) as f64;
        if steps == 0.0 {
            return None;
        }
        let remaining = Duration::try_from_secs_f64(total.saturating_sub(last) as f64 * seconds / steps).ok()?;
        remaining.try_into().ok().filter(json::is_duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seconds: u64, what: What) -> v1::JobRecord {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        v1::JobRecord { sequence: 0, time: Some(time.into()), what: Some(what), attempt: 1 }
    }

    #[test]
    fn a_wait_for_data_lasts_until_the_next_record() {
        let mut fold = ProgressFold::default();
        let waits = v1::StepProgress { step: 3, data_wait_seconds: Some(1.5), ..v1::StepProgress::default() };
        fold.add(&record(100, What::Progress(waits)));
        assert_eq!((fold.data_wait(), fold.checkpoint_wait()), (Some(Duration::from_millis(1500)), None));
        fold.add(&record(101, What::Progress(v1::StepProgress { step: 4, ..v1::StepProgress::default() })));
        assert_eq!(fold.data_wait(), None);
    }

    #[test]
    fn records_add_up_to_progress() {
        let mut fold = ProgressFold::default();
        assert_eq!(fold.progress(), None);
        fold.add(&record(
            100,
            What::Started(v1::RunnerStarted {
                total_steps: 100,
                steps_per_epoch: 30,
                first_epoch: 1,
                steps_left_in_epoch: 30,
                total_epochs: 4,
                ..Default::default()
            }),
        ));
        assert_eq!(fold.progress().unwrap().remaining, None);
        let values = vec![v1::ScalarValue { tag: "loss/train".into(), value: 0.5 }];
        fold.add(&record(102, What::Scalars(v1::ScalarValues { step: 40, values })));
        let progress = fold.progress().unwrap();
        assert_eq!((progress.step, progress.epoch, progress.total_epochs), (40, 2, 4));
        assert_eq!(progress.remaining.unwrap().seconds, 3);
        assert_eq!(progress.latest_scalars["loss/train"], 0.5);
        assert_eq!(progress.gpu, None);
        let values = [("gpu/1/utilization_ratio", 0.9), ("gpu/1/memory_used_bytes", 2e9), ("gpu/1/energy_joules", 7.5)];
        let values = values.map(|(tag, value)| v1::ScalarValue { tag: tag.into(), value }).to_vec();
        fold.add(&record(103, What::Scalars(v1::ScalarValues { step: 41, values })));
        let share = v1::GpuShare {
            index: 1,
            utilization_ratio: Some(0.9),
            memory_used_bytes: Some(2_000_000_000),
            energy_joules: Some(7.5),
        };
        assert_eq!(fold.progress().unwrap().gpu, Some(share));
        fold.add(&record(105, What::Ended(v1::RunnerEnded { step: 100, ..Default::default() })));
        let progress = fold.progress().unwrap();
        assert_eq!((progress.epoch, progress.progress_ratio, progress.remaining), (4, 1.0, None));
    }

    #[test]
    fn what_is_kept_of_the_past_is_bounded_whatever_the_clock_and_the_tags() {
        let mut fold = ProgressFold::default();
        let started = v1::RunnerStarted { total_steps: 1_000_000, ..Default::default() };
        fold.add(&record(1_000_000, What::Started(started)));
        let at = |milliseconds: u64, step| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds);
            let what = What::Progress(v1::StepProgress { step, ..Default::default() });
            v1::JobRecord { sequence: 0, time: Some(time.into()), what: Some(what), attempt: 1 }
        };
        // The clock is set back by days, then a step takes a millisecond, then the clock stands
        // still.
        for step in 1..=100_000 {
            fold.add(&at(step.min(50_000), step));
            assert!(fold.window.len() <= 103, "{} at step {step}", fold.window.len());
            if step == 20_000 {
                let left = fold.progress().unwrap().remaining.unwrap().seconds;
                assert!((979..=981).contains(&left), "{left}");
            }
        }
        let named = |tag: String| v1::ScalarValue { tag, value: 1.0 };
        let values = (0..5_000).map(|number| named(number.to_string())).chain([named("a".repeat(1_001))]).collect();
        fold.add(&record(100, What::Scalars(v1::ScalarValues { step: 100_001, values })));
        let again = vec![v1::ScalarValue { tag: "7".into(), value: 2.0 }];
        fold.add(&record(101, What::Scalars(v1::ScalarValues { step: 100_002, values: again })));
        let latest = fold.progress().unwrap().latest_scalars;
        assert_eq!((latest.len(), latest["7"]), (1_000, 2.0));
    }

    #[test]
    fn a_later_attempt_goes_back_to_where_it_resumes_and_forgets_what_was_beyond() {
        let mut fold = ProgressFold::default();
        let of = |attempt: u32, seconds: u64, what: What| v1::JobRecord { attempt, ..record(seconds, what) };
        let started = |first_step, first_epoch, steps_left_in_epoch| {
            What::Started(v1::RunnerStarted {
                total_steps: 100,
                steps_per_epoch: 30,
                first_step,
                first_epoch,
                steps_left_in_epoch,
                total_epochs: 4,
                ..Default::default()
            })
        };
        let scalar = |step, tag: &str| {
            What::Scalars(v1::ScalarValues { step, values: vec![v1::ScalarValue { tag: tag.into(), value: 1.0 }] })
        };
        fold.add(&of(1, 1, started(0, 1, 30)));
        fold.add(&of(1, 2, scalar(30, "loss/validation")));
        fold.add(&of(1, 3, scalar(50, "loss/train")));
        fold.add(&of(1, 4, What::Ended(v1::RunnerEnded { step: 50, ..Default::default() })));
        assert!(fold.ended(1).is_some() && fold.started(1).is_some() && fold.ended(2).is_none());
        assert_eq!((fold.span(1), fold.span(2)), (Duration::from_secs(3), Duration::ZERO));

        fold.add(&of(
            2,
            10,
            What::Resumed(v1::RunnerResumed { step: 40, path: "checkpoints/step-40".into(), ..Default::default() }),
        ));
        assert!(fold.ended(2).is_none() && fold.started(2).is_none());
        let progress = fold.progress().unwrap();
        assert_eq!((progress.step, progress.latest_scalars.len()), (40, 1));
        fold.add(&of(2, 11, started(40, 2, 20)));
        assert!(fold.started(2).is_some());
        fold.add(&of(2, 12, scalar(61, "loss/train")));
        let progress = fold.progress().unwrap();
        assert_eq!((progress.step, progress.epoch, progress.remaining.unwrap().seconds), (61, 3, 1));
    }

    #[test]
    fn numbers_that_no_runner_tells_add_up_to_what_can_be_written_down() {
        let started =
            v1::RunnerStarted { total_steps: u64::MAX, steps_per_epoch: 1, total_epochs: 3, ..Default::default() };
        let progress =
            |step| What::Progress(v1::StepProgress { step, examples_per_second: 1.0, ..v1::StepProgress::default() });
        let mut fold = ProgressFold::default();
        for (second, what) in [
            (100, What::Started(started)),
            (101, progress(9)),
            (102, What::Resumed(v1::RunnerResumed { step: 5, ..Default::default() })),
            (103, progress(6)),
            (104, progress(7)),
        ] {
            fold.add(&record(second, what));
        }
        let told = fold.progress().unwrap();
        assert_eq!((told.step, told.remaining), (7, None), "600 billion years are not written down");
        assert_eq!(json::from_str::<v1::JobProgress>(&json::to_string(&told, false).unwrap()).unwrap(), told);
        fold.add(&record(105, progress(u64::MAX)));
        assert_eq!(fold.progress().unwrap().epoch, 3);
    }
}
