//! The share of targets whose class has the highest score.

use super::{Better, Measure, Named, Sum};
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

    fn better(&self) -> Better {
        Better::Higher
    }

    fn fits(&self, answer: Answer) -> Result<(), String> {
        match answer {
            Answer::Class(_) => Ok(()),
            Answer::Numbers => Err("needs classes, and the target has numbers".into()),
        }
    }

    fn sums(&self, _: Answer) -> Vec<Sum> {
        vec![Sum::one("sums.correct"), Sum { can_be_absent: true, ..Sum::one("sums.labels") }]
    }
}
