//! The mean of squared differences.

use tch::{Reduction, Tensor};

use super::Loss;
use crate::failure::Result;

/// The loss.
pub(super) struct Mse;

impl Loss for Mse {
    fn mean(&self, output: &Tensor, targets: &Tensor) -> Result<Tensor> {
        // `[n, 1]` and `[n]` are the same numbers, which PyTorch would broadcast.
        Ok(output.f_view_as(targets)?.f_mse_loss(targets, Reduction::Mean)?)
    }

    fn total(&self, output: &Tensor, targets: &Tensor) -> Result<(Tensor, Tensor)> {
        let sum = output.f_view_as(targets)?.f_mse_loss(targets, Reduction::Sum)?;
        Ok((sum, Tensor::from(targets.numel() as f64)))
    }
}
