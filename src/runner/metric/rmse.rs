//! The root of the mean of squared differences.

use tch::{Kind, Tensor};

use super::{Finding, Rule, quotient};
use crate::failure::Result;
use crate::loss::Pair;
use crate::model::Outputs;

/// The metric.
pub(super) struct Rmse;

impl Rule for Rmse {
    fn add(&mut self, sums: &mut [&mut Tensor], _: &Outputs, Pair { output, targets }: &Pair) -> Result<()> {
        let [squares, numbers] = sums else { return Ok(()) };
        // In 64 bits: the square of a number of 32 bits may be none.
        let apart = output.f_to_kind(Kind::Double)?.f_sub(&targets.f_to_kind(Kind::Double)?)?;
        let _ = squares.f_add_(&apart.f_square()?.f_sum(Kind::Double)?)?;
        let _ = numbers.f_add_scalar_(targets.numel() as f64)?;
        Ok(())
    }

    fn value(&mut self, sums: &[&Tensor]) -> Result<Finding> {
        Ok(quotient(sums[0], sums[1])?.map(f64::sqrt))
    }
}
