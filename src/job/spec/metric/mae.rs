//! The mean of absolute differences.

use super::{Better, Measure};
use crate::dataset::{Dtype, Field};

/// It has no settings.
pub struct Mae;

impl Measure for Mae {
    fn name(&self) -> &'static str {
        "mae"
    }

    fn better(&self) -> Better {
        Better::Lower
    }

    fn fits(&self, target: &Field) -> Result<(), String> {
        match target.dtype {
            Dtype::F32 | Dtype::Pixel => Ok(()),
            Dtype::I64 => Err(format!("needs numbers, and {:?} has classes", target.name)),
        }
    }

    fn sums(&self) -> &'static [&'static str] {
        &["sums.absolute", "sums.numbers"]
    }
}
