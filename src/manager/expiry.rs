//! Which ended jobs are removed because their `ttl_after_end` is over. What is removed does not come back, and clocks are set: that of the
//! machine alone is not believed.
//!
//! A job that ended under our eyes goes when its time has passed on the monotonic clock too. Of one that ended before this daemon began there
//! is only the clock, which has to say the same for a while.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::job::{Job, JobId};

/// Expired jobs are looked for so often.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The clock has to call a job expired at two looks so far apart, and at all in between.
const AGREE: Duration = Duration::from_secs(600);

/// What is known of the ends of jobs besides the clock.
#[derive(Default)]
pub(super) struct Expiry {
    looked: Option<Instant>,
    /// Jobs that ended under our eyes, and when their time is over.
    over: HashMap<JobId, Instant>,
    /// Others that the clock calls expired, and since when it does.
    told: HashMap<JobId, Instant>,
}

impl Expiry {
    /// Takes note of a job that ends now.
    pub(super) fn ended(&mut self, job: &Job, now: Instant) {
        let ttl = job.spec.ttl_after_end.and_then(|ttl| Duration::try_from(ttl).ok());
        // Beyond the end of that clock nobody waits.
        if let Some(over) = ttl.and_then(|ttl| now.checked_add(ttl)) {
            self.over.insert(job.id.clone(), over);
        }
    }

    /// Forgets a job that was removed.
    pub(super) fn forget(&mut self, id: &JobId) {
        self.over.remove(id);
        self.told.remove(id);
    }

    /// Whether it is time for a look, which this one is then.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK_EVERY);
        if is_due {
            self.looked = Some(now);
        }
        is_due
    }

    /// Those that are to be removed of the jobs that have expired as the clock has it.
    pub(super) fn judge(&mut self, expired: Vec<JobId>, now: Instant) -> Vec<JobId> {
        let all: BTreeSet<&JobId> = expired.iter().collect();
        self.told.retain(|id, _| all.contains(id));
        let (over, told) = (&self.over, &mut self.told);
        let mut is_over = |id: &JobId| match over.get(id) {
            Some(over) => *over <= now,
            None => now.duration_since(*told.entry(id.clone()).or_insert(now)) >= AGREE,
        };
        expired.into_iter().filter(|id| is_over(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::job::Inputs;
    use crate::job::order::IdxFiles;
    use crate::proto::v1;

    fn job(number: u32, ttl: i64) -> Job {
        let ttl_after_end = Some(prost_types::Duration { seconds: ttl, nanos: 0 });
        let spec = v1::JobSpec { ttl_after_end, ..v1::JobSpec::default() };
        let train = IdxFiles { images: "/i".into(), labels: "/l".into() };
        let created = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_454_095);
        Job::queued(JobId::new(created, number), spec, Inputs { train, validation: None }, created)
    }

    #[test]
    fn a_job_that_ended_under_our_eyes_goes_when_both_clocks_say_so() {
        let (mut expiry, begun, job) = (Expiry::default(), Instant::now(), job(1, 60));
        expiry.ended(&job, begun);
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(expiry.judge(vec![job.id.clone()], at(59)), [], "the clock is wrong");
        assert_eq!(expiry.judge(vec![], at(61)), [], "the clock is wrong the other way");
        assert_eq!(expiry.judge(vec![job.id.clone()], at(61)), [job.id]);
    }

    #[test]
    fn of_a_job_of_an_earlier_daemon_the_clock_has_to_say_the_same_for_a_while() {
        let (mut expiry, begun, job) = (Expiry::default(), Instant::now(), job(1, 60));
        let told = || vec![job.id.clone()];
        assert_eq!(expiry.judge(told(), begun), []);
        assert_eq!(expiry.judge(vec![], begun + AGREE / 2), [], "it was wrong, and begins anew");
        assert_eq!(expiry.judge(told(), begun + AGREE), []);
        assert_eq!(expiry.judge(told(), begun + 2 * AGREE - LOOK_EVERY), []);
        assert_eq!(expiry.judge(told(), begun + 2 * AGREE), told());
    }

    #[test]
    fn looks_are_an_interval_apart() {
        let (mut expiry, begun) = (Expiry::default(), Instant::now());
        let seconds: Vec<u64> =
            (0..12).filter(|seconds| expiry.is_due(begun + Duration::from_secs(*seconds))).collect();
        assert_eq!(seconds, [0, 5, 10]);
    }
}
