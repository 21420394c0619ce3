//! The root of the mean of squared differences.

use super::{Better, Measure, Named, Sum, needs};
use crate::job::spec::loss::Answer;

/// It has no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rmse;

impl Named for Rmse {
    const NAMES: &[&str] = &["rmse"];

    fn parse(name: &str) -> Option<Self> {
        (name == "rmse").then_some(Self)
    }
}

impl Measure for Rmse {
    fn name(&self) -> String {
        "rmse".into()
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
        ["squares", "numbers"].map(|sum| Sum::one(format!("sums.rmse.{sum}"))).into()
    }
}
