//! The share of classes that are among the k with the highest scores.

use super::{Better, Measure, Named, Sum, needs};
use crate::job::spec::loss::Answer;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopK {
    /// As many classes count; at least 2.
    pub k: u32,
}

impl Named for TopK {
    const NAMES: &[&str] = &["top_<k>"];

    fn parse(name: &str) -> Option<Self> {
        let k = name.strip_prefix("top_")?.parse().ok().filter(|k| *k >= 2)?;
        // A name has one spelling: `top_05` and `top_+5` are none.
        Some(Self { k }).filter(|top| top.name() == name)
    }
}

impl Measure for TopK {
    fn name(&self) -> String {
        format!("top_{}", self.k)
    }

    fn better(&self) -> Option<Better> {
        Some(Better::Higher)
    }

    fn fits(&self, answer: Answer) -> Result<(), String> {
        match answer {
            Answer::Class(classes) if u64::from(self.k) < classes => Ok(()),
            Answer::Class(classes) => Err(format!("takes all of {classes} classes for right; a lower k is needed")),
            Answer::Labels(_) | Answer::Numbers(_) | Answer::Shares => needs("classes", answer),
        }
    }

    fn sums(&self, _: Answer) -> Vec<Sum> {
        ["correct", "targets"].map(|sum| Sum::one(format!("sums.top_{}.{sum}", self.k))).into()
    }
}
