//! The negative log-likelihood of log-probabilities.

use tch::{Reduction, Tensor};

use super::{Labels, Loss};
use crate::failure::Result;

/// The loss.
pub(super) struct Nll {
    pub(super) labels: Labels,
}

impl Nll {
    fn reduced(&self, output: &Tensor, targets: &Tensor, reduction: Reduction) -> Result<Tensor> {
        let Labels { weights, ignored, .. } = &self.labels;
        let (output, targets) = self.labels.arrange(output, targets)?;
        Ok(output.f_nll_loss_nd(&targets, weights.as_ref(), reduction, *ignored)?)
    }
}

impl Loss for Nll {
    fn mean(&self, output: &Tensor, targets: &Tensor) -> Result<Tensor> {
        self.reduced(output, targets, Reduction::Mean)
    }

    fn total(&self, output: &Tensor, targets: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((self.reduced(output, targets, Reduction::Sum)?, self.labels.weight(targets)?))
    }
}
