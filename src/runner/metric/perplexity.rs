//! The exponential of the mean cross-entropy of classes, such as tokens.

use tch::{Kind, Reduction, Tensor};

use super::{Finding, Rule, add_count, quotient};
use crate::failure::Result;
use crate::loss::Pair;
use crate::model::Outputs;

/// The metric.
pub(super) struct Perplexity {
    pub(super) ignored: Option<i64>,
}

impl Rule for Perplexity {
    fn add(&mut self, sums: &mut [&mut Tensor], _: &Outputs, Pair { output, targets }: &Pair) -> Result<()> {
        let [nats, counted] = sums else { return Ok(()) };
        // Without a label that is ignored none has this value: all are classes.
        let ignored = self.ignored.unwrap_or(-1);
        // Of log-probabilities this is the negative log-likelihood: their exponentials add up to 1.
        let each = output.f_cross_entropy_loss(targets, None::<Tensor>, Reduction::None, ignored, 0.0)?;
        let _ = nats.f_add_(&each.f_sum(Kind::Double)?)?;
        add_count(counted, targets, self.ignored)?;
        Ok(())
    }

    fn value(&mut self, sums: &[&Tensor]) -> Result<Finding> {
        Ok(quotient(sums[0], sums[1])?.map(f64::exp))
    }
}
