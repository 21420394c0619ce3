//! The Kullback-Leibler divergence of log-probabilities from distributions, a mean over examples.

use tch::{Reduction, Tensor};

use super::{Loss, Pair, beside, examples};
use crate::failure::Result;

/// The loss.
pub(super) struct KlDivergence;

impl Loss for KlDivergence {
    fn arrange(&self, output: &Tensor, targets: &Tensor) -> Result<Pair> {
        Pair::alike(output, targets)
    }

    fn reduced(&self, Pair { output, targets }: &Pair, reduction: Reduction) -> Result<Tensor> {
        let sum = output.f_kl_div(targets, Reduction::Sum, false)?;
        Ok(match reduction {
            Reduction::Mean => sum.f_div_scalar(examples(targets))?,
            Reduction::Sum | Reduction::None | Reduction::Other(_) => sum,
        })
    }

    fn weight(&self, targets: &Tensor) -> Result<Tensor> {
        beside(targets, examples(targets) as f64)
    }
}
