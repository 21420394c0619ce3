//! The part of a spec that trains a model, or applies one.

use super::training::Training;
use super::{Clip, Data, Loss, Metric, Mode, Model, Optimizer, Recipe, Schedule, WarmStart, applied};
use crate::job::length::{Length, Place, Plan};
use crate::job::retention::Checkpoints;
use crate::proto::v1;

/// A model that is trained or applied.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelWork {
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
    /// Where the weights come from; None for random ones.
    pub warm_start: Option<WarmStart>,
}

impl ModelWork {
    /// How long the job is on that many training examples from `place` on; None where that cannot
    /// be counted.
    pub fn plan(&self, train_examples: u64, place: Place) -> Option<Plan> {
        self.length.plan(self.batch_size, train_examples, place)
    }

    /// Writes the sections that it was read from, every default filled in.
    pub(super) fn write(&self, message: &mut v1::JobSpec) {
        let training = Training {
            length: Some(self.length),
            batch_size: self.batch_size,
            validation_batch_size: self.validation_batch_size,
            clip: self.clip,
            init_seed: self.init_seed,
            recipe: self.recipe,
        };
        message.seed = self.seed;
        message.model = Some(self.model.to_proto());
        message.data = Some(self.data.to_proto());
        message.training = Some(training.to_proto());
        message.loss = self.loss.as_ref().map(Loss::to_proto);
        message.metrics = self.metrics.iter().map(|metric| metric.name()).collect();
        message.optimizer = Some(self.optimizer.to_proto());
        message.schedule = Some(self.schedule.to_proto());
        message.checkpoint = Some(self.checkpoints.to_proto());
        message.logging = Some(v1::Logging { scalar_every_steps: Some(self.scalar_every_steps) });
        message.warm_start = self.warm_start.as_ref().map(WarmStart::to_proto);
        self.mode.write(message);
        if self.mode.applies() {
            applied::trim(message);
        }
    }
}
