//! The Huber loss: squared for small differences, absolute for large ones.

use tch::{Reduction, Tensor};

use super::{Loss, Pair, count};
use crate::failure::Result;

/// The loss.
pub(super) struct Huber {
    /// The difference at which it changes from one to the other.
    pub(super) delta: f64,
}

impl Loss for Huber {
    fn arrange(&self, output: &Tensor, targets: &Tensor) -> Result<Pair> {
        Pair::alike(output, targets)
    }

    fn reduced(&self, Pair { output, targets }: &Pair, reduction: Reduction) -> Result<Tensor> {
        Ok(output.f_huber_loss(targets, reduction, self.delta)?)
    }

    fn weight(&self, targets: &Tensor) -> Result<Tensor> {
        count(targets)
    }
}
