//! The share of classes that are among the k with the highest scores.

use tch::{Kind, Tensor};

use super::{Finding, Rule, add_count, quotient};
use crate::failure::Result;
use crate::loss::Pair;
use crate::model::Outputs;

/// The metric.
pub(super) struct TopK {
    pub(super) k: u32,
    pub(super) ignored: Option<i64>,
}

impl Rule for TopK {
    fn add(&mut self, sums: &mut [&mut Tensor], _: &Outputs, Pair { output, targets }: &Pair) -> Result<()> {
        let [correct, counted] = sums else { return Ok(()) };
        let counts = match self.ignored {
            None => targets.f_ones_like()?.f_to_kind(Kind::Bool)?,
            Some(ignored) => targets.f_ne(ignored)?,
        };
        let target = targets.f_where_self(&counts, &targets.f_zeros_like()?)?.f_unsqueeze(1)?;
        let score = output.f_gather(1, &target, false)?;
        // Of equal scores the first counts as the highest, as it does for the accuracy.
        let mut along = vec![1; output.dim()];
        along[1] = -1;
        let classes = Tensor::f_arange(output.size()[1], (Kind::Int64, output.device()))?.f_view(along.as_slice())?;
        let before = output.f_eq_tensor(&score)?.f_logical_and(&classes.f_lt_tensor(&target)?)?;
        let ahead = output.f_gt_tensor(&score)?.f_logical_or(&before)?;
        let ahead = ahead.f_sum_dim_intlist(1, false, Kind::Int64)?;
        let hits = ahead.f_lt(i64::from(self.k))?.f_logical_and(&counts)?;
        let _ = correct.f_add_(&hits.f_sum(Kind::Double)?)?;
        add_count(counted, targets, self.ignored)?;
        Ok(())
    }

    fn value(&mut self, sums: &[&Tensor]) -> Result<Finding> {
        quotient(sums[0], sums[1])
    }
}
