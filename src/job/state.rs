//! The states of a job, and the one function that tells which may follow which.
//!
//! ```text
//!  create ─▶ QUEUED ─▶ STARTING ─▶ RUNNING ─▶ STOPPING ─┬▶ PAUSED ─▶ QUEUED   (resume)
//!             │  │          │ │         │ │               ├▶ CANCELLED
//!             │  │          │ │         │ │               └▶ SUCCEEDED or FAILED (it ended first)
//!             │  │          │ └─────────│─┴─▶ SUCCEEDED or FAILED,
//!             │  │          │           │     QUEUED again (a restart, an interruption),
//!             │  │          │           │     PAUSED (full disk, damaged checkpoint, changed data)
//!             │  │          └───────────┴─▶ STOPPING
//!             │  └─▶ PAUSED ─▶ CANCELLED, or FAILED (a job that it waits for failed)
//!             └─▶ CANCELLED, or FAILED (the same)
//! ```
//!
//! SUCCEEDED, FAILED and CANCELLED are final: nothing leads out of them. Each way from QUEUED to
//! STARTING is an attempt.

use std::fmt;

use crate::proto::v1::JobState;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Waits for its turn.
    Queued,
    /// Its runner was started and loads.
    Starting,
    /// Trains.
    Running,
    /// Was asked to end.
    Stopping,
    /// Trained to the end.
    Succeeded,
    /// Ended otherwise.
    Failed,
    /// Ended because it was cancelled.
    Cancelled,
    /// Taken off the machine until somebody resumes it.
    Paused,
}

/// The events of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It has a slot, its runner is being started.
    Assigned,
    /// Its runner has loaded everything.
    Started,
    /// A user asks it to end.
    StopRequested,
    /// A user asks it to pause.
    PauseRequested,
    /// A user asks it to go on.
    ResumeRequested,
    /// A job that it waits for has ended otherwise than it wished.
    DependencyFailed,
    /// Its runner is gone.
    Ended(Outcome),
}

/// How a runner ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It trained to the end.
    Finished,
    /// It ended because it was asked to, on behalf of a user.
    Cancelled,
    /// It ended because it was asked to pause, or cannot go on before somebody makes room, mends a
    /// checkpoint or puts data back.
    Paused,
    /// The job goes on in another attempt.
    Requeued,
    /// It ended in any other way.
    Failed,
}

/// Why an event does not fit a state, in a user's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has ended, and not by being cancelled.
    #[error("the job {}; only a job that has not ended can be cancelled", .0.told())]
    AlreadyEnded(State),
    /// It has not ended.
    #[error("the job {}; only a job that has ended can be deleted: cancel it first", .0.told())]
    NotEnded(State),
    /// It has ended, and cannot be paused.
    #[error("the job {}; only a job that has not ended can be paused", .0.told())]
    EndedBeforePause(State),
    /// It is being cancelled, and cannot be paused.
    #[error("the job is being cancelled and cannot be paused any more")]
    BeingCancelled,
    /// It has ended, and its priority means nothing any more.
    #[error("the job {}; only a job that has not ended can get another priority", .0.told())]
    EndedBeforePriority(State),
    /// It is not paused.
    #[error("the job {}; only a paused job can be resumed", .0.told())]
    NotPaused(State),
    /// The event cannot happen in this state: a fault of torchd.
    #[error("a job that is {state} cannot be {event:?}")]
    Impossible {
        /// The state.
        state: State,
        /// The event.
        event: Event,
    },
}

/// The state after `event`. The same state means that nothing changes: asking twice is fine.
pub fn next(state: State, event: Event) -> Result<State, Refusal> {
    use Event::{Assigned, DependencyFailed, Ended, PauseRequested, ResumeRequested, Started, StopRequested};
    use State::{Cancelled, Failed, Paused, Queued, Running, Starting, Stopping, Succeeded};
    match (state, event) {
        (Queued, Assigned) => Ok(Starting),
        (Queued | Paused | Cancelled, StopRequested) => Ok(Cancelled),
        (Queued | Paused, PauseRequested) => Ok(Paused),
        (Paused, ResumeRequested) => Ok(Queued),
        (Queued | Paused, DependencyFailed) => Ok(Failed),
        (Starting, Started) => Ok(Running),
        (Stopping, Started) => Ok(Stopping),
        (Starting | Running | Stopping, StopRequested | PauseRequested) => Ok(Stopping),
        (Starting | Running | Stopping, Ended(Outcome::Finished)) => Ok(Succeeded),
        (Starting | Running | Stopping, Ended(Outcome::Failed)) => Ok(Failed),
        (Starting | Running | Stopping, Ended(Outcome::Paused)) => Ok(Paused),
        (Starting | Running, Ended(Outcome::Requeued)) => Ok(Queued),
        (Stopping, Ended(Outcome::Cancelled)) => Ok(Cancelled),
        (Succeeded | Failed, StopRequested) => Err(Refusal::AlreadyEnded(state)),
        (Succeeded | Failed | Cancelled, PauseRequested) => Err(Refusal::EndedBeforePause(state)),
        (Queued | Starting | Running | Stopping | Succeeded | Failed | Cancelled, ResumeRequested) => {
            Err(Refusal::NotPaused(state))
        }
        (Queued | Running | Paused | Succeeded | Failed | Cancelled, Started)
        | (Starting | Running | Stopping | Paused | Succeeded | Failed | Cancelled, Assigned)
        | (Starting | Running | Stopping | Succeeded | Failed | Cancelled, DependencyFailed)
        | (Queued | Paused | Succeeded | Failed | Cancelled, Ended(_))
        | (Stopping, Ended(Outcome::Requeued))
        | (Starting | Running, Ended(Outcome::Cancelled)) => Err(Refusal::Impossible { state, event }),
    }
}

impl State {
    /// Every state, in the order of a job's life.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Paused,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The state as the end of "the job", for people.
    pub fn told(self) -> &'static str {
        match self {
            Self::Queued => "is queued",
            Self::Starting => "is starting",
            Self::Running => "is running",
            Self::Stopping => "is stopping",
            Self::Paused => "is paused",
            Self::Succeeded => "has succeeded",
            Self::Failed => "has failed",
            Self::Cancelled => "was cancelled",
        }
    }

    /// Nothing leads out of it.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// A runner exists, or is being started.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Stopping)
    }

    /// The name in metrics, logs and the database.
    pub fn label(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Paused => "paused",
        }
    }

    /// The state of that label.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.label() == label)
    }
}

impl From<State> for JobState {
    fn from(state: State) -> Self {
        match state {
            State::Queued => Self::Queued,
            State::Starting => Self::Starting,
            State::Running => Self::Running,
            State::Stopping => Self::Stopping,
            State::Succeeded => Self::Succeeded,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
            State::Paused => Self::Paused,
        }
    }
}

impl TryFrom<JobState> for State {
    type Error = ();

    fn try_from(state: JobState) -> Result<Self, ()> {
        match state {
            JobState::Unspecified => Err(()),
            JobState::Queued => Ok(Self::Queued),
            JobState::Starting => Ok(Self::Starting),
            JobState::Running => Ok(Self::Running),
            JobState::Stopping => Ok(Self::Stopping),
            JobState::Succeeded => Ok(Self::Succeeded),
            JobState::Failed => Ok(Self::Failed),
            JobState::Cancelled => Ok(Self::Cancelled),
            JobState::Paused => Ok(Self::Paused),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVENTS: [Event; 11] = [
        Event::Assigned,
        Event::Started,
        Event::StopRequested,
        Event::PauseRequested,
        Event::ResumeRequested,
        Event::DependencyFailed,
        Event::Ended(Outcome::Finished),
        Event::Ended(Outcome::Cancelled),
        Event::Ended(Outcome::Paused),
        Event::Ended(Outcome::Requeued),
        Event::Ended(Outcome::Failed),
    ];

    #[test]
    fn cancelling_twice_is_fine_and_cancelling_what_ended_is_not() {
        assert_eq!(next(State::Cancelled, Event::StopRequested), Ok(State::Cancelled));
        assert_eq!(next(State::Stopping, Event::StopRequested), Ok(State::Stopping));
        for state in [State::Succeeded, State::Failed] {
            assert_eq!(next(state, Event::StopRequested), Err(Refusal::AlreadyEnded(state)));
        }
    }

    #[test]
    fn a_job_that_ends_before_it_is_stopped_keeps_its_own_end() {
        assert_eq!(next(State::Stopping, Event::Ended(Outcome::Finished)), Ok(State::Succeeded));
        assert_eq!(next(State::Stopping, Event::Ended(Outcome::Failed)), Ok(State::Failed));
    }

    #[test]
    fn only_a_paused_job_is_resumed_and_only_one_that_has_not_ended_is_paused() {
        for state in State::ALL {
            let resumed = next(state, Event::ResumeRequested);
            assert_eq!(
                resumed,
                if state == State::Paused { Ok(State::Queued) } else { Err(Refusal::NotPaused(state)) }
            );
            assert_eq!(next(state, Event::PauseRequested).is_err(), state.is_final(), "{state}");
        }
    }

    #[test]
    fn every_state_has_a_label_and_a_protocol_value_of_its_own() {
        for state in State::ALL {
            assert_eq!(State::from_label(state.label()), Some(state));
            assert_eq!(State::try_from(JobState::from(state)), Ok(state));
        }
    }

    proptest! {
        #[test]
        fn no_history_leads_out_of_a_final_state_and_every_attempt_begins_in_the_queue(
            events in prop::collection::vec(0..EVENTS.len(), 0..60),
        ) {
            let mut state = State::Queued;
            for event in events {
                if let Ok(after) = next(state, EVENTS[event]) {
                    prop_assert!(!state.is_final() || after == state, "{state} to {after}");
                    prop_assert!(after != State::Starting || state == State::Queued, "{state} to {after}");
                    prop_assert!(after != State::Running || state == State::Starting, "{state} to {after}");
                    // A runner is gone only by its end.
                    let is_end = matches!(EVENTS[event], Event::Ended(_));
                    prop_assert!(!state.is_active() || after.is_active() || is_end, "{state} to {after}");
                    state = after;
                }
            }
        }

        #[test]
        fn every_live_state_can_be_cancelled(events in prop::collection::vec(0..EVENTS.len(), 0..40)) {
            let state = events.into_iter().fold(State::Queued, |state, event| next(state, EVENTS[event]).unwrap_or(state));
            if !state.is_final() {
                let stopping = next(state, Event::StopRequested).unwrap();
                prop_assert!(matches!(stopping, State::Stopping | State::Cancelled));
            }
        }
    }
}
