//! The loss that a network computes itself: a mean over the examples of a batch.

use tch::{Kind, Tensor};

use super::Loss;
use crate::failure::Result;

/// The loss.
pub(super) struct Own;

impl Loss for Own {
    fn mean(&self, output: &Tensor, _: &Tensor) -> Result<Tensor> {
        Ok(output.shallow_clone())
    }

    fn total(&self, output: &Tensor, targets: &Tensor) -> Result<(Tensor, Tensor)> {
        let examples = targets.size().first().map_or(1.0, |&size| size as f64);
        Ok((output.f_to_kind(Kind::Double)?.f_mul_scalar(examples)?, Tensor::from(examples)))
    }
}
