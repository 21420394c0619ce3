//! The share of targets whose class has the highest score.

use super::{Better, Measure};
use crate::dataset::{Dtype, Field};

/// It has no settings.
pub struct Accuracy;

impl Measure for Accuracy {
    fn name(&self) -> &'static str {
        "accuracy"
    }

    fn better(&self) -> Better {
        Better::Higher
    }

    fn fits(&self, target: &Field) -> Result<(), String> {
        match target.dtype {
            Dtype::I64 => Ok(()),
            Dtype::F32 | Dtype::Pixel => {
                Err(format!("needs classes, and {:?} has {}", target.name, target.dtype.name()))
            }
        }
    }

    fn sums(&self) -> &'static [&'static str] {
        &["sums.correct", "sums.labels"]
    }
}
