//! Decides which ended jobs are removed because their `ttl_after_end` is over. The clock of the
//! machine may be wrong for a while, and a removal cannot be undone: the clock alone is not
//! trusted.
//!
//! A job that ended while this daemon runs is removed once its time has passed on the monotonic
//! clock too. A job that ended earlier is removed once this daemon alone has run for that time, or
//! once the clock of the machine has called it expired for a while without a break.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::job::{Job, JobId};

/// The interval between looks for expired jobs.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The clock has to call a job expired at two looks this far apart, and at every look in between.
const AGREE: Duration = Duration::from_secs(600);

/// The ends of jobs by the monotonic clock.
pub(super) struct Expiry {
    /// When this daemon began: every other job had ended by then.
    begun: Instant,
    looked: Option<Instant>,
    /// Jobs that ended while this daemon runs, with the time at which they expire.
    over: HashMap<JobId, Instant>,
    /// Other jobs that the clock calls expired, with the first look of which that holds.
    told: HashMap<JobId, Instant>,
    /// The last job whose removal was tried.
    tried: Option<JobId>,
    /// Jobs that could not be removed.
    refused: BTreeSet<JobId>,
}

impl Expiry {
    /// For a daemon that begins now.
    pub(super) fn new(begun: Instant) -> Self {
        Self { begun, looked: None, over: HashMap::new(), told: HashMap::new(), tried: None, refused: BTreeSet::new() }
    }

    /// Notes a job that ends now.
    pub(super) fn ended(&mut self, job: &Job, now: Instant) {
        let ttl = job.spec.ttl_after_end;
        // A time that an Instant cannot hold never comes.
        if let Some(over) = ttl.and_then(|ttl| now.checked_add(ttl)) {
            self.over.insert(job.id.clone(), over);
        }
    }

    /// Forgets a job that was removed.
    pub(super) fn forget(&mut self, id: &JobId) {
        self.over.remove(id);
        self.told.remove(id);
        self.refused.remove(id);
    }

    /// The next jobs to remove, at most `most`: those behind the last that was tried, so that jobs
    /// which cannot be removed do not keep the others.
    pub(super) fn next(&mut self, mut ready: Vec<JobId>, most: usize) -> Vec<JobId> {
        ready.sort_unstable();
        let place = self.tried.as_ref().map_or(0, |tried| ready.partition_point(|id| id <= tried));
        ready.rotate_left(place);
        ready.truncate(most);
        self.tried = ready.last().cloned().or(self.tried.take());
        ready
    }

    /// Notes a job that could not be removed; whether that is news.
    pub(super) fn refused(&mut self, id: &JobId) -> bool {
        self.refused.insert(id.clone())
    }

    /// Whether the next look is due. If so, this call counts as that look.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK_EVERY);
        if is_due {
            self.looked = Some(now);
        }
        is_due
    }

    /// The jobs to remove, out of those that the clock calls expired, each with its
    /// `ttl_after_end`.
    pub(super) fn judge(&mut self, expired: Vec<(JobId, Duration)>, now: Instant) -> Vec<JobId> {
        let all: BTreeSet<&JobId> = expired.iter().map(|(id, _)| id).collect();
        self.told.retain(|id, _| all.contains(id));
        let (begun, over, told) = (self.begun, &self.over, &mut self.told);
        let mut is_over = |id: &JobId, ttl: Duration| match over.get(id) {
            Some(over) => *over <= now,
            None => {
                let since = *told.entry(id.clone()).or_insert(now);
                now.duration_since(begun) >= ttl || now.duration_since(since) >= AGREE
            }
        };
        expired.into_iter().filter_map(|(id, ttl)| is_over(&id, ttl).then_some(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::dataset::{Files, idx};
    use crate::job::spec::example;
    use crate::job::{DataInputs, Spec};

    fn job(number: u32, ttl: u64) -> Job {
        let spec = Spec { ttl_after_end: Some(Duration::from_secs(ttl)), ..example() };
        let train = Files::Idx(idx::Files { images: "/i".into(), labels: Some("/l".into()) });
        let created = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_454_095);
        Job::queued(
            JobId::new(created, number),
            "alice".into(),
            spec,
            DataInputs { train, validation: None, outline: None, memory_bytes: None }.into(),
            created,
        )
    }

    /// A job with its ttl_after_end, as a clock would tell that it has expired.
    fn told(job: &Job, ttl: Duration) -> Vec<(JobId, Duration)> {
        vec![(job.id.clone(), ttl)]
    }

    #[test]
    fn a_job_that_ended_in_this_daemon_is_removed_when_both_clocks_agree() {
        let (begun, job, minute) = (Instant::now(), job(1, 60), Duration::from_secs(60));
        let mut expiry = Expiry::new(begun);
        let end = begun + Duration::from_secs(100);
        expiry.ended(&job, end);
        assert_eq!(expiry.judge(told(&job, minute), end + minute / 2), [], "the clock is wrong");
        assert_eq!(expiry.judge(vec![], end + 2 * minute), [], "the clock is wrong the other way");
        assert_eq!(expiry.judge(told(&job, minute), end + minute), [job.id]);
    }

    #[test]
    fn the_clock_has_to_agree_for_a_while_on_a_job_of_an_earlier_daemon() {
        let (begun, job) = (Instant::now(), job(1, 60));
        let mut expiry = Expiry::new(begun);
        let day = || told(&job, Duration::from_secs(24 * 3600));
        assert_eq!(expiry.judge(day(), begun), []);
        assert_eq!(expiry.judge(vec![], begun + AGREE / 2), [], "it was wrong, and begins anew");
        assert_eq!(expiry.judge(day(), begun + AGREE), []);
        assert_eq!(expiry.judge(day(), begun + 2 * AGREE - LOOK_EVERY), []);
        assert_eq!(expiry.judge(day(), begun + 2 * AGREE), std::slice::from_ref(&job.id));
    }

    #[test]
    fn a_job_of_an_earlier_daemon_is_removed_once_this_one_has_run_for_its_time() {
        let (begun, job, minute) = (Instant::now(), job(1, 60), Duration::from_secs(60));
        let mut expiry = Expiry::new(begun);
        assert_eq!(expiry.judge(told(&job, Duration::ZERO), begun), std::slice::from_ref(&job.id), "at once");
        assert_eq!(expiry.judge(told(&job, minute), begun + minute / 2), []);
        assert_eq!(expiry.judge(told(&job, minute), begun + minute), [job.id]);
    }

    #[test]
    fn jobs_that_cannot_be_removed_do_not_keep_the_others() {
        let jobs: Vec<JobId> = (0..5).map(|number| job(number, 60).id).collect();
        let mut expiry = Expiry::new(Instant::now());
        // None of them can be removed: each has its turn.
        let turns: Vec<_> = (0..4).map(|_| expiry.next(jobs.clone(), 2)).collect();
        let mut sorted = jobs.clone();
        sorted.sort();
        let of = |places: [usize; 2]| places.map(|place| sorted[place].clone()).to_vec();
        assert_eq!(turns, [of([0, 1]), of([2, 3]), of([4, 0]), of([1, 2])]);
        assert!(expiry.refused(&jobs[0]) && !expiry.refused(&jobs[0]), "it is told once");
        expiry.forget(&jobs[0]);
        assert!(expiry.refused(&jobs[0]));
        assert_eq!(expiry.next(Vec::new(), 2), []);
    }

    #[test]
    fn looks_are_an_interval_apart() {
        let begun = Instant::now();
        let mut expiry = Expiry::new(begun);
        let seconds: Vec<u64> =
            (0..12).filter(|seconds| expiry.is_due(begun + Duration::from_secs(*seconds))).collect();
        assert_eq!(seconds, [0, 5, 10]);
    }
}
