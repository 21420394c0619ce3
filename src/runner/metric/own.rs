//! A metric that a network gives: a mean over the examples of a batch.

use tch::{Kind, Tensor};

use super::{Finding, Rule, quotient};
use crate::failure::Result;
use crate::loss::Pair;
use crate::model::Outputs;

/// The metric at a place among those of the network.
pub(super) struct Own {
    pub(super) place: usize,
}

impl Rule for Own {
    fn add(&mut self, sums: &mut [&mut Tensor], outputs: &Outputs, pair: &Pair) -> Result<()> {
        let [values, examples] = sums else { return Ok(()) };
        let count = pair.targets.size().first().map_or(1.0, |&size| size as f64);
        let value = outputs.metrics[self.place].f_to_kind(Kind::Double)?;
        let _ = values.f_add_(&value.f_mul_scalar(count)?)?;
        let _ = examples.f_add_scalar_(count)?;
        Ok(())
    }

    fn value(&mut self, sums: &[&Tensor]) -> Result<Finding> {
        quotient(sums[0], sums[1])
    }
}
