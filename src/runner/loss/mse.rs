//! The mean of squared differences.

use tch::{Reduction, Tensor};

use super::{Loss, Pair, count};
use crate::failure::Result;

/// The loss.
pub(super) struct Mse;

impl Loss for Mse {
    fn arrange(&self, output: &Tensor, targets: &Tensor) -> Result<Pair> {
        Pair::alike(output, targets)
    }

    fn reduced(&self, Pair { output, targets }: &Pair, reduction: Reduction) -> Result<Tensor> {
        Ok(output.f_mse_loss(targets, reduction)?)
    }

    fn weight(&self, targets: &Tensor) -> Result<Tensor> {
        count(targets)
    }
}
