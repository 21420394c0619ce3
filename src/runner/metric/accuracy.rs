//! The share of classes that have the highest score, or of labels that are told rightly by theirs.

use tch::{Kind, Tensor};
use torchd::job::spec::loss::Answer;

use super::{Finding, Rule, add_count, quotient};
use crate::failure::Result;
use crate::loss::Pair;
use crate::model::Outputs;

/// The metric.
pub(super) struct Accuracy {
    pub(super) answer: Answer,
    pub(super) ignored: Option<i64>,
}

impl Rule for Accuracy {
    fn add(&mut self, sums: &mut [&mut Tensor], _: &Outputs, pair: &Pair) -> Result<()> {
        let [correct, labels] = sums else { return Ok(()) };
        let hits = pair.decided(self.answer)?.f_eq_tensor(&pair.right(self.answer)?)?;
        let hits = match self.ignored {
            None => hits,
            Some(ignored) => hits.f_logical_and(&pair.targets.f_ne(ignored)?)?,
        };
        let _ = correct.f_add_(&hits.f_sum(Kind::Double)?)?;
        add_count(labels, &pair.targets, self.ignored)?;
        Ok(())
    }

    fn value(&mut self, sums: &[&Tensor]) -> Result<Finding> {
        quotient(sums[0], sums[1])
    }
}
