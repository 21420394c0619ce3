//! Whether a failed attempt is followed by another one, and when.

use std::time::Duration;

use super::Violations;
use super::course::Course;
use crate::proto::v1::{self, JobEndReason};

/// Restarts that can be asked for.
const MOST_RESTARTS: u32 = 100;
/// Times of waiting are no longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The most interruptions in a row without a new checkpoint. A job with more ends: it will not get
/// anywhere.
const MOST_FRUITLESS: u32 = 5;

/// The rules for a runner that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Restarts after failures.
    pub max_restarts: u32,
    /// Time before the first one; each further one waits twice as long.
    pub initial_backoff: Duration,
    /// The longest such time.
    pub max_backoff: Duration,
    /// A runner that is silent for this time is killed.
    pub stall_timeout: Option<Duration>,
    /// Reasons that are followed by a restart too.
    pub also_on: Vec<JobEndReason>,
    /// Reasons that are not.
    pub never_on: Vec<JobEndReason>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_restarts: 0,
            initial_backoff: Duration::from_secs(10),
            max_backoff: Duration::from_secs(300),
            stall_timeout: None,
            also_on: Vec::new(),
            never_on: Vec::new(),
        }
    }
}

impl Retry {
    /// The time to wait before a restart; None where the job ends. `course` is that of the attempts
    /// before.
    pub fn after(&self, reason: JobEndReason, course: &Course) -> Option<Duration> {
        let is_worth_it = if self.never_on.contains(&reason) {
            false
        } else if self.also_on.contains(&reason) {
            true
        } else {
            is_retried(reason) && !(reason == JobEndReason::OutOfMemory && course.was_out_of_memory)
        };
        if !is_worth_it || course.restarts >= self.max_restarts {
            return None;
        }
        Some(self.backoff(course.restarts))
    }

    /// The time to wait before a restart, by the number of restarts before it.
    pub fn backoff(&self, restarts: u32) -> Duration {
        let factor = 2u32.checked_pow(restarts).unwrap_or(u32::MAX);
        self.initial_backoff.saturating_mul(factor).min(self.max_backoff)
    }

    /// From the message of a client.
    pub fn read(message: Option<&v1::Retry>, wrong: &mut Violations) -> Self {
        let Some(message) = message else { return Self::default() };
        let v1::Retry { max_restarts, initial_backoff, max_backoff, stall_timeout, also_on, never_on } = message;
        let default = Self::default();
        if *max_restarts > MOST_RESTARTS {
            wrong.add("retry.max_restarts", format!("is {max_restarts}; at most {MOST_RESTARTS} is right"));
        }
        let mut time = |field: &str, message: &Option<prost_types::Duration>, least: Duration| {
            let message = (*message)?;
            let time = Duration::try_from(message).ok().filter(|time| (least..=LONGEST).contains(time));
            if time.is_none() {
                let found = message.seconds as f64 + f64::from(message.nanos) / 1e9;
                wrong.add(format!("retry.{field}"), format!("is {found} s; {least:?} to one day is right"));
            }
            time
        };
        let stall_timeout = time("stall_timeout", stall_timeout, Duration::from_secs(1));
        let first = time("initial_backoff", initial_backoff, Duration::ZERO).unwrap_or(default.initial_backoff);
        let last = time("max_backoff", max_backoff, Duration::ZERO);
        if let Some(last) = last.filter(|last| *last < first) {
            wrong.add("retry.max_backoff", format!("is {last:?}, less than the initial_backoff of {first:?}"));
        }
        let mut reasons = |field: &str, numbers: &[i32]| {
            let reason = |(place, &number): (usize, &i32)| {
                let reason = JobEndReason::try_from(number).ok().filter(|reason| is_failure(*reason));
                if reason.is_none() {
                    let found = JobEndReason::try_from(number).map_or_else(|_| number.to_string(), super::end::label);
                    let right = "a reason for which an attempt fails is needed, such as out_of_memory";
                    wrong.add(format!("retry.{field}[{place}]"), format!("is {found}; {right}"));
                }
                reason
            };
            let mut found = Vec::new();
            for reason in numbers.iter().enumerate().filter_map(reason) {
                // Each once: there are few, however long the list is, and jobs of earlier versions
                // may have long ones.
                if !found.contains(&reason) {
                    found.push(reason);
                }
            }
            found
        };
        let (also_on, never_on) = (reasons("also_on", also_on), reasons("never_on", never_on));
        if let Some(both) = also_on.iter().find(|reason| never_on.contains(reason)) {
            wrong.add("retry.never_on", format!("holds {}, and so does retry.also_on", super::end::label(*both)));
        }
        Self {
            max_restarts: *max_restarts,
            initial_backoff: first,
            max_backoff: last.unwrap_or(default.max_backoff.max(first)),
            stall_timeout,
            also_on,
            never_on,
        }
    }

    /// The message that it was read from, every default filled in.
    pub fn to_proto(&self) -> v1::Retry {
        let numbers = |reasons: &[JobEndReason]| reasons.iter().map(|&reason| reason.into()).collect();
        v1::Retry {
            max_restarts: self.max_restarts,
            initial_backoff: self.initial_backoff.try_into().ok(),
            max_backoff: self.max_backoff.try_into().ok(),
            stall_timeout: self.stall_timeout.and_then(|time| time.try_into().ok()),
            also_on: numbers(&self.also_on),
            never_on: numbers(&self.never_on),
        }
    }
}

/// Whether a job goes on after an interruption, of which there is a limit in a row.
pub fn goes_on(course: &Course) -> bool {
    course.fruitless < MOST_FRUITLESS
}

/// Whether an attempt that failed for this reason can succeed when it is made again.
fn is_retried(reason: JobEndReason) -> bool {
    match reason {
        JobEndReason::KilledBySignal
        | JobEndReason::OutOfMemory
        | JobEndReason::DeviceUnavailable
        | JobEndReason::Internal
        | JobEndReason::GpuLost
        | JobEndReason::Storage
        | JobEndReason::Stalled
        | JobEndReason::PeerLost
        // Only its user knows whether it would do the same again.
        | JobEndReason::ProgramFailed => true,
        // The same data, the same numbers, the same program: the same end.
        JobEndReason::BadData | JobEndReason::Diverged | JobEndReason::StartFailed => false,
        JobEndReason::Unspecified
        | JobEndReason::Finished
        | JobEndReason::Cancelled
        | JobEndReason::Interrupted
        | JobEndReason::MaxDuration
        | JobEndReason::Paused
        | JobEndReason::Preempted
        | JobEndReason::BadCheckpoint
        | JobEndReason::DataChanged
        | JobEndReason::DependencyFailed => false,
    }
}

/// Whether an attempt can fail for this reason, so that a spec can have a rule for it.
fn is_failure(reason: JobEndReason) -> bool {
    is_retried(reason) || matches!(reason, JobEndReason::BadData | JobEndReason::Diverged | JobEndReason::StartFailed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(restarts: u32, was_out_of_memory: bool) -> Course {
        Course { restarts, was_out_of_memory, ..Course::default() }
    }

    #[test]
    fn restarts_wait_twice_as_long_each_time_up_to_a_limit_and_end() {
        let retry = Retry { max_restarts: 7, ..Retry::default() };
        let waits =
            |restarts| retry.after(JobEndReason::KilledBySignal, &course(restarts, false)).map(|time| time.as_secs());
        let told: Vec<_> = (0..8).map(waits).collect();
        assert_eq!(told, [10, 20, 40, 80, 160, 300, 300].map(Some).into_iter().chain([None]).collect::<Vec<_>>());
        let many = Retry { max_restarts: 100, ..Retry::default() };
        assert_eq!(many.after(JobEndReason::Internal, &course(99, false)), Some(Duration::from_secs(300)));
    }

    #[test]
    fn what_cannot_succeed_is_not_tried_again_unless_the_spec_says_so() {
        let retry = Retry { max_restarts: 3, ..Retry::default() };
        for reason in [JobEndReason::BadData, JobEndReason::Diverged, JobEndReason::MaxDuration] {
            assert_eq!(retry.after(reason, &course(0, false)), None, "{reason:?}");
        }
        let memory = JobEndReason::OutOfMemory;
        assert!(retry.after(memory, &course(0, false)).is_some());
        assert!(retry.after(memory, &course(1, false)).is_some());
        assert_eq!(retry.after(memory, &course(1, true)), None, "twice in a row");
        let own =
            Retry { also_on: vec![memory, JobEndReason::Diverged], never_on: vec![JobEndReason::Internal], ..retry };
        assert!(own.after(memory, &course(1, true)).is_some());
        assert!(own.after(JobEndReason::Diverged, &course(0, false)).is_some());
        assert_eq!(own.after(JobEndReason::Internal, &course(0, false)), None);
    }

    #[test]
    fn mistakes_are_named() {
        let mut wrong = Violations::default();
        let message = v1::Retry {
            max_restarts: 101,
            stall_timeout: Some(prost_types::Duration { seconds: 0, nanos: 5 }),
            max_backoff: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            also_on: vec![JobEndReason::Finished.into(), JobEndReason::Internal.into()],
            never_on: vec![77, JobEndReason::Internal.into()],
            ..v1::Retry::default()
        };
        Retry::read(Some(&message), &mut wrong);
        let fields: Vec<_> = wrong.0.iter().map(|violation| violation.field.as_str()).collect();
        let expected = [
            "retry.max_restarts",
            "retry.stall_timeout",
            "retry.max_backoff",
            "retry.also_on[0]",
            "retry.never_on[0]",
            "retry.never_on",
        ];
        assert_eq!(fields, expected);
    }
}
