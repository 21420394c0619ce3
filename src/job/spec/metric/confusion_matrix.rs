//! How many targets of each class were taken for which: a file beside the results, and no scalar.

use super::{Better, Measure, Named, Sum, needs};
use crate::job::spec::loss::Answer;

/// It has no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfusionMatrix;

/// The most classes: the matrix has as many rows and as many columns.
const MOST_CLASSES: u64 = 1000;

impl Named for ConfusionMatrix {
    const NAMES: &[&str] = &["confusion_matrix"];

    fn parse(name: &str) -> Option<Self> {
        (name == "confusion_matrix").then_some(Self)
    }
}

impl Measure for ConfusionMatrix {
    fn name(&self) -> String {
        "confusion_matrix".into()
    }

    fn better(&self) -> Option<Better> {
        None
    }

    fn fits(&self, answer: Answer) -> Result<(), String> {
        match answer {
            Answer::Class(..=MOST_CLASSES) | Answer::Labels(1) => Ok(()),
            Answer::Class(count) => Err(format!("has {count} classes; {MOST_CLASSES} at most can be told")),
            Answer::Labels(count) => Err(format!("needs classes or one label, and the target has {count} labels")),
            Answer::Numbers(_) | Answer::Shares => needs("classes or one label", answer),
        }
    }

    fn sums(&self, _: Answer) -> Vec<Sum> {
        Vec::new()
    }

    fn is_of_validation_alone(&self) -> bool {
        true
    }
}
