//! Whether a spec fits its data, and how long it makes the training.

use super::{IdxPaths, Length, Model, Spec};
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

/// What of a spec depends on the data; None where it is not right by itself.
#[derive(Debug, Clone, Copy)]
pub struct Demands {
    /// The network.
    pub model: Option<Model>,
    /// How long to train.
    pub length: Option<Length>,
    /// Examples a step.
    pub batch_size: u32,
    /// Examples at a time in validation, if the client said.
    pub validation_batch_size: Option<u32>,
}

impl Demands {
    /// Adds what does not fit the sets that are known.
    pub fn judge(&self, train: Option<&Facts>, validation: Option<&Facts>, wrong: &mut Violations) {
        for (field, facts) in [("data.train", train), ("data.validation", validation)] {
            if let (Some(facts), Some(model)) = (facts, self.model) {
                judge_set(model, field, facts, wrong);
            }
        }
        if let Some(examples) = train.map(|set| set.examples) {
            let found = self.batch_size;
            if u64::from(found) > examples {
                wrong.add("training.batch_size", format!("is {found}, and the training set has {examples} examples"));
            }
            if self.length.is_some_and(|length| plan(length, found, examples).is_none()) {
                wrong.add("training", "makes more steps than can be counted");
            }
        }
        if let (Some(set), Some(size)) = (validation, self.validation_batch_size)
            && u64::from(size) > set.examples
        {
            wrong.add(
                "training.validation_batch_size",
                format!("is {size}, and the validation set has {} examples", set.examples),
            );
        }
    }
}

impl Spec {
    /// The spec with what only the data can tell filled in, or why it does not fit.
    pub fn fit(mut self, facts: &DataFacts) -> Result<Self, Violations> {
        let mut wrong = Violations::default();
        let demands = Demands {
            model: Some(self.model),
            length: Some(self.length),
            batch_size: self.batch_size,
            validation_batch_size: self.validation_batch_size,
        };
        demands.judge(Some(&facts.train), facts.validation.as_ref(), &mut wrong);
        if let (Some(set), None) = (facts.validation, self.validation_batch_size) {
            self.validation_batch_size = u32::try_from(set.examples.min(DEFAULT_VALIDATION_BATCH)).ok();
        }
        wrong.or(Some(self))
    }

    /// How long the job is on that many training examples; None where that cannot be counted.
    pub fn plan(&self, train_examples: u64) -> Option<Plan> {
        plan(self.length, self.batch_size, train_examples)
    }
}

fn plan(length: Length, batch_size: u32, train_examples: u64) -> Option<Plan> {
    let steps_per_epoch = train_examples.div_ceil(u64::from(batch_size)).max(1);
    let (total_steps, total_epochs) = match length {
        Length::Epochs(epochs) => (steps_per_epoch.checked_mul(u64::from(epochs))?, epochs),
        Length::Steps(steps) => (steps, u32::try_from(steps.div_ceil(steps_per_epoch)).ok()?),
    };
    // Event files count steps in 63 bits.
    i64::try_from(total_steps).ok()?;
    Some(Plan { steps_per_epoch, total_steps, total_epochs })
}

fn judge_set(model: Model, field: &str, facts: &Facts, wrong: &mut Violations) {
    let (height, width) = model.image_size();
    if (facts.height, facts.width) != (height, width) {
        let field = set_field(field, Part::Images);
        let found = format!("{}x{}", facts.height, facts.width);
        wrong.add(field, format!("holds images of {found}; {} takes {height}x{width}", model.name()));
    }
    let classes = model.classes();
    if let Some((label, place)) = facts.highest_label
        && label >= classes
    {
        let (name, last) = (model.name(), classes - 1);
        wrong.add(
            set_field(field, Part::Labels),
            format!("holds the label {label} at place {place}, counted from 0; {name} takes 0 to {last}"),
        );
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
            resources: Resources { device: Device::Auto, gpu_count: None, cpu_threads: None, gpu_memory_bytes: None },
            max_duration: None,
            labels: std::collections::BTreeMap::new(),
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
