//! Whether a spec fits its data, and how long it makes the training.

use super::{IdxPaths, Length, Spec};
use crate::dataset::{Facts, Part};
use crate::job::Violations;

/// What the data files hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataFacts {
    /// The training set.
    pub train: Facts,
    /// The validation set.
    pub validation: Option<Facts>,
}

/// How long a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Optimizer steps in an epoch; the last batch may be smaller.
    pub steps_per_epoch: u64,
    /// Optimizer steps in all.
    pub total_steps: u64,
    /// Epochs in all; the last may be a part of one.
    pub total_epochs: u32,
}

/// Validation batches are no larger than this by default.
const DEFAULT_VALIDATION_BATCH: u64 = 1000;

impl Spec {
    /// The spec with what only the data can tell filled in, or why it does not fit.
    pub fn fit(mut self, facts: &DataFacts) -> Result<Self, Violations> {
        let mut wrong = Violations::default();
        self.judge_set("data.train", &facts.train, &mut wrong);
        if let Some(validation) = &facts.validation {
            self.judge_set("data.validation", validation, &mut wrong);
        }
        let train = facts.train.examples;
        if u64::from(self.batch_size) > train {
            let found = self.batch_size;
            wrong.add("training.batch_size", format!("is {found}, and the training set has {train} examples"));
        }
        match (facts.validation, self.validation_batch_size) {
            (Some(set), Some(size)) if u64::from(size) > set.examples => wrong.add(
                "training.validation_batch_size",
                format!("is {size}, and the validation set has {} examples", set.examples),
            ),
            (Some(set), None) => {
                self.validation_batch_size = u32::try_from(set.examples.min(DEFAULT_VALIDATION_BATCH)).ok();
            }
            _ => {}
        }
        if self.plan(train).is_none() {
            wrong.add("training", "makes more steps than can be counted");
        }
        wrong.or(Some(self))
    }

    fn judge_set(&self, field: &str, facts: &Facts, wrong: &mut Violations) {
        let (height, width) = self.model.image_size();
        if (facts.height, facts.width) != (height, width) {
            let field = set_field(field, Part::Images);
            let found = format!("{}x{}", facts.height, facts.width);
            wrong.add(field, format!("holds images of {found}; {} takes {height}x{width}", self.model.name()));
        }
        let classes = self.model.classes();
        if let Some((label, place)) = facts.highest_label
            && label >= classes
        {
            wrong.add(
                set_field(field, Part::Labels),
                format!(
                    "holds the label {label} at place {place}, counted from 0; {} takes 0 to {}",
                    self.model.name(),
                    classes - 1
                ),
            );
        }
    }

    /// How long the job is on that many training examples; None where that cannot be counted.
    pub fn plan(&self, train_examples: u64) -> Option<Plan> {
        let steps_per_epoch = train_examples.div_ceil(u64::from(self.batch_size)).max(1);
        let (total_steps, total_epochs) = match self.length {
            Length::Epochs(epochs) => (steps_per_epoch.checked_mul(u64::from(epochs))?, epochs),
            Length::Steps(steps) => (steps, u32::try_from(steps.div_ceil(steps_per_epoch)).ok()?),
        };
        // Event files count steps in 63 bits.
        i64::try_from(total_steps).ok()?;
        Some(Plan { steps_per_epoch, total_steps, total_epochs })
    }
}

/// The path of one of a set's files in a spec.
pub fn set_field(set: &str, part: Part) -> String {
    match part {
        Part::Images => format!("{set}.idx.images"),
        Part::Labels => format!("{set}.idx.labels"),
    }
}

impl IdxPaths {
    /// The path of that file.
    pub fn of(&self, part: Part) -> &str {
        match part {
            Part::Images => &self.images,
            Part::Labels => &self.labels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Data, Device, Model, Optimizer, Resources};
    use super::*;

    fn spec() -> Spec {
        let paths = IdxPaths { images: "i".into(), labels: "l".into() };
        Spec {
            display_name: "a".into(),
            seed: 1,
            model: Model::MnistCnn { dropout: 0.5 },
            data: Data { train: paths.clone(), validation: Some(paths), mean: 0.0, std: 1.0, shuffle: true },
            length: Length::Epochs(10),
            batch_size: 64,
            validation_batch_size: None,
            optimizer: Optimizer::Sgd { learning_rate: 0.01, momentum: 0.5 },
            checkpoint_every_epochs: 1,
            scalar_every_steps: 10,
            resources: Resources { device: Device::Auto, gpu_count: None, cpu_threads: None },
        }
    }

    fn facts(examples: u64) -> Facts {
        Facts { examples, height: 28, width: 28, highest_label: Some((9, 0)) }
    }

    #[test]
    fn the_last_batch_of_an_epoch_may_be_smaller() {
        assert_eq!(spec().plan(4000), Some(Plan { steps_per_epoch: 63, total_steps: 630, total_epochs: 10 }));
        let steps = Spec { length: Length::Steps(64), ..spec() };
        assert_eq!(steps.plan(4000), Some(Plan { steps_per_epoch: 63, total_steps: 64, total_epochs: 2 }));
        assert_eq!(Spec { length: Length::Steps(u64::MAX), ..spec() }.plan(4000), None);
    }

    #[test]
    fn the_validation_batch_is_no_larger_than_its_set() {
        let small = DataFacts { train: facts(4000), validation: Some(facts(500)) };
        assert_eq!(spec().fit(&small).unwrap().validation_batch_size, Some(500));
        let large = DataFacts { train: facts(4000), validation: Some(facts(5000)) };
        assert_eq!(spec().fit(&large).unwrap().validation_batch_size, Some(1000));
    }

    #[test]
    fn data_that_the_model_cannot_take_is_named() {
        let odd = Facts { width: 27, highest_label: Some((10, 3)), ..facts(32) };
        let wrong = spec().fit(&DataFacts { train: odd, validation: None }).unwrap_err();
        let fields: Vec<_> = wrong.0.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["data.train.idx.images", "data.train.idx.labels", "training.batch_size"]);
    }
}
