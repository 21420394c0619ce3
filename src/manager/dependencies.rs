//! Jobs that wait for others to end. The row of a job has those that it still waits for; how
//! another job has ended stands in that one's own row, and never changes. So an end that a daemon
//! could not record any more is recorded by the next one, and before a job is deleted its end is
//! recorded wherever somebody waits for it.

use std::slice;

use super::live::{Ending, Live};
use super::task::Task;
use super::{JobError, Manager};
use crate::fault;
use crate::job::dependency::{Condition, Standing};
use crate::job::end::{self, Verdict};
use crate::job::state::{Event, Outcome};
use crate::job::{Dependency, Job, JobId, State, Violations};
use crate::proto::v1;
use crate::scheduler::Wait;
use crate::store::StoreError;

/// Jobs in which ends are recorded in one go: others wait for this task.
const AT_ONCE: usize = 20;
/// Jobs that a reason to wait names.
const NAMED: usize = 3;
/// Characters of the end of another job that the end of one that waited for it repeats.
const REPEATED: usize = 300;

impl Manager {
    /// The mistakes in the dependencies of a request, as far as the jobs decide. Those in the list
    /// itself are told with the spec.
    pub(super) async fn judge_dependencies(&self, after: &[v1::Dependency]) -> Result<Violations, JobError> {
        let mut wrong = Violations::default();
        for (place, message) in after.iter().enumerate() {
            let read = Dependency::read(slice::from_ref(message), &mut Violations::default());
            let Some(dependency) = read.first() else { continue };
            let state = match self.get(&dependency.job).await {
                Ok(view) => Some(view.job.state),
                Err(JobError::Unknown(_)) => None,
                Err(error) => return Err(error),
            };
            dependency.judge(place, state, &mut wrong);
        }
        Ok(wrong)
    }
}

impl Task {
    /// The dependencies of a new job that are open. Refused where one can never be met.
    pub(super) async fn open_dependencies(&self, after: &[Dependency]) -> Result<Vec<Dependency>, JobError> {
        let (mut open, mut wrong) = (Vec::new(), Violations::default());
        for (place, dependency) in after.iter().enumerate() {
            let state = match self.live.get(&dependency.job) {
                Some(live) => Some(live.job.state),
                None => self.store.get(dependency.job.clone()).await?.map(|job| job.state),
            };
            if dependency.judge(place, state, &mut wrong) == Standing::Open {
                open.push(dependency.clone());
            }
        }
        wrong.or(Some(open)).map_err(JobError::Invalid)
    }

    /// Records the ends of other jobs in some of those that wait for them. Where that was done,
    /// there may be more: the next ones, and those that wait for a job that has ended by this.
    pub(super) async fn record_ends(&mut self) {
        self.has_unrecorded = false;
        let is_over = |dependency: &Dependency| {
            !self.live.contains(&dependency.job) && !self.left_alone.contains_key(&dependency.job)
        };
        let is_due =
            |live: &&Live| !self.left_alone.contains_key(&live.job.id) && live.job.course.waits_for.iter().any(is_over);
        let due = self.live.bound().filter(is_due).take(AT_ONCE).map(|live| live.job.id.clone());
        for id in due.collect::<Vec<_>>() {
            fault::point("end-unrecorded");
            match self.record_ends_in(&id).await {
                Ok(is_news) => self.has_unrecorded |= is_news,
                Err(error) => {
                    let is_hopeless = error.is_of_database();
                    self.note(&id, Err(error));
                    if is_hopeless {
                        self.has_unrecorded = false;
                        return;
                    }
                }
            }
        }
    }

    /// Records how a job has ended in all that wait for it, as it is about to be deleted.
    pub(super) async fn record_end_of(&mut self, id: &JobId) -> Result<(), JobError> {
        let waits = |live: &&Live| live.job.course.waits_for.iter().any(|dependency| dependency.job == *id);
        let waiting: Vec<_> = self.live.bound().filter(waits).map(|live| live.job.id.clone()).collect();
        for waiting in waiting {
            self.refuse_left_alone(&waiting)?;
            self.record_ends_in(&waiting).await?;
            // It may be started now, or others may wait for it.
            self.has_unrecorded = true;
        }
        Ok(())
    }

    /// Records the ends of other jobs in one that waits for them; whether there were any. It ends
    /// with the first that is not as it wished.
    async fn record_ends_in(&mut self, id: &JobId) -> Result<bool, JobError> {
        let Some(job) = self.live.get(id).map(|live| live.job.clone()) else { return Ok(false) };
        let (mut open, mut broken) = (Vec::new(), None);
        for dependency in &job.course.waits_for {
            let end = self.end_of(&dependency.job).await?;
            match (end.standing(dependency.condition), broken.is_some()) {
                (Standing::Open, _) => open.push(dependency.clone()),
                (Standing::Broken, false) => broken = Some(end.broken(dependency)),
                (Standing::Broken, true) | (Standing::Met, _) => {}
            }
        }
        if broken.is_none() && open.len() == job.course.waits_for.len() {
            return Ok(false);
        }
        let Some((place, mut live)) = self.live.take(id) else { return Ok(false) };
        let done = match broken {
            Some(message) => {
                let reason = v1::JobEndReason::DependencyFailed;
                let ending = Ending::without_process(Verdict { outcome: Outcome::Failed, reason, message });
                self.finish(&mut live, Event::DependencyFailed, ending, job.course.clone()).await
            }
            None => self.amend(&mut live, |job| job.course.waits_for = open).await,
        };
        self.keep(place, live);
        done.map(|()| true)
    }

    /// How another job has ended, if it has.
    async fn end_of(&self, id: &JobId) -> Result<End, JobError> {
        if self.live.contains(id) {
            return Ok(End::None);
        }
        match self.store.get(id.clone()).await {
            Ok(Some(job)) if job.state.is_final() => Ok(End::Told(Box::new(job))),
            Ok(Some(_)) => Ok(End::None),
            // Its folder may still tell.
            Ok(None) | Err(StoreError::Odd(_)) if self.left_alone.contains_key(id) => Ok(End::None),
            Ok(None) => Ok(End::Gone),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells the jobs that wait for others which ones these are.
    pub(super) fn tell_bound(&mut self) {
        let is_told = |live: &&Live| live.job.state == State::Queued && !self.left_alone.contains_key(&live.job.id);
        let told = |live: &Live| (live.job.id.clone(), Wait::For(self.in_words(&live.job.course.waits_for).into()));
        let waits: Vec<_> = self.live.bound().filter(is_told).map(told).collect();
        for (id, wait) in waits {
            if let Some(live) = self.live.get_mut(&id) {
                live.waits_for(wait);
            }
        }
    }

    fn in_words(&self, open: &[Dependency]) -> String {
        let one = |dependency: &Dependency| {
            let state = match (self.left_alone.contains_key(&dependency.job), self.live.get(&dependency.job)) {
                (true, _) => "its folder cannot be used".to_owned(),
                (false, Some(live)) => format!("it {}", live.job.state.told()),
                (false, None) => "it has ended".to_owned(),
            };
            format!("for {} {} ({state})", dependency.job.name(), dependency.condition.wish())
        };
        let named: Vec<_> = open.iter().take(NAMED).map(one).collect();
        let others = match open.len().saturating_sub(NAMED) {
            0 => String::new(),
            1 => ", and for 1 other job".to_owned(),
            more => format!(", and for {more} other jobs"),
        };
        format!("waits {}{others}", named.join(", "))
    }
}

/// How a job has ended that another one waits for.
enum End {
    /// It has not, or that cannot be told.
    None,
    /// As its row tells.
    Told(Box<Job>),
    /// The job is not there any more, and nobody has recorded how it ended.
    Gone,
}

impl End {
    fn standing(&self, condition: Condition) -> Standing {
        match self {
            Self::None => Standing::Open,
            Self::Told(job) => condition.standing(job.state),
            // Only ended jobs are deleted.
            Self::Gone if condition == Condition::Ended => Standing::Met,
            Self::Gone => Standing::Broken,
        }
    }

    /// The end of the one that waited, in words.
    fn broken(&self, dependency: &Dependency) -> String {
        let Dependency { job, condition } = dependency;
        let how = match self {
            Self::Told(job) => {
                let end = job.end.as_ref();
                let reason = end.map_or(v1::JobEndReason::Unspecified, v1::JobEnd::reason);
                // That of a chain would grow with it.
                let message = end.filter(|_| reason != v1::JobEndReason::DependencyFailed);
                let message: String = message.iter().flat_map(|end| end.message.chars()).take(REPEATED).collect();
                let message = if message.is_empty() { message } else { format!(": {message}") };
                format!("{} ({}{message})", job.state.told(), end::label(reason))
            }
            Self::None | Self::Gone => "is gone; how it ended is not known".to_owned(),
        };
        format!("it waited for {} {}, which {how}", job.name(), condition.wish())
    }
}
