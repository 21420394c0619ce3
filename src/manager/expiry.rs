//! Decides which ended jobs are removed because their `ttl_after_end` is over. The clock of the
//! machine may be wrong for a while, and a removal cannot be undone: the clock alone is not
//! trusted.
//!
//! A job that ended while this daemon runs is removed once its time has passed on the monotonic
//! clock too. For a job that ended earlier there is only the clock of the machine, which has to
//! call it expired for a while without a break.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::job::{Job, JobId};

/// The interval between looks for expired jobs.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The clock has to call a job expired at two looks this far apart, and at every look in between.
const AGREE: Duration = Duration::from_secs(600);

/// The ends of jobs by the monotonic clock.
#[derive(Default)]
pub(super) struct Expiry {
    looked: Option<Instant>,
    /// Jobs that ended while this daemon runs, with the time at which they expire.
    over: HashMap<JobId, Instant>,
    /// Other jobs that the clock calls expired, with the first look of which that holds.
    told: HashMap<JobId, Instant>,
}

impl Expiry {
    /// Notes a job that ends now.
    pub(super) fn ended(&mut self, job: &Job, now: Instant) {
        let ttl = job.spec.ttl_after_end.and_then(|ttl| Duration::try_from(ttl).ok());
        // A time that an Instant cannot hold never comes.
        if let Some(over) = ttl.and_then(|ttl| now.checked_add(ttl)) {
            self.over.insert(job.id.clone(), over);
        }
    }

    /// Forgets a job that was removed.
    pub(super) fn forget(&mut self, id: &JobId) {
        self.over.remove(id);
        self.told.remove(id);
    }

    /// Whether the next look is due. If so, this call counts as that look.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK_EVERY);
        if is_due {
            self.looked = Some(now);
        }
        is_due
    }

    /// The jobs to remove, out of those that the clock calls expired.
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
    fn a_job_that_ended_in_this_daemon_is_removed_when_both_clocks_agree() {
        let (mut expiry, begun, job) = (Expiry::default(), Instant::now(), job(1, 60));
        expiry.ended(&job, begun);
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(expiry.judge(vec![job.id.clone()], at(59)), [], "the clock is wrong");
        assert_eq!(expiry.judge(vec![], at(61)), [], "the clock is wrong the other way");
        assert_eq!(expiry.judge(vec![job.id.clone()], at(61)), [job.id]);
    }

    #[test]
    fn the_clock_has_to_agree_for_a_while_on_a_job_of_an_earlier_daemon() {
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
