//! Cross-entropy of the scores at each token and the token that follows it.

use tch::{Reduction, TchError, Tensor};

use super::{Labels, Loss, Pair};
use crate::failure::Result;

/// The loss.
pub(super) struct NextToken {
    pub(super) labels: Labels,
}

impl Loss for NextToken {
    fn arrange(&self, output: &Tensor, targets: &Tensor) -> Result<Pair> {
        let tokens = targets.size()[1];
        let at_each = if output.size()[1] == tokens { output.shallow_clone() } else { output.f_transpose(1, 2)? };
        // Nothing follows the last token.
        let output = at_each.f_narrow(1, 0, tokens - 1)?.f_flatten(0, 1)?;
        Ok(Pair { output, targets: following(targets)?.f_flatten(0, 1)? })
    }

    fn reduced(&self, Pair { output, targets }: &Pair, reduction: Reduction) -> Result<Tensor> {
        Ok(output.f_cross_entropy_loss(targets, None::<Tensor>, reduction, self.labels.ignored, 0.0)?)
    }

    fn weight(&self, targets: &Tensor) -> Result<Tensor> {
        Ok(self.labels.weight(&following(targets)?)?)
    }

    fn weighs_alike(&self) -> bool {
        self.labels.weighs_alike()
    }
}

/// The tokens that follow another one: all but the first.
fn following(tokens: &Tensor) -> std::result::Result<Tensor, TchError> {
    tokens.f_narrow(1, 1, tokens.size()[1] - 1)
}
