//! The spec of a job as types that cannot be wrong, and every rule for it. `read` takes the message
//! of a client, `fit` holds its model against the data files; what comes out can be run, and says
//! again what every default became.

mod applied;
mod capture;
pub mod data;
mod edit;
mod fit;
mod labels;
pub mod layer;
mod layout;
pub mod loss;
mod memory;
pub mod metric;
mod mode;
pub mod model;
mod model_work;
pub mod module;
pub mod optimizer;
mod program;
mod read;
mod recipe;
mod remedy;
mod resources;
mod scale;
pub mod schedule;
pub mod section;
mod training;
mod warm_start;
mod weights;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::job::Dependency;
use crate::job::retry::Retry;
use crate::proto::v1;
pub use applied::take_over;
pub use data::Data;
pub use edit::merged;
pub use fit::{DataFacts, Demands, Fitted, Network, TRAINED_ON};
pub use labels::judge_labels;
pub use loss::Loss;
pub use memory::{HostMemory, RUNNER_BYTES, judge_memory, memory_bytes};
pub use metric::Metric;
pub use mode::{LrRange, Mode, Predictions};
pub use model::{Model, Weight};
pub use model_work::ModelWork;
pub use optimizer::Optimizer;
pub use program::Program;
#[cfg(test)]
pub(crate) use read::tests::{example, example_work};
pub use read::{ModelReading, Reading, judge_priority, read};
pub use recipe::{EarlyStopping, OnDivergence, Precision, Recipe};
pub use resources::{Device, Resources, ThreadWait};
pub use scale::{Engine, Scale};
pub use schedule::Schedule;
pub use training::Clip;
pub use warm_start::{WarmSource, WarmStart};
pub use weights::{
    RESTORES, SCALER_NUMBERS, SKIPS, SUM_LOSS, TakenFrom, average_name, hidden_name, judge_state, judge_weights,
    lane_name, may_hold_infinities,
};

/// A request that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// A name for people.
    pub display_name: String,
    /// Its work.
    pub work: Work,
    /// The part of the machine that is wanted.
    pub resources: Resources,
    /// Its ranks on other machines; None where it runs on this one.
    pub scale: Option<Scale>,
    /// How long it may run; None for no limit.
    pub max_duration: Option<Duration>,
    /// Labels to find it by.
    pub labels: BTreeMap<String, String>,
    /// The reaction to a failure of its runner.
    pub retry: Retry,
    /// The higher the earlier.
    pub priority: i32,
    /// The jobs that have to end first.
    pub after: Vec<Dependency>,
    /// It is removed so long after its end; None for never.
    pub ttl_after_end: Option<Duration>,
    /// Where its results are copied to, as the client named it.
    pub mirror: Option<String>,
    /// A job whose folder cannot be written is paused; otherwise it fails.
    pub pauses_on_storage_failure: bool,
}

/// The work of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// It trains a model, or applies one.
    Model(Box<ModelWork>),
    /// It runs a program of the user's own.
    Program(Program),
}

impl From<ModelWork> for Work {
    fn from(work: ModelWork) -> Self {
        Self::Model(work.into())
    }
}

impl Spec {
    /// The model that it trains or applies; None of a job that has none.
    pub fn model(&self) -> Option<&ModelWork> {
        match &self.work {
            Work::Model(work) => Some(work),
            Work::Program(_) => None,
        }
    }

    /// The program that it runs; None of a job that has a model.
    pub fn program(&self) -> Option<&Program> {
        match &self.work {
            Work::Program(program) => Some(program),
            Work::Model(_) => None,
        }
    }

    /// The message that this spec was read from, every default filled in.
    pub fn to_proto(&self) -> v1::JobSpec {
        let mut message = v1::JobSpec {
            display_name: self.display_name.clone(),
            resources: Some(self.resources.to_proto()),
            scale: self.scale.as_ref().map(Scale::to_proto),
            max_duration: self.max_duration.and_then(|limit| limit.try_into().ok()),
            labels: self.labels.clone(),
            retry: Some(self.retry.to_proto()),
            priority: self.priority,
            after: self.after.iter().map(Dependency::to_proto).collect(),
            ttl_after_end: self.ttl_after_end.and_then(|time| time.try_into().ok()),
            on_storage_failure: if self.pauses_on_storage_failure {
                v1::OnStorageFailure::Pause.into()
            } else {
                v1::OnStorageFailure::Fail.into()
            },
            output: self.mirror.clone().map(|mirror| v1::Output { mirror, ..v1::Output::default() }),
            ..v1::JobSpec::default()
        };
        match &self.work {
            Work::Model(work) => work.write(&mut message),
            Work::Program(program) => program.write(&mut message),
        }
        message
    }
}
