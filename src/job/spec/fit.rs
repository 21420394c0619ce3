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

/// Where training stands in its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Optimizer steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: u64,
    /// Examples used of the epoch in hand.
    pub examples: u64,
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
    /// Optimizer steps that are left of the epoch in hand.
    pub left_in_epoch: u64,
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
            if self.length.is_some_and(|length| plan(length, found, examples, Place::default()).is_none()) {
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

    /// How long the job is on that many training examples from `place` on; None where that cannot
    /// be counted.
    pub fn plan(&self, train_examples: u64, place: Place) -> Option<Plan> {
        plan(self.length, self.batch_size, train_examples, place)
    }
}

fn plan(length: Length, batch_size: u32, train_examples: u64, place: Place) -> Option<Plan> {
    let steps = |examples: u64| examples.div_ceil(u64::from(batch_size));
    let steps_per_epoch = steps(train_examples).max(1);
    let left_in_epoch = steps(train_examples.saturating_sub(place.examples)).max(1);
    let (total_steps, total_epochs) = match length {
        Length::Epochs(epochs) => {
            let left = match u64::from(epochs).checked_sub(place.epoch) {
                None | Some(0) => 0,
                Some(epochs) => steps_per_epoch.checked_mul(epochs - 1)?.checked_add(left_in_epoch)?,
            };
            (place.step.checked_add(left)?, epochs)
        }
        Length::Steps(total) => {
            let after_this_epoch = total.saturating_sub(place.step).saturating_sub(left_in_epoch);
            let begun = u64::from(total > place.step || place.examples > 0);
            let epochs = place.epoch.checked_add(begun)?.checked_add(after_this_epoch.div_ceil(steps_per_epoch))?;
            (total.max(place.step), u32::try_from(epochs).ok()?)
        }
    };
    // Event files count steps in 63 bits.
    i64::try_from(total_steps).ok()?;
    Some(Plan { steps_per_epoch, total_steps, total_epochs, left_in_epoch })
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
        let from_one = if facts.lowest_label == Some(1) {
            "; the lowest is 1: labels count from 0, so subtract 1 where yours count from 1"
        } else {
            ""
        };
        wrong.add(
            set_field(field, Part::Labels),
            format!("holds the label {label} at place {place}, counted from 0; {name} takes 0 to {last}{from_one}"),
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
            checkpoints: Default::default(),
            retry: Default::default(),
            priority: 0,
            ttl_after_end: None,
            warm_start: None,
            mirror: None,
            pauses_on_storage_failure: true,
            scalar_every_steps: 10,
            resources: Resources { device: Device::Auto, gpu_count: None, cpu_threads: None, gpu_memory_bytes: None },
            max_duration: None,
            labels: std::collections::BTreeMap::new(),
        }
    }

    fn facts(examples: u64) -> Facts {
        Facts {
            examples,
            height: 28,
            width: 28,
            highest_label: Some((9, 0)),
            lowest_label: Some(0),
            images_bytes: 0,
            labels_bytes: 0,
        }
    }

    #[test]
    fn the_last_batch_of_an_epoch_may_be_smaller() {
        let plan = |spec: &Spec, place| spec.plan(4000, place).map(|plan| (plan.total_steps, plan.total_epochs));
        let anew = Place::default();
        assert_eq!(plan(&spec(), anew), Some((630, 10)));
        let steps = Spec { length: Length::Steps(64), ..spec() };
        assert_eq!(plan(&steps, anew), Some((64, 2)));
        assert_eq!(plan(&Spec { length: Length::Steps(u64::MAX), ..spec() }, anew), None);
    }

    #[test]
    fn a_resumed_job_is_as_long_as_one_that_was_never_stopped_and_other_batches_change_what_is_left() {
        let (steps, epochs) = (Spec { length: Length::Steps(640), ..spec() }, spec());
        for place in [
            Place { step: 1, epoch: 0, examples: 64 },
            Place { step: 62, epoch: 0, examples: 62 * 64 },
            Place { step: 63, epoch: 1, examples: 0 },
            Place { step: 640, epoch: 10, examples: 640 },
        ] {
            let plan = steps.plan(4000, place).unwrap();
            assert_eq!((plan.total_steps, plan.total_epochs), (640, 11), "{place:?}");
            let plan = epochs.plan(4000, place).unwrap();
            assert_eq!((plan.total_steps, plan.total_epochs), (place.step.max(630), 10), "{place:?}");
        }
        let larger = Spec { batch_size: 128, ..spec() };
        let plan = larger.plan(4000, Place { step: 63 + 10, epoch: 1, examples: 640 }).unwrap();
        // 3360 examples are left of the second epoch, and eight epochs of 32 steps follow.
        assert_eq!((plan.left_in_epoch, plan.total_steps), (27, 73 + 27 + 8 * 32));
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
        let letters = Facts { highest_label: Some((26, 25)), lowest_label: Some(1), ..facts(400) };
        let wrong = spec().fit(&DataFacts { train: letters, validation: None }).unwrap_err();
        assert!(wrong.0[0].description.contains("subtract 1"), "{wrong}");
    }
}
