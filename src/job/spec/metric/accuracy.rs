//! The share of classes that have the highest score, or of labels that are told rightly by theirs.

use super::{Better, Measure, Named, Sum, needs};
use crate::job::spec::loss::Answer;

/// It has no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accuracy;

impl Named for Accuracy {
    const NAMES: &[&str] = &["accuracy"];

    fn parse(name: &str) -> Option<Self> {
        (name == "accuracy").then_some(Self)
    }
}

impl Measure for Accuracy {
    fn name(&self) -> String {
        "accuracy".into()
    }

    fn better(&self) -> Option<Better> {
        Some(Better::Higher)
    }

    fn fits(&self, answer: Answer) -> Result<(), String> {
        match answer {
            Answer::Class(_) | Answer::Labels(_) => Ok(()),
            Answer::Numbers(_) | Answer::Shares => needs("classes or labels", answer),
        }
    }

    fn sums(&self, _: Answer) -> Vec<Sum> {
        vec![Sum::one("sums.correct"), Sum { can_be_absent: true, ..Sum::one("sums.labels") }]
    }
}
