//! The mean of absolute differences.

use super::{Better, Measure, Named, Sum, needs};
use crate::job::spec::loss::Answer;

/// It has no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mae;

impl Named for Mae {
    const NAMES: &[&str] = &["mae"];

    fn parse(name: &str) -> Option<Self> {
        (name == "mae").then_some(Self)
    }
}

impl Measure for Mae {
    fn name(&self) -> String {
        "mae".into()
    }

    fn better(&self) -> Option<Better> {
        Some(Better::Lower)
    }

    fn fits(&self, answer: Answer) -> Result<(), String> {
        match answer {
            Answer::Numbers(_) => Ok(()),
            Answer::Class(_) | Answer::Labels(_) | Answer::Shares => needs("numbers", answer),
        }
    }

    fn sums(&self, _: Answer) -> Vec<Sum> {
        vec![Sum::one("sums.absolute"), Sum::one("sums.numbers")]
    }
}
