//! Which checkpoints are saved and kept.

use super::Violations;
use super::spec::Metric;
use super::spec::metric::Better;
use crate::proto::v1;

/// When checkpoints are saved, and how many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoints {
    /// Epochs from one to the next.
    pub every_epochs: u32,
    /// Optimizer steps from one to the next, if that is wanted too.
    pub every_steps: Option<u64>,
    /// So many of the newest are kept ...
    pub keep_latest: u32,
    /// ... and the best.
    pub keep_best: Option<KeepBest>,
}

/// Which are the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepBest {
    /// How many.
    pub count: u32,
    /// The quantity that they are compared by; None until the metrics of the job are known.
    pub by: Option<Quantity>,
}

/// A quantity that checkpoints are compared by, over the validation set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// The loss.
    Loss,
    /// A metric.
    Metric(Metric),
}

/// A checkpoint on disk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kept {
    /// Optimizer steps done.
    pub step: u64,
    /// The value of the metric that ranks it; None where it was saved without validation.
    pub value: Option<f64>,
}

impl Quantity {
    /// The quantity whose scalars have that tag.
    pub fn parse(tag: &str) -> Option<Self> {
        match tag.strip_suffix("/validation")? {
            "loss" => Some(Self::Loss),
            name => Metric::parse(name).map(Self::Metric),
        }
    }

    /// The tags that are right, in words.
    pub fn tags() -> String {
        let names = ["loss"].into_iter().chain(Metric::names());
        names.map(|name| format!("{name}/validation")).collect::<Vec<_>>().join(" or ")
    }

    /// The tag of its scalars.
    pub fn tag(self) -> String {
        match &self {
            Self::Loss => "loss/validation".into(),
            Self::Metric(metric) => format!("{}/validation", metric.name()),
        }
    }

    /// Which values are better.
    pub fn better(self) -> Better {
        match self {
            Self::Loss => Better::Lower,
            Self::Metric(metric) => metric.better(),
        }
    }

    /// Whether a value is better than another. NaN is worse than every number.
    fn is_better(self, value: f64, than: f64) -> bool {
        match self.better() {
            _ if than.is_nan() => !value.is_nan(),
            Better::Higher => value > than,
            Better::Lower => value < than,
        }
    }
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self { every_epochs: 1, every_steps: None, keep_latest: 3, keep_best: None }
    }
}

impl Checkpoints {
    /// The steps of those that are not kept. The newest always is; of equally good ones the
    /// earliest counts.
    pub fn to_remove(&self, present: &[Kept]) -> Vec<u64> {
        let mut newest_first = present.to_vec();
        newest_first.sort_by_key(|kept| std::cmp::Reverse(kept.step));
        let mut keep: Vec<u64> =
            newest_first.iter().take(self.keep_latest.max(1) as usize).map(|kept| kept.step).collect();
        if let Some(KeepBest { count, by: Some(quantity) }) = self.keep_best {
            let mut best_first: Vec<(u64, f64)> =
                newest_first.iter().rev().filter_map(|kept| Some((kept.step, kept.value?))).collect();
            // Stable: earlier steps stay before later ones that are as good.
            best_first.sort_by(|one, other| {
                match (quantity.is_better(one.1, other.1), quantity.is_better(other.1, one.1)) {
                    (true, _) => std::cmp::Ordering::Less,
                    (_, true) => std::cmp::Ordering::Greater,
                    (false, false) => std::cmp::Ordering::Equal,
                }
            });
            keep.extend(best_first.into_iter().take(count as usize).map(|(step, _)| step));
        }
        newest_first.into_iter().map(|kept| kept.step).filter(|step| !keep.contains(step)).collect()
    }

    /// From the message of a client.
    pub fn read(message: Option<&v1::Checkpoint>, has_validation: bool, wrong: &mut Violations) -> Self {
        let Some(v1::Checkpoint { every_epochs, every_steps, keep_latest, keep_best }) = message else {
            return Self::default();
        };
        let default = Self::default();
        let zeros = [
            ("checkpoint.every_epochs", *every_epochs == Some(0)),
            ("checkpoint.every_steps", *every_steps == Some(0)),
            ("checkpoint.keep_latest", *keep_latest == Some(0)),
            ("checkpoint.keep_best.count", keep_best.as_ref().is_some_and(|best| best.count == Some(0))),
        ];
        for (field, _) in zeros.into_iter().filter(|(_, is_zero)| *is_zero) {
            wrong.add(field, "is 0; at least 1 is needed");
        }
        let best = keep_best.as_ref().map(|v1::KeepBest { count, metric }| {
            let found = Quantity::parse(metric);
            if found.is_none() && !metric.is_empty() {
                wrong.add("checkpoint.keep_best.metric", format!("is {metric:?}; {} is right", Quantity::tags()));
            }
            if !has_validation {
                wrong.add("checkpoint.keep_best", "needs data.validation to tell which checkpoints are the best");
            }
            KeepBest { count: count.unwrap_or(1), by: found }
        });
        Self {
            every_epochs: every_epochs.unwrap_or(default.every_epochs).max(1),
            every_steps: every_steps.map(|steps| steps.max(1)),
            keep_latest: keep_latest.unwrap_or(default.keep_latest).max(1),
            keep_best: best,
        }
    }

    /// The message that it was read from, every default filled in.
    pub fn to_proto(&self) -> v1::Checkpoint {
        v1::Checkpoint {
            every_epochs: Some(self.every_epochs),
            every_steps: self.every_steps,
            keep_latest: Some(self.keep_latest),
            keep_best: self.keep_best.map(|KeepBest { count, by }| v1::KeepBest {
                count: Some(count),
                metric: by.map(Quantity::tag).unwrap_or_default(),
            }),
        }
    }

    /// Fills in what the best are compared by, where the client did not say. `metric` is the first
    /// of the job.
    pub fn complete(&mut self, metric: Option<Metric>) {
        if let Some(best) = &mut self.keep_best {
            best.by = best.by.or(Some(metric.map_or(Quantity::Loss, Quantity::Metric)));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::spec::metric::Accuracy;
    use super::*;

    fn policy(keep_latest: u32, best: Option<(u32, Quantity)>) -> Checkpoints {
        let keep_best = best.map(|(count, by)| KeepBest { count, by: Some(by) });
        Checkpoints { keep_latest, keep_best, ..Checkpoints::default() }
    }

    fn kept(values: &[(u64, f64)]) -> Vec<Kept> {
        values.iter().map(|&(step, value)| Kept { step, value: Some(value) }).collect()
    }

    #[test]
    fn the_newest_and_the_best_stay() {
        let present = kept(&[(10, 0.9), (20, 0.7), (30, 0.95), (40, 0.8), (50, 0.6)]);
        assert_eq!(policy(2, None).to_remove(&present), [30, 20, 10]);
        assert_eq!(policy(1, Some((2, Quantity::Metric(Metric::Accuracy(Accuracy))))).to_remove(&present), [40, 20]);
        assert_eq!(policy(1, Some((1, Quantity::Loss))).to_remove(&present), [40, 30, 20, 10]);
        let odd = kept(&[(1, f64::NAN), (2, 0.5), (3, 0.5), (4, f64::NAN)]);
        assert_eq!(policy(1, Some((1, Quantity::Loss))).to_remove(&odd), [3, 1]);
    }

    proptest! {
        #[test]
        fn the_newest_always_stays_and_never_more_than_asked_for(
            values in prop::collection::vec((0u64..1000, prop::option::of(any::<f64>())), 1..30), latest in 1u32..5, best in prop::option::of(1u32..4),
        ) {
            let mut present: Vec<Kept> = values.into_iter().map(|(step, value)| Kept { step, value }).collect();
            present.sort_by_key(|kept| kept.step);
            present.dedup_by_key(|kept| kept.step);
            let policy = policy(latest, best.map(|count| (count, Quantity::Metric(Metric::Accuracy(Accuracy)))));
            let removed = policy.to_remove(&present);
            let stays: Vec<_> = present.iter().filter(|kept| !removed.contains(&kept.step)).collect();
            prop_assert!(stays.iter().any(|kept| kept.step == present.last().unwrap().step));
            prop_assert!(stays.len() <= (latest + best.unwrap_or(0)) as usize);
            prop_assert!(stays.len() >= present.len().min(latest as usize));
            let top = present.iter().filter_map(|kept| kept.value).filter(|value| !value.is_nan()).fold(f64::NEG_INFINITY, f64::max);
            if best.is_some() && top > f64::NEG_INFINITY {
                prop_assert!(stays.iter().any(|kept| kept.value == Some(top)));
            }
        }
    }
}
