//! The training section: how long, and in which portions.

use super::recipe::Recipe;
use super::section::Fields;
use crate::job::Violations;
use crate::job::length::Length;
use crate::proto::v1;

/// How long to train, and in which portions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Training {
    /// How long; None in a section that is wrong about it.
    pub length: Option<Length>,
    /// Examples in a training step.
    pub batch_size: u32,
    /// Examples in a step of the validation pass; None until `fit` has seen the validation set.
    pub validation_batch_size: Option<u32>,
    /// The longest that all gradients taken as one vector may be.
    pub gradient_clip_norm: Option<f64>,
    /// Seed of the initial weights, where it is another than that of the job.
    pub init_seed: Option<u64>,
    /// The way of training besides.
    pub recipe: Recipe,
}

impl Training {
    /// Reads the section of a spec, as far as it is right.
    pub(super) fn read(message: Option<&v1::Training>, has_validation: bool, wrong: &mut Violations) -> Self {
        let Some(message) = message else {
            wrong.add("training", "is missing; training.epochs or training.max_steps is needed");
            return Self {
                length: None,
                batch_size: 1,
                validation_batch_size: None,
                gradient_clip_norm: None,
                init_seed: None,
                recipe: Recipe::default(),
            };
        };
        let mut fields = Fields::new("training", wrong);
        let v1::Training { length, batch_size, validation_batch_size, gradient_clip_norm, init_seed, .. } = *message;
        match length {
            Some(v1::training::Length::Epochs(epochs)) => fields.demand("epochs", epochs > 0, epochs, "at least 1"),
            Some(v1::training::Length::MaxSteps(steps)) => fields.demand("max_steps", steps > 0, steps, "at least 1"),
            None => fields.wrong_itself("says not how long to train; set epochs or max_steps"),
        }
        let length = length.and_then(|length| match length {
            v1::training::Length::Epochs(epochs) => (epochs > 0).then_some(Length::Epochs(epochs)),
            v1::training::Length::MaxSteps(steps) => (steps > 0).then_some(Length::Steps(steps)),
        });
        let batch_size = fields.at_least_one("batch_size", batch_size, 64).max(1);
        fields.at_least_one("validation_batch_size", validation_batch_size, 1);
        let gradient_clip_norm = gradient_clip_norm.map(|norm| fields.positive("gradient_clip_norm", norm));
        let recipe = Recipe::read(message, has_validation, &mut fields);
        recipe.judge_batch_size(batch_size, wrong);
        Self { length, batch_size, validation_batch_size, gradient_clip_norm, init_seed, recipe }
    }

    /// The message that it was read from, every default filled in.
    pub(super) fn to_proto(self) -> v1::Training {
        let mut message = v1::Training {
            length: self.length.map(|length| match length {
                Length::Epochs(epochs) => v1::training::Length::Epochs(epochs),
                Length::Steps(steps) => v1::training::Length::MaxSteps(steps),
            }),
            batch_size: Some(self.batch_size),
            validation_batch_size: self.validation_batch_size,
            gradient_clip_norm: self.gradient_clip_norm,
            init_seed: self.init_seed,
            ..v1::Training::default()
        };
        self.recipe.write(&mut message);
        message
    }
}
