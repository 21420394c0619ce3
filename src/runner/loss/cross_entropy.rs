//! Cross-entropy of scores.

use tch::{Reduction, Tensor};

use super::{Labels, Loss, Pair};
use crate::failure::Result;

/// The loss.
pub(super) struct CrossEntropy {
    pub(super) labels: Labels,
    pub(super) label_smoothing: f64,
}

impl Loss for CrossEntropy {
    fn arrange(&self, output: &Tensor, targets: &Tensor) -> Result<Pair> {
        self.labels.arrange(output, targets)
    }

    fn reduced(&self, Pair { output, targets }: &Pair, reduction: Reduction) -> Result<Tensor> {
        let Labels { weights, ignored, .. } = &self.labels;
        Ok(output.f_cross_entropy_loss(targets, weights.as_ref(), reduction, *ignored, self.label_smoothing)?)
    }

    fn weight(&self, targets: &Tensor) -> Result<Tensor> {
        Ok(self.labels.weight(targets)?)
    }

    fn weighs_alike(&self) -> bool {
        self.labels.weighs_alike()
    }
}
