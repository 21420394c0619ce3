//! Jobs that wait for others: which end of another job is wished, and what an end means for the one
//! that waits. An end is final, so that the answer is the same whenever it is asked for.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{JobId, State, Violations};
use crate::proto::v1;

/// Another job that has to end first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// The other job.
    pub job: JobId,
    /// The end that is wished.
    pub condition: Condition,
}

/// An end that is wished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Any.
    #[default]
    Ended,
    /// It has succeeded.
    Succeeded,
    /// It has failed or was cancelled.
    Failed,
}

/// The meaning of the state of another job for the one that waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has not ended.
    Open,
    /// It has ended as is wished.
    Met,
    /// It has ended otherwise.
    Broken,
}

impl Condition {
    /// The meaning of that state of the other job.
    pub fn standing(self, state: State) -> Standing {
        let is_met = match state {
            State::Queued | State::Starting | State::Running | State::Stopping | State::Paused => {
                return Standing::Open;
            }
            State::Succeeded => self != Self::Failed,
            State::Failed | State::Cancelled => self != Self::Succeeded,
        };
        if is_met { Standing::Met } else { Standing::Broken }
    }

    /// The wish, as the end of "waits for a job".
    pub fn wish(self) -> &'static str {
        match self {
            Self::Ended => "to end",
            Self::Succeeded => "to succeed",
            Self::Failed => "to fail",
        }
    }
}

impl Dependency {
    /// From the list of a client.
    pub fn read(messages: &[v1::Dependency], wrong: &mut Violations) -> Vec<Self> {
        let mut seen = BTreeSet::new();
        let read = |(place, message): (usize, &v1::Dependency)| {
            let condition = v1::DependencyCondition::try_from(message.condition).map(Condition::from);
            if condition.is_err() {
                let what = format!("is {}; ended, succeeded or failed is right", message.condition);
                wrong.add(format!("after[{place}].condition"), what);
            }
            match named(&message.job) {
                Ok(job) if !seen.insert(job.clone()) => {
                    wrong.add(format!("after[{place}].job"), format!("is {} a second time; name it once", job.name()));
                    None
                }
                Ok(job) => Some(Self { job, condition: condition.ok()? }),
                Err(what) => {
                    wrong.add(format!("after[{place}].job"), what);
                    None
                }
            }
        };
        messages.iter().enumerate().filter_map(read).collect()
    }

    /// The message that it was read from.
    pub fn to_proto(&self) -> v1::Dependency {
        v1::Dependency { job: self.job.name(), condition: v1::DependencyCondition::from(self.condition).into() }
    }

    /// The meaning of the state of the other job, None for a job that is not there. The job at
    /// `place` of a request that can never be started is a mistake.
    pub fn judge(&self, place: usize, state: Option<State>, wrong: &mut Violations) -> Standing {
        let standing = state.map_or(Standing::Broken, |state| self.condition.standing(state));
        if standing == Standing::Broken {
            let name = self.job.name();
            let what = match (state, self.condition) {
                (None, _) => format!("is {name}, and there is no such job; name one that has not been deleted"),
                (Some(state), Condition::Failed) => {
                    format!("is {name}, which has {state} already; condition = \"succeeded\" or \"ended\" is right")
                }
                (Some(state), _) => {
                    let has = if state == State::Cancelled { "was" } else { "has" };
                    format!("is {name}, which {has} {state} already; condition = \"failed\" or \"ended\" is right")
                }
            };
            wrong.add(format!("after[{place}].job"), what);
        }
        standing
    }
}

fn named(name: &str) -> Result<JobId, String> {
    match name.parse::<JobId>() {
        _ if name.is_empty() => Err("is missing; jobs/{id} is needed".into()),
        Ok(job) if name.starts_with("jobs/") => Ok(job),
        Ok(job) => Err(format!("is {name:?}; {} is right", job.name())),
        Err(error) => Err(error.to_string()),
    }
}

impl From<v1::DependencyCondition> for Condition {
    fn from(condition: v1::DependencyCondition) -> Self {
        match condition {
            v1::DependencyCondition::Unspecified | v1::DependencyCondition::Ended => Self::Ended,
            v1::DependencyCondition::Succeeded => Self::Succeeded,
            v1::DependencyCondition::Failed => Self::Failed,
        }
    }
}

impl From<Condition> for v1::DependencyCondition {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::Ended => Self::Ended,
            Condition::Succeeded => Self::Succeeded,
            Condition::Failed => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_as_wished_or_not_and_everything_else_is_none() {
        for state in State::ALL {
            let standing = [Condition::Ended, Condition::Succeeded, Condition::Failed].map(|one| one.standing(state));
            let right = match state {
                State::Succeeded => [Standing::Met, Standing::Met, Standing::Broken],
                State::Failed | State::Cancelled => [Standing::Met, Standing::Broken, Standing::Met],
                _ => [Standing::Open; 3],
            };
            assert_eq!(standing, right, "{state}");
        }
    }

    #[test]
    fn every_mistake_in_a_list_is_told_at_its_place() {
        let one = |job: &str, condition| v1::Dependency { job: job.into(), condition };
        let (first, second) = ("jobs/20261123-171455-k7qm", "jobs/20261123-171455-k7qn");
        let mut wrong = Violations::default();
        let list = [one(first, 0), one(second, 3)];
        let read = Dependency::read(&list, &mut wrong);
        assert!(wrong.0.is_empty(), "{wrong}");
        let told: Vec<_> = read.iter().map(Dependency::to_proto).collect();
        assert_eq!(told, [one(first, 1), one(second, 3)]);
        let list = [one("", 0), one(first, 4), one(first, 1), one(&first[5..], 0), one("jobs/x", 0)];
        assert!(Dependency::read(&list, &mut wrong).is_empty());
        let fields: Vec<_> = wrong.0.iter().map(|wrong| wrong.field.as_str()).collect();
        assert_eq!(
            fields,
            ["after[0].job", "after[1].condition", "after[2].job", "after[3].job", "after[4].job"],
            "{wrong}"
        );
    }
}
