//! Cross-entropy of scores.

use tch::{Reduction, Tensor};

use super::{Labels, Loss};
use crate::failure::Result;

/// The loss.
pub(super) struct CrossEntropy {
    pub(super) labels: Labels,
    pub(super) label_smoothing: f64,
}

impl CrossEntropy {
    fn reduced(&self, output: &Tensor, targets: &Tensor, reduction: Reduction) -> Result<Tensor> {
        let Labels { weights, ignored, .. } = &self.labels;
        let (output, targets) = self.labels.arrange(output, targets)?;
        Ok(output.f_cross_entropy_loss(&targets, weights.as_ref(), reduction, *ignored, self.label_smoothing)?)
    }
}

impl Loss for CrossEntropy {
    fn mean(&self, output: &Tensor, targets: &Tensor) -> Result<Tensor> {
        self.reduced(output, targets, Reduction::Mean)
    }

    fn total(&self, output: &Tensor, targets: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((self.reduced(output, targets, Reduction::Sum)?, self.labels.weight(targets)?))
    }
}
