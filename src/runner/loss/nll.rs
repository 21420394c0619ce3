//! The negative log-likelihood of log-probabilities.

use tch::{Reduction, Tensor};

use super::{Labels, Loss, Pair};
use crate::failure::Result;

/// The loss.
pub(super) struct Nll {
    pub(super) labels: Labels,
}

impl Loss for Nll {
    fn arrange(&self, output: &Tensor, targets: &Tensor) -> Result<Pair> {
        self.labels.arrange(output, targets)
    }

    fn reduced(&self, Pair { output, targets }: &Pair, reduction: Reduction) -> Result<Tensor> {
        let Labels { weights, ignored, .. } = &self.labels;
        Ok(output.f_nll_loss_nd(targets, weights.as_ref(), reduction, *ignored)?)
    }

    fn weight(&self, targets: &Tensor) -> Result<Tensor> {
        Ok(self.labels.weight(targets)?)
    }

    fn weighs_alike(&self) -> bool {
        self.labels.weighs_alike()
    }
}
