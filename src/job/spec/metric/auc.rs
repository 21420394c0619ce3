//! The area under the receiver operating characteristic: the probability that what holds has a
//! higher score than what does not, where equal scores count half, as scikit-learn's roc_auc_score.

use super::{Better, Measure, Named, Sum, needs};
use crate::job::spec::loss::Answer;

/// It has no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Auc;

/// The most targets of a validation set: their scores are kept until the last is known.
const MOST_TARGETS: u64 = 100_000_000;
/// Bytes for each: a score of 64 bits in a list that has grown to twice its size, and the list
/// that it grew out of.
const BYTES_PER_TARGET: u64 = 24;

impl Named for Auc {
    const NAMES: &[&str] = &["auc"];

    fn parse(name: &str) -> Option<Self> {
        (name == "auc").then_some(Self)
    }
}

impl Measure for Auc {
    fn name(&self) -> String {
        "auc".into()
    }

    fn better(&self) -> Option<Better> {
        Some(Better::Higher)
    }

    fn fits(&self, answer: Answer) -> Result<(), String> {
        match answer {
            Answer::Class(2) | Answer::Labels(1) => Ok(()),
            Answer::Class(count) => Err(format!("needs two classes or one label, and the model tells {count} apart")),
            Answer::Labels(count) => Err(format!("needs two classes or one label, and the target has {count} labels")),
            Answer::Numbers(_) | Answer::Shares => needs("two classes or one label", answer),
        }
    }

    fn sums(&self, _: Answer) -> Vec<Sum> {
        Vec::new()
    }

    fn is_of_validation_alone(&self) -> bool {
        true
    }

    fn most_targets(&self) -> Option<u64> {
        Some(MOST_TARGETS)
    }

    fn bytes(&self, targets: u64) -> u64 {
        targets.saturating_mul(BYTES_PER_TARGET)
    }
}
