//! Whether training has diverged: a number that it needs to go on is infinite or not a number.

use crate::checkpoint;
use crate::failure::{Failure, Result};
use crate::train::Training;

impl Training {
    /// Fails where training has diverged, before a validation pass is spent on it. What is saved is
    /// judged as it is saved.
    pub(crate) fn judge(&self) -> Result<()> {
        self.judge_loss()?;
        for (name, tensor) in self.network.parameters().named() {
            if !checkpoint::is_finite(tensor)? {
                return Err(self.diverged(&format!("{name} held numbers that are not finite")));
            }
        }
        Ok(())
    }

    /// The losses since the last scalars, which nobody may have read yet.
    pub(crate) fn judge_loss(&self) -> Result<()> {
        let loss = f64::try_from(&self.sums.loss)?;
        if loss.is_finite() { Ok(()) } else { Err(self.diverged(&format!("the loss was {loss}"))) }
    }

    pub(crate) fn diverged(&self, found: &str) -> Failure {
        Failure::diverged(self.place.step, found)
    }
}
