//! The training section: how long, and in which portions.

use super::recipe::Recipe;
use super::section::Fields;
use crate::job::Violations;
use crate::job::length::Length;
use crate::proto::v1::{self, training::GradientClip};

/// The limit of gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Clip {
    /// The longest that all gradients taken as one vector may be.
    Norm(f64),
    /// The largest that each number may be, of either sign.
    Value(f64),
}

/// How long to train, and in which portions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Training {
    /// How long; None in a section that is wrong about it.
    pub length: Option<Length>,
    /// Examples in a training step.
    pub batch_size: u32,
    /// Examples in a step of the validation pass; None until `fit` has seen the validation set.
    pub validation_batch_size: Option<u32>,
    /// The limit of gradients.
    pub clip: Option<Clip>,
    /// Seed of the initial weights, where it is another than that of the job.
    pub init_seed: Option<u64>,
    /// The way of training besides.
    pub recipe: Recipe,
}

impl Training {
    /// Its fields that may change when a job goes on.
    pub(super) const EDITABLE: [&str; 8] = [
        "epochs",
        "max_steps",
        "batch_size",
        "validation_batch_size",
        "gradient_clip_norm",
        "gradient_clip_value",
        "accumulate_steps",
        "restore_best",
    ];

    /// Reads the section of a spec, as far as it is right.
    pub(super) fn read(message: Option<&v1::Training>, has_validation: bool, wrong: &mut Violations) -> Self {
        let Some(message) = message else {
            wrong.add("training", "is missing; training.epochs or training.max_steps is needed");
            return Self {
                length: None,
                batch_size: 1,
                validation_batch_size: None,
                clip: None,
                init_seed: None,
                recipe: Recipe::default(),
            };
        };
        let mut fields = Fields::new("training", wrong);
        let v1::Training { length, batch_size, validation_batch_size, gradient_clip, init_seed, .. } = *message;
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
        let clip = gradient_clip.map(|clip| match clip {
            GradientClip::GradientClipNorm(norm) => Clip::Norm(fields.positive("gradient_clip_norm", norm)),
            GradientClip::GradientClipValue(value) => Clip::Value(fields.positive("gradient_clip_value", value)),
        });
        let recipe = Recipe::read(message, has_validation, &mut fields);
        recipe.judge_batch_size(batch_size, wrong);
        Self { length, batch_size, validation_batch_size, clip, init_seed, recipe }
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
            gradient_clip: self.clip.map(|clip| match clip {
                Clip::Norm(norm) => GradientClip::GradientClipNorm(norm),
                Clip::Value(value) => GradientClip::GradientClipValue(value),
            }),
            init_seed: self.init_seed,
            ..v1::Training::default()
        };
        self.recipe.write(&mut message);
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::json;

    /// The section, read and written again, or the first mistake.
    fn read(text: &str) -> Result<Training, String> {
        let mut wrong = Violations::default();
        let message: v1::Training = json::from_str(text).map_err(|error| error.to_string())?;
        let training = Training::read(Some(&message), true, &mut wrong);
        if !wrong.0.is_empty() {
            return Err(wrong.to_string());
        }
        assert_eq!(Training::read(Some(&training.to_proto()), true, &mut wrong), training);
        Ok(training)
    }

    #[test]
    fn gradients_are_clipped_by_norm_or_by_value() {
        let clip = |text: &str| read(&format!(r#"{{"epochs": 1{text}}}"#)).map(|training| training.clip);
        assert_eq!(clip(""), Ok(None));
        assert_eq!(clip(r#", "gradient_clip_norm": 0.5"#), Ok(Some(Clip::Norm(0.5))));
        assert_eq!(clip(r#", "gradient_clip_value": 0.5"#), Ok(Some(Clip::Value(0.5))));
        for (text, wrong) in [
            (r#", "gradient_clip_norm": 0"#, "training.gradient_clip_norm: is 0"),
            (r#", "gradient_clip_value": -1"#, "training.gradient_clip_value: is -1"),
            (r#", "gradient_clip_value": "NaN""#, "training.gradient_clip_value: is NaN"),
            (r#", "gradient_clip_norm": 1, "gradient_clip_value": 1"#, "gradient_clip"),
        ] {
            let told = clip(text).unwrap_err();
            assert!(told.contains(wrong), "{told}");
        }
    }
}
