//! The shares in which the examples of a training set are drawn, where they are not drawn once
//! each.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Access, Content, Facts, HostBatch, Problem, Rows, Source, draw};

/// The fields of a sampling, below `data`.
const SAMPLING: &str = "sampling";
const WEIGHTS: &str = "sampling.weights";
const BALANCE_CLASSES: &str = "sampling.balance_classes";

/// How often examples are drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Sampling {
    /// In proportion to the numbers of this array, one for each row.
    Weights(String),
    /// Every class equally often.
    BalanceClasses,
}

/// The chances of the examples of a set. They are drawn with replacement.
#[derive(Debug, PartialEq)]
pub struct Chances {
    /// The sum of the weights up to each example, up to the last one with a weight above 0.
    sums: Vec<f64>,
}

impl Sampling {
    /// The array of the weights.
    pub(super) fn array(&self) -> Option<&str> {
        match self {
            Self::Weights(name) => Some(name),
            Self::BalanceClasses => None,
        }
    }

    /// The chances of the examples of these rows; None where a large file was judged without its
    /// values.
    ///
    /// # Errors
    /// The field that cannot be met, and why.
    pub(super) fn chances(&self, content: &dyn Content, rows: &Rows) -> Result<Option<Chances>, Problem> {
        if u32::try_from(rows.count()).is_err() {
            let what = format!("is set, and there are {} examples; {} at most can be drawn", rows.count(), u32::MAX);
            return Err(Problem::of_field(SAMPLING, what));
        }
        match self {
            Self::Weights(name) => {
                let told = |what| Problem::of_field(WEIGHTS, format!("is {name:?}, and {what}"));
                let Some(weights) = content.weights().map_err(told)? else { return Ok(None) };
                let weighed = || rows.iter().filter_map(|row| Some((row, *weights.get(usize::try_from(row).ok()?)?)));
                // The rows of a sample that were not read may weigh more.
                if content.estimate().is_some() && weighed().all(|(_, weight)| weight == 0.0) {
                    return Ok(None);
                }
                Chances::of(weighed()).map(Some).map_err(told)
            }
            Self::BalanceClasses => {
                let told = |what| Problem::of_field(BALANCE_CLASSES, what);
                let classes = content.strata().map_err(|problem| problem.at(BALANCE_CLASSES))?;
                if classes.is_empty() {
                    return Ok(None);
                }
                let class = |row: u64| usize::try_from(row).ok().and_then(|row| classes.get(row).copied());
                let mut counts = BTreeMap::<u32, u64>::new();
                for class in rows.iter().filter_map(class) {
                    *counts.entry(class).or_default() += 1;
                }
                let weight = |row| Some((row, 1.0 / *counts.get(&class(row)?)? as f64));
                Chances::of(rows.iter().filter_map(weight)).map(Some).map_err(told)
            }
        }
    }
}

impl Chances {
    /// The chances of examples with these weights, each with its row.
    fn of(weights: impl Iterator<Item = (u64, f64)>) -> Result<Self, String> {
        let (mut sum, mut sums, mut last) = (0.0, Vec::new(), 0);
        for (row, weight) in weights {
            if !weight.is_finite() || weight < 0.0 {
                let right = "each weight is a finite number of at least 0";
                return Err(format!("it holds {weight} for the example {row}, counted from 0; {right}"));
            }
            sum += weight;
            sums.push(sum);
            if weight > 0.0 {
                last = sums.len();
            }
        }
        if last == 0 {
            return Err("no training example has a weight above 0, so that none can be drawn".into());
        }
        if !sum.is_finite() {
            return Err("the sum of the weights is no finite number; divide them by the largest".into());
        }
        sums.truncate(last);
        Ok(Self { sums })
    }

    /// So many examples, drawn in turn.
    pub fn draw(&self, count: u64, seed: u64) -> Vec<u32> {
        let total = self.sums.last().copied().unwrap_or_default();
        let example = |bits: u64| {
            // 53 bits are a number of at least 0 and below 1.
            let at = (bits >> 11) as f64 / (1u64 << 53) as f64 * total;
            self.sums.partition_point(|sum| *sum <= at).min(self.sums.len() - 1) as u32
        };
        (0..count).zip(draw::numbers(seed)).map(|(_, bits)| example(bits)).collect()
    }
}

/// The problem of a sampling of examples that are read in shards.
pub(super) fn of_shards() -> Problem {
    let what = "is set, and the examples are read in shards, many of which a draw would need at once; leave it out, or \
                use a set that fits into memory";
    Problem::of_field(SAMPLING, what.into())
}

/// A set whose examples have chances.
pub(super) struct Sampled {
    source: Box<dyn Source>,
    chances: Arc<Chances>,
}

impl Sampled {
    /// The set with these chances, whose examples are not read in shards.
    pub(super) fn new(source: Box<dyn Source>, chances: Chances) -> Self {
        Self { source, chances: Arc::new(chances) }
    }
}

impl Source for Sampled {
    fn facts(&self) -> &Facts {
        self.source.facts()
    }

    fn ahead_bytes(&self) -> Option<u64> {
        self.source.ahead_bytes()
    }

    fn access(&self) -> Access<'_> {
        self.source.access()
    }

    fn name(&self, place: u64) -> Option<&str> {
        self.source.name(place)
    }

    fn chances(&self) -> Option<&Arc<Chances>> {
        Some(&self.chances)
    }

    fn fill(&self, places: &[u64], into: &mut HostBatch) -> Result<(), Problem> {
        self.source.fill(places, into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chances(weights: &[f64]) -> Result<Chances, String> {
        Chances::of((0..).zip(weights.iter().copied()))
    }

    #[test]
    fn examples_are_drawn_in_proportion_to_their_weights() {
        let weights = [0.0, 1.0, 0.0, 0.5, 2.5, 0.0, 0.0];
        let drawn = chances(&weights).unwrap().draw(40_000, 3);
        for (example, weight) in weights.iter().enumerate() {
            let share = drawn.iter().filter(|found| **found == example as u32).count() as f64 / 40_000.0;
            assert!((share - weight / 4.0).abs() < 0.01, "{example}: {share}");
            assert!(*weight > 0.0 || share == 0.0);
        }
        assert_eq!(drawn[..100], chances(&weights).unwrap().draw(100, 3));
        assert_ne!(drawn[..100], chances(&weights).unwrap().draw(100, 4));
    }

    #[test]
    fn weights_that_are_none_are_told() {
        for (weights, words) in [
            (&[1.0, -0.5][..], "it holds -0.5 for the example 1, counted from 0"),
            (&[f64::NAN], "it holds NaN for the example 0"),
            (&[1.0, 2.0, f64::INFINITY], "it holds inf for the example 2"),
            (&[0.0, 0.0], "no training example has a weight above 0"),
            (&[f64::MAX, f64::MAX], "the sum of the weights is no finite number"),
        ] {
            let told = chances(weights).unwrap_err();
            assert!(told.starts_with(words), "{told}");
        }
    }
}
