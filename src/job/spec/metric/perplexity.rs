//! The exponential of the mean cross-entropy of classes, such as tokens.

use super::{Better, Measure, Named, Sum, needs};
use crate::job::spec::loss::Answer;

/// It has no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Perplexity;

impl Named for Perplexity {
    const NAMES: &[&str] = &["perplexity"];

    fn parse(name: &str) -> Option<Self> {
        (name == "perplexity").then_some(Self)
    }
}

impl Measure for Perplexity {
    fn name(&self) -> String {
        "perplexity".into()
    }

    fn better(&self) -> Option<Better> {
        Some(Better::Lower)
    }

    fn fits(&self, answer: Answer) -> Result<(), String> {
        match answer {
            Answer::Class(_) => Ok(()),
            Answer::Labels(_) | Answer::Numbers(_) | Answer::Shares => needs("classes", answer),
        }
    }

    fn sums(&self, _: Answer) -> Vec<Sum> {
        ["nats", "targets"].map(|sum| Sum::one(format!("sums.perplexity.{sum}"))).into()
    }
}
