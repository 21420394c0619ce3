//! Which checkpoints are saved and kept.

use super::Violations;
use super::spec::Metric;
use super::spec::metric::Better;
use super::spec::section::Fields;
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
            name => Metric::parse(name).and_then(Self::of_metric),
        }
    }

    /// Reads the tag in a field; None also where it is left out.
    pub fn read(field: &str, tag: &str, fields: &mut Fields<'_>) -> Option<Self> {
        let found = Self::parse(tag);
        if found.is_none() && !tag.is_empty() {
            fields.wrong(field, format!("is {tag:?}, {}", Self::unknown(tag)));
        }
        found
    }

    /// The one that a job with these metrics goes by: the first that is a scalar, or else the loss.
    pub fn of(metrics: &[Metric]) -> Self {
        metrics.iter().copied().find_map(Self::of_metric).unwrap_or(Self::Loss)
    }

    /// The quantity that a metric is; None for one that is no scalar.
    pub fn of_metric(metric: Metric) -> Option<Self> {
        metric.better().map(|_| Self::Metric(metric))
    }

    /// Why a tag is none that checkpoints can be compared by, in words that follow it.
    fn unknown(tag: &str) -> String {
        let right = "where loss/validation is right, or that of a metric such as accuracy/validation";
        match tag.strip_suffix("/validation") {
            Some(name) if Metric::parse(name).is_some() => format!("which is no scalar, {right}"),
            Some(name) => Metric::unknown(name),
            None => right.into(),
        }
    }

    /// The tag of its scalars.
    pub fn tag(self) -> String {
        match &self {
            Self::Loss => "loss/validation".into(),
            Self::Metric(metric) => format!("{}/validation", metric.name()),
        }
    }

    /// Which values are better; None where none is.
    pub fn better(self) -> Option<Better> {
        match self {
            Self::Loss => Some(Better::Lower),
            Self::Metric(metric) => metric.better(),
        }
    }

    /// Whether a value is better than another. NaN is worse than every number.
    pub fn is_better(self, value: f64, than: f64) -> bool {
        self.improves(value, than, 0.0)
    }

    /// Whether a value is better than another by more than so much.
    pub fn improves(self, value: f64, than: f64, by: f64) -> bool {
        match self.better() {
            _ if than.is_nan() => !value.is_nan(),
            Some(Better::Higher) => value > than + by,
            Some(Better::Lower) => value < than - by,
            None => false,
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
            let found = Quantity::read("metric", metric, &mut Fields::new("checkpoint.keep_best", wrong));
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

    /// Keeps the best, if nothing is said about them.
    pub fn keep_best(&mut self) {
        self.keep_best.get_or_insert(KeepBest { count: 1, by: None });
    }

    /// Fills in what the best are compared by, where the client did not say, for a job with these
    /// metrics.
    pub fn complete(&mut self, metrics: &[Metric]) {
        if let Some(best) = &mut self.keep_best {
            best.by = best.by.or(Some(Quantity::of(metrics)));
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

    #[test]
    fn the_best_are_told_by_a_scalar() {
        let read = |metric: &str| {
            let keep_best = Some(v1::KeepBest { metric: metric.into(), ..v1::KeepBest::default() });
            let mut wrong = Violations::default();
            let read =
                Checkpoints::read(Some(&v1::Checkpoint { keep_best, ..v1::Checkpoint::default() }), true, &mut wrong);
            (read, wrong.0.into_iter().map(|wrong| wrong.description).collect::<Vec<_>>())
        };
        for tag in ["loss/validation", "top_5/validation", "f1_macro/validation", "auc/validation"] {
            let (checkpoints, wrong) = read(tag);
            assert!(wrong.is_empty(), "{wrong:?}");
            assert_eq!(checkpoints.to_proto().keep_best.unwrap().metric, tag);
        }
        for (tag, words) in [
            ("confusion_matrix/validation", "which is no scalar, where loss/validation is right"),
            ("top_1/validation", "the nearest is top_<k>"),
            ("accuracy", "is \"accuracy\", where loss/validation is right"),
            ("accuracy/train", "or that of a metric such as accuracy/validation"),
        ] {
            let (_, wrong) = read(tag);
            assert!(wrong.len() == 1 && wrong[0].contains(words), "{tag}: {wrong:?}");
        }
        let metrics = |names: &[&str]| names.iter().map(|name| Metric::parse(name).unwrap()).collect::<Vec<_>>();
        for (names, tag) in [
            (&["confusion_matrix", "auc", "accuracy"][..], "auc/validation"),
            (&["confusion_matrix"], "loss/validation"),
            (&[], "loss/validation"),
        ] {
            let (mut checkpoints, _) = read("");
            checkpoints.complete(&metrics(names));
            assert_eq!(checkpoints.to_proto().keep_best.unwrap().metric, tag);
        }
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
