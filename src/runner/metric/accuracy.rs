//! The share of targets whose class has the highest score.

use tch::{Kind, Tensor};

use super::{Rule, quotient};
use crate::failure::Result;
use crate::loss::Pair;
use crate::model::Outputs;

/// The metric.
pub(super) struct Accuracy {
    pub(super) ignored: Option<i64>,
}

impl Rule for Accuracy {
    fn add(&mut self, sums: &mut [&mut Tensor], _: &Outputs, Pair { output, targets }: &Pair) -> Result<()> {
        let [correct, labels] = sums else { return Ok(()) };
        let hits = output.f_argmax(1, false)?.f_eq_tensor(targets)?;
        match self.ignored {
            None => {
                let _ = correct.f_add_(&hits.f_sum(Kind::Double)?)?;
                let _ = labels.f_add_scalar_(targets.numel() as f64)?;
            }
            Some(ignored) => {
                let counts = targets.f_ne(ignored)?;
                let _ = correct.f_add_(&hits.f_logical_and(&counts)?.f_sum(Kind::Double)?)?;
                let _ = labels.f_add_(&counts.f_sum(Kind::Double)?)?;
            }
        }
        Ok(())
    }

    fn value(&self, sums: &[&Tensor]) -> Result<f64> {
        quotient(sums[0], sums[1])
    }
}
