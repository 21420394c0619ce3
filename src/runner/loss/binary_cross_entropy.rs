//! Binary cross-entropy of scores, one for each label.

use tch::{Kind, Reduction, Tensor};

use super::{Loss, Pair, count};
use crate::failure::Result;

/// The loss.
pub(super) struct BinaryCrossEntropy {
    /// A weight of what holds, for each label in the shape of a target, or for all.
    pub(super) positive_weights: Option<Tensor>,
}

impl Loss for BinaryCrossEntropy {
    fn arrange(&self, output: &Tensor, targets: &Tensor) -> Result<Pair> {
        Pair::alike(output, &targets.f_to_kind(Kind::Float)?)
    }

    fn reduced(&self, Pair { output, targets }: &Pair, reduction: Reduction) -> Result<Tensor> {
        let weights = self.positive_weights.as_ref();
        Ok(output.f_binary_cross_entropy_with_logits(targets, None, weights, reduction)?)
    }

    fn weight(&self, targets: &Tensor) -> Result<Tensor> {
        count(targets)
    }
}
