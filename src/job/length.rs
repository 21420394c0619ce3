//! How long a job is, and where training stands in it.

/// How long to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Passes over the training set.
    Epochs(u32),
    /// Optimizer steps.
    Steps(u64),
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

impl Length {
    /// How long a job is with batches of that size on that many training examples, from `place` on;
    /// None where that cannot be counted.
    pub fn plan(self, batch_size: u32, train_examples: u64, place: Place) -> Option<Plan> {
        let steps = |examples: u64| examples.div_ceil(u64::from(batch_size));
        let steps_per_epoch = steps(train_examples).max(1);
        let left_in_epoch = steps(train_examples.saturating_sub(place.examples)).max(1);
        let (total_steps, total_epochs) = match self {
            Self::Epochs(epochs) => {
                let left = match u64::from(epochs).checked_sub(place.epoch) {
                    None | Some(0) => 0,
                    Some(epochs) => steps_per_epoch.checked_mul(epochs - 1)?.checked_add(left_in_epoch)?,
                };
                (place.step.checked_add(left)?, epochs)
            }
            Self::Steps(total) => {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_batch_of_an_epoch_may_be_smaller() {
        let plan =
            |length: Length| length.plan(64, 4000, Place::default()).map(|plan| (plan.total_steps, plan.total_epochs));
        assert_eq!(plan(Length::Epochs(10)), Some((630, 10)));
        assert_eq!(plan(Length::Steps(64)), Some((64, 2)));
        assert_eq!(plan(Length::Steps(u64::MAX)), None);
    }

    #[test]
    fn a_resumed_job_is_as_long_as_one_that_was_never_stopped_and_other_batches_change_the_rest() {
        let (steps, epochs) = (Length::Steps(640), Length::Epochs(10));
        for place in [
            Place { step: 1, epoch: 0, examples: 64 },
            Place { step: 62, epoch: 0, examples: 62 * 64 },
            Place { step: 63, epoch: 1, examples: 0 },
            Place { step: 640, epoch: 10, examples: 640 },
        ] {
            let plan = steps.plan(64, 4000, place).unwrap();
            assert_eq!((plan.total_steps, plan.total_epochs), (640, 11), "{place:?}");
            let plan = epochs.plan(64, 4000, place).unwrap();
            assert_eq!((plan.total_steps, plan.total_epochs), (place.step.max(630), 10), "{place:?}");
        }
        let plan = epochs.plan(128, 4000, Place { step: 63 + 10, epoch: 1, examples: 640 }).unwrap();
        // 3360 examples are left of the second epoch, and eight epochs of 32 steps follow.
        assert_eq!((plan.left_in_epoch, plan.total_steps), (27, 73 + 27 + 8 * 32));
    }
}
