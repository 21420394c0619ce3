//! The coefficient of determination, a mean over the numbers of a target, as scikit-learn has it.
//!
//! Of a number that is the same in all targets it is 1 where every output is right, and else 0.

use super::{Better, Measure, Named, Sum, needs};
use crate::job::spec::loss::Answer;

/// It has no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct R2;

impl Named for R2 {
    const NAMES: &[&str] = &["r2"];

    fn parse(name: &str) -> Option<Self> {
        (name == "r2").then_some(Self)
    }
}

impl Measure for R2 {
    fn name(&self) -> String {
        "r2".into()
    }

    fn better(&self) -> Option<Better> {
        Some(Better::Higher)
    }

    fn fits(&self, answer: Answer) -> Result<(), String> {
        match answer {
            Answer::Numbers(_) => Ok(()),
            Answer::Class(_) | Answer::Labels(_) | Answer::Shares => needs("numbers", answer),
        }
    }

    fn sums(&self, answer: Answer) -> Vec<Sum> {
        let count = match answer {
            Answer::Numbers(count) => count,
            Answer::Class(_) | Answer::Labels(_) | Answer::Shares => 0,
        };
        let rows = ["means", "deviations", "residuals"].map(|sum| Sum::row(format!("sums.r2.{sum}"), count));
        [Sum::one("sums.r2.examples")].into_iter().chain(rows).collect()
    }
}
