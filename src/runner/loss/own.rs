//! The loss that a network computes itself: a mean over the examples of a batch.

use tch::{Kind, Reduction, Tensor};

use super::{Loss, Pair, beside, examples};
use crate::failure::Result;

/// The loss.
pub(super) struct Own;

impl Loss for Own {
    fn arrange(&self, output: &Tensor, targets: &Tensor) -> Result<Pair> {
        Ok(Pair { output: output.shallow_clone(), targets: targets.shallow_clone() })
    }

    fn reduced(&self, Pair { output, targets }: &Pair, reduction: Reduction) -> Result<Tensor> {
        Ok(match reduction {
            Reduction::Sum => output.f_to_kind(Kind::Double)?.f_mul_scalar(examples(targets) as f64)?,
            Reduction::Mean | Reduction::None | Reduction::Other(_) => output.shallow_clone(),
        })
    }

    fn weight(&self, targets: &Tensor) -> Result<Tensor> {
        beside(targets, examples(targets) as f64)
    }
}
