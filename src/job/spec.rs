//! The spec of a job as types that cannot be wrong, and every rule for it. `read` takes the message
//! of a client, `fit` holds the result against the data files; what comes out can be trained, and
//! says again what every default became.

mod applied;
pub mod data;
mod edit;
mod fit;
mod labels;
pub mod layer;
pub mod loss;
mod memory;
pub mod metric;
mod mode;
pub mod model;
pub mod module;
pub mod optimizer;
mod read;
mod recipe;
mod resources;
pub mod schedule;
pub mod section;
mod training;
mod warm_start;
mod weights;

use std::collections::BTreeMap;
use std::time::Duration;

use super::length::{Length, Place, Plan};
use crate::job::retention::Checkpoints;
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
pub use optimizer::Optimizer;
#[cfg(test)]
pub(crate) use read::tests::example;
pub use read::{Reading, read};
pub use recipe::{EarlyStopping, OnDivergence, Precision, Recipe};
pub use resources::{Device, Resources};
pub use schedule::Schedule;
pub use training::Clip;
use training::Training;
pub use warm_start::{WarmSource, WarmStart};
pub use weights::{
    RESTORES, SCALER_NUMBERS, SKIPS, SUM_LOSS, TakenFrom, average_name, hidden_name, judge_state, judge_weights,
    may_hold_infinities,
};

/// A request that can be trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// A name for people.
    pub display_name: String,
    /// The purpose of the job.
    pub mode: Mode,
    /// Seed of everything random.
    pub seed: u64,
    /// Seed of the initial weights, where it is another.
    pub init_seed: Option<u64>,
    /// The network.
    pub model: Model,
    /// The examples.
    pub data: Data,
    /// How long to train.
    pub length: Length,
    /// Examples in a training step.
    pub batch_size: u32,
    /// Examples in a step of the validation pass; None until `fit` has seen the validation set.
    pub validation_batch_size: Option<u32>,
    /// The loss; None until `fit` has seen the target, and for a model that computes its own.
    pub loss: Option<Loss>,
    /// The metrics besides the loss; empty until `fit` has seen the target, and for a model that
    /// gives its own.
    pub metrics: Vec<Metric>,
    /// How gradients become new weights.
    pub optimizer: Optimizer,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// The limit of gradients.
    pub clip: Option<Clip>,
    /// The way of training besides.
    pub recipe: Recipe,
    /// When checkpoints are saved, and how many are kept.
    pub checkpoints: Checkpoints,
    /// Steps between scalars.
    pub scalar_every_steps: u32,
    /// The part of the machine that is wanted.
    pub resources: Resources,
    /// How long it may run; None for no limit.
    pub max_duration: Option<Duration>,
    /// Labels to find it by.
    pub labels: BTreeMap<String, String>,
    /// The reaction to a failure of its runner.
    pub retry: Retry,
    /// The higher the earlier.
    pub priority: i32,
    /// It is removed so long after its end; None for never.
    pub ttl_after_end: Option<Duration>,
    /// Where the weights come from; None for random ones.
    pub warm_start: Option<WarmStart>,
    /// Where its results are copied to, as the client named it.
    pub mirror: Option<String>,
    /// A job whose folder cannot be written is paused; otherwise it fails.
    pub pauses_on_storage_failure: bool,
}

impl Spec {
    /// How long the job is on that many training examples from `place` on; None where that cannot
    /// be counted.
    pub fn plan(&self, train_examples: u64, place: Place) -> Option<Plan> {
        self.length.plan(self.batch_size, train_examples, place)
    }

    /// The message that this spec was read from, every default filled in.
    pub fn to_proto(&self) -> v1::JobSpec {
        let training = Training {
            length: Some(self.length),
            batch_size: self.batch_size,
            validation_batch_size: self.validation_batch_size,
            clip: self.clip,
            init_seed: self.init_seed,
            recipe: self.recipe,
        };
        let mut message = v1::JobSpec {
            display_name: self.display_name.clone(),
            seed: self.seed,
            model: Some(self.model.to_proto()),
            data: Some(self.data.to_proto()),
            training: Some(training.to_proto()),
            loss: self.loss.as_ref().map(Loss::to_proto),
            metrics: self.metrics.iter().map(|metric| metric.name()).collect(),
            optimizer: Some(self.optimizer.to_proto()),
            schedule: Some(self.schedule.to_proto()),
            checkpoint: Some(self.checkpoints.to_proto()),
            logging: Some(v1::Logging { scalar_every_steps: Some(self.scalar_every_steps) }),
            resources: Some(self.resources.to_proto()),
            max_duration: self.max_duration.and_then(|limit| limit.try_into().ok()),
            labels: self.labels.clone(),
            retry: Some(self.retry.to_proto()),
            priority: self.priority,
            ttl_after_end: self.ttl_after_end.and_then(|time| time.try_into().ok()),
            warm_start: self.warm_start.as_ref().map(WarmStart::to_proto),
            on_storage_failure: if self.pauses_on_storage_failure {
                v1::OnStorageFailure::Pause.into()
            } else {
                v1::OnStorageFailure::Fail.into()
            },
            output: self.mirror.clone().map(|mirror| v1::Output { mirror, ..v1::Output::default() }),
            ..v1::JobSpec::default()
        };
        self.mode.write(&mut message);
        if self.mode.applies() {
            applied::trim(&mut message);
        }
        message
    }
}
