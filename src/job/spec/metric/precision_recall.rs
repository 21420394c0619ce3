//! Precision, recall and F1, of each class or label and averaged, as scikit-learn has them.
//!
//! A share of nothing is 0: the precision of a class that no answer names, the recall of one that
//! no target has. A class that neither has is left out of the mean over classes, and no label is
//! left out of the mean over labels.

use super::{Better, Measure, Named, Sum, needs};
use crate::job::spec::loss::Answer;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrecisionRecall {
    /// The quantity.
    pub quality: Quality,
    /// The way to one number.
    pub average: Average,
}

/// A quantity of a class or a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// The share of the answers that are right.
    Precision,
    /// The share of the targets that are found.
    Recall,
    /// The harmonic mean of both.
    F1,
}

/// The way from classes or labels to one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Average {
    /// The mean over classes or labels.
    Macro,
    /// That of all answers and targets together.
    Micro,
}

/// All, in the order of their names.
const ALL: [(&str, Quality, Average); 6] = [
    ("precision_macro", Quality::Precision, Average::Macro),
    ("precision_micro", Quality::Precision, Average::Micro),
    ("recall_macro", Quality::Recall, Average::Macro),
    ("recall_micro", Quality::Recall, Average::Micro),
    ("f1_macro", Quality::F1, Average::Macro),
    ("f1_micro", Quality::F1, Average::Micro),
];

impl Named for PrecisionRecall {
    const NAMES: &[&str] = &[ALL[0].0, ALL[1].0, ALL[2].0, ALL[3].0, ALL[4].0, ALL[5].0];

    fn parse(name: &str) -> Option<Self> {
        let (_, quality, average) = ALL.into_iter().find(|(known, ..)| *known == name)?;
        Some(Self { quality, average })
    }
}

impl Measure for PrecisionRecall {
    fn name(&self) -> String {
        let quality = match self.quality {
            Quality::Precision => "precision",
            Quality::Recall => "recall",
            Quality::F1 => "f1",
        };
        let average = match self.average {
            Average::Macro => "macro",
            Average::Micro => "micro",
        };
        format!("{quality}_{average}")
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

    fn sums(&self, answer: Answer) -> Vec<Sum> {
        let count = match answer {
            Answer::Class(count) | Answer::Labels(count) => count,
            Answer::Numbers(_) | Answer::Shares => 0,
        };
        ["right", "answers", "targets"].map(|sum| Sum::row(format!("sums.{}.{sum}", self.name()), count)).into()
    }
}
