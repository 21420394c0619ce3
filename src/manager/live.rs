//! A job that has not ended, as the task holds it.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use super::View;
use crate::job::end::{Exit, StopCause, Verdict};
use crate::job::order::Lease;
use crate::job::{Job, State};
use crate::journal::{ProgressFold, Recent};
use crate::launches::Launch;
use crate::scheduler::Wait;
use crate::supervisor::RunnerHandle;

/// A reason that keeps a job from going on is told once it has lasted this long.
pub(super) const WORTH_TELLING: Duration = Duration::from_secs(3);
/// A runner tells something every second, unless a step takes longer.
const LONG_SILENCE: Duration = Duration::from_secs(10);

/// A job that cannot be started for a reason of its own is tried again after this, then after twice
/// as long, ...
const FIRST_PUT_OFF: Duration = Duration::from_secs(1);
/// ... and so on up to this.
const LONGEST_PUT_OFF: Duration = Duration::from_secs(60);

/// A job that has not ended.
pub(super) struct Live {
    /// As it stands in the database.
    pub(super) job: Arc<Job>,
    /// Why it waits, if it does.
    pub(super) waiting: Option<Wait>,
    pub(super) fold: ProgressFold,
    pub(super) sequence: u64,
    /// The latest records of its runner.
    pub(super) recent: Arc<Recent>,
    /// How long its runner has told nothing, as far as it could be heard.
    pub(super) silent: Duration,
    pub(super) lease: Option<Lease>,
    /// Its ranks on other machines, while they run.
    pub(super) launch: Option<Arc<Launch>>,
    /// The newest event of GPUs when it got its lease; 0 where an earlier daemon gave it.
    pub(super) gpu_events: u64,
    /// Why the order of its runner cannot be read, so that its lease is assumed.
    pub(super) order_unread: Option<String>,
    /// How long its runner has run could not be read.
    pub(super) is_age_unread: bool,
    /// It could not be started for a reason of its own.
    pub(super) put_off: Option<PutOff>,
    /// The process groups of its runner, or of its ranks, as far as they were started.
    pub(super) process_groups: Vec<u32>,
    pub(super) runner: Option<RunnerHandle>,
    pub(super) stop: Option<StopCause>,
    /// When the current attempt began; None if only the journal tells.
    pub(super) began: Option<Instant>,
    /// `Course::not_before` on the monotonic clock, while that is set.
    pub(super) restart: Option<Instant>,
    /// When it has run as long as it may.
    pub(super) deadline: Option<Instant>,
    /// Its runner is gone, and the database has refused to be told so far.
    pub(super) untold_end: Option<Ending>,
    pub(super) view: watch::Sender<Arc<View>>,
}

/// A job that is not started before some time.
pub(super) struct PutOff {
    /// Why.
    pub(super) words: String,
    pause: Duration,
    pub(super) until: Instant,
}

/// How a job ended.
#[derive(Clone)]
pub(super) struct Ending {
    pub(super) verdict: Verdict,
    pub(super) exit: Exit,
    pub(super) log_tail: Vec<String>,
    /// When.
    pub(super) time: SystemTime,
    /// How long its process ran; None if there was no process.
    pub(super) ran: Option<Duration>,
}

impl Ending {
    /// One that no process had a part in.
    pub(super) fn without_process(verdict: Verdict) -> Self {
        Self { verdict, exit: Exit::Unknown, log_tail: Vec::new(), time: SystemTime::now(), ran: None }
    }
}

impl Live {
    /// Nobody wants what ranks of a cancelled job have not brought home.
    pub(super) fn let_go(&self) {
        if let (Some(StopCause::Cancel), Some(launch)) = (self.stop, &self.launch) {
            launch.let_go();
        }
    }

    pub(super) fn new(job: Job) -> Self {
        let restart = restart(&job);
        let job = Arc::new(job);
        let view = watch::channel(Arc::new(View::of_stored(job.clone()))).0;
        Self {
            job,
            waiting: None,
            fold: ProgressFold::default(),
            sequence: 0,
            recent: Arc::default(),
            silent: Duration::ZERO,
            lease: None,
            launch: None,
            gpu_events: 0,
            order_unread: None,
            is_age_unread: false,
            put_off: None,
            process_groups: Vec::new(),
            runner: None,
            stop: None,
            began: None,
            restart,
            deadline: None,
            untold_end: None,
            view,
        }
    }

    pub(super) fn view(&self) -> View {
        let stored = self.job.final_progress.clone();
        let progress = if self.job.state.is_active() {
            self.fold.progress().or(stored)
        } else {
            stored.or_else(|| self.fold.progress())
        };
        View {
            job: self.job.clone(),
            waiting: self.waits().unwrap_or_default(),
            progress,
            sequence: self.sequence,
            recent: self.recent.clone(),
            encoded: OnceLock::new(),
        }
    }

    /// Why it waits, or what is not well with it.
    fn waits(&self) -> Option<String> {
        let unread = || {
            let error = self.order_unread.as_ref()?;
            Some(format!("what its runner holds of the machine is not known: its order cannot be read: {error}"))
        };
        self.waiting.as_ref().map(Wait::to_string).or_else(|| self.standstill()).or_else(unread)
    }

    /// Why it does not go on although it trains.
    fn standstill(&self) -> Option<String> {
        self.runner.as_ref()?;
        if let Some(words) = self.launch.as_ref().and_then(|launch| launch.waits_for()) {
            return Some(words);
        }
        self.fold.started(self.job.attempt).filter(|_| self.fold.ended(self.job.attempt).is_none())?;
        // A disk that hangs keeps the runner from telling on.
        if let Some(wait) =
            self.fold.checkpoint_wait().and_then(|wait| rung(wait.saturating_add(self.silent), WORTH_TELLING))
        {
            return Some(format!(
                "training has been waiting for its checkpoint for more than {wait} s: the disk is slow"
            ));
        }
        // Its runner tells it once, and then is silent while the wait lasts.
        if let Some(wait) = self.fold.data_wait().and_then(|wait| rung(wait.saturating_add(self.silent), WORTH_TELLING))
        {
            return Some(format!(
                "training has been waiting for its data for more than {wait} s: the disk is slow, or it hangs"
            ));
        }
        let silent = rung(self.silent, LONG_SILENCE)?;
        Some(format!(
            "its runner has told nothing for more than {silent} s: a step takes long, the disk is slow, or it hangs"
        ))
    }

    /// Asks how long its runner has told nothing.
    pub(super) fn ask_silence(&mut self) {
        self.silent = self.runner.as_ref().map_or(Duration::ZERO, RunnerHandle::silence);
        // The time of the engine is not that of the job.
        if self.launch.as_ref().is_some_and(|launch| launch.waits_for().is_some()) {
            self.begins(Instant::now());
        }
        if self.view.borrow().waiting != self.waits().unwrap_or_default() {
            self.publish();
        }
    }

    /// Its runner begins now.
    pub(super) fn begins(&mut self, now: Instant) {
        self.began = Some(now);
        self.deadline = self.deadline(now);
    }

    /// Its runner was adopted, and is so old; None where it has ended. While its age cannot be read
    /// the journal tells how long it has run, as soon as that has been read.
    pub(super) fn adopted(&mut self, age: io::Result<Option<Duration>>, now: Instant) {
        self.is_age_unread = age.is_err();
        let is_told = age.is_ok() || self.fold.started(self.job.attempt).is_some();
        self.began = age.ok().flatten().map(|age| now.checked_sub(age).unwrap_or(now));
        self.deadline = if is_told { self.deadline(now) } else { None };
    }

    /// When it has run as long as it may.
    fn deadline(&self, now: Instant) -> Option<Instant> {
        let limit = self.job.spec.max_duration?;
        now.checked_add(limit.saturating_sub(self.job.course.ran).saturating_sub(self.ran_by(now)))
    }

    /// How long the current attempt has run.
    pub(super) fn ran(&self) -> Duration {
        self.ran_by(Instant::now())
    }

    fn ran_by(&self, now: Instant) -> Duration {
        self.began.map_or_else(|| self.fold.span(self.job.attempt), |began| now.duration_since(began))
    }

    /// It has never run, and waits for other jobs to end.
    pub(super) fn is_bound(&self) -> bool {
        !self.job.course.waits_for.is_empty()
    }

    /// When it may be started, if it is in its back-off.
    pub(super) fn not_before(&self) -> Option<Instant> {
        let restart = self.restart.filter(|_| self.job.course.not_before.is_some());
        let put_off = self.put_off.as_ref().map(|put_off| put_off.until);
        restart.max(put_off).filter(|_| self.job.state == State::Queued)
    }

    /// It could not be started for a reason of its own: others do not wait for it meanwhile.
    pub(super) fn put_off(&mut self, words: String, now: Instant) {
        let pause = match &self.put_off {
            None => FIRST_PUT_OFF,
            Some(before) => (before.pause * 2).min(LONGEST_PUT_OFF),
        };
        self.put_off = Some(PutOff { words, pause, until: now + pause });
    }

    pub(super) fn publish(&self) {
        self.view.send_replace(Arc::new(self.view()));
    }

    /// Tells why it cannot be told whether its runner lives, or that it can again.
    pub(super) fn doubts(&mut self, why: Option<String>) {
        self.waiting = why.map(|why| Wait::For(why.into()));
        self.publish();
    }

    /// Tells why it waits, if that is news.
    pub(super) fn waits_for(&mut self, wait: Wait) {
        if self.waiting.as_ref() != Some(&wait) {
            self.waiting = Some(wait);
            self.publish();
        }
    }
}

/// When a job of an earlier daemon may be started again. The clock may have been set in between, so
/// that it waits for its back-off at most.
fn restart(job: &Job) -> Option<Instant> {
    let left = job.course.not_before?.duration_since(SystemTime::now()).unwrap_or_default();
    let retry = &job.spec.retry;
    Instant::now().checked_add(left.min(retry.backoff(job.course.restarts.saturating_sub(1))))
}

/// How long something has lasted, in seconds, as it is told: `first`, twice as long and so on, so
/// that it is not news every second. None before `first`.
pub(super) fn rung(time: Duration, first: Duration) -> Option<u64> {
    let doubled = std::iter::successors(Some(first), |rung| rung.checked_mul(2));
    doubled.take_while(|rung| *rung <= time).last().map(|rung| rung.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Files, idx};
    use crate::job::spec::example;
    use crate::job::{DataInputs, JobId, Spec};
    use crate::proto::v1;

    fn minute() -> Live {
        let spec = Spec { max_duration: Some(Duration::from_secs(60)), ..example() };
        let train = Files::Idx(idx::Files { images: "/i".into(), labels: Some("/l".into()) });
        let created = SystemTime::UNIX_EPOCH;
        let job = Job::queued(
            JobId::new(created, 1),
            "alice".into(),
            spec,
            DataInputs { train, validation: None, outline: None, memory_bytes: None }.into(),
            created,
        );
        Live::new(Job { attempt: 1, ..job })
    }

    #[test]
    fn a_runner_whose_age_cannot_be_read_does_not_get_its_time_anew() {
        let (mut live, now) = (minute(), Instant::now());
        let unread = || Err(io::ErrorKind::PermissionDenied.into());
        let left = |live: &Live| live.deadline.map(|deadline| deadline.duration_since(now).as_secs());
        live.adopted(unread(), now);
        assert_eq!((left(&live), live.is_age_unread), (None, true), "nothing is known yet");
        let record = |seconds, what| v1::JobRecord {
            time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            what: Some(what),
            attempt: 1,
            ..v1::JobRecord::default()
        };
        live.fold.add(&record(0, v1::job_record::What::Started(v1::RunnerStarted::default())));
        live.fold.add(&record(50, v1::job_record::What::Progress(v1::StepProgress::default())));
        live.adopted(unread(), now);
        assert_eq!((left(&live), live.is_age_unread), (Some(10), true), "the journal tells");
        live.adopted(Ok(Some(Duration::from_secs(1))), now);
        assert_eq!((left(&live), live.is_age_unread), (Some(59), false));
    }

    #[test]
    fn what_lasts_is_told_ever_more_seldom() {
        let told = |seconds| rung(Duration::from_secs(seconds), Duration::from_secs(3));
        let all: Vec<_> = [0, 2, 3, 5, 6, 11, 12, 3600].map(told).to_vec();
        assert_eq!(all, [None, None, Some(3), Some(3), Some(6), Some(6), Some(12), Some(3072)]);
        assert!(rung(Duration::MAX, WORTH_TELLING).is_some());
    }
}
