//! The mean of absolute differences.

use tch::{Kind, Tensor};

use super::{Finding, Rule, quotient};
use crate::failure::Result;
use crate::loss::Pair;
use crate::model::Outputs;

/// The metric.
pub(super) struct Mae;

impl Rule for Mae {
    fn add(&mut self, sums: &mut [&mut Tensor], _: &Outputs, Pair { output, targets }: &Pair) -> Result<()> {
        let [absolute, numbers] = sums else { return Ok(()) };
        let _ = absolute.f_add_(&output.f_sub(targets)?.f_abs()?.f_sum(Kind::Double)?)?;
        let _ = numbers.f_add_scalar_(targets.numel() as f64)?;
        Ok(())
    }

    fn value(&mut self, sums: &[&Tensor]) -> Result<Finding> {
        quotient(sums[0], sums[1])
    }
}
