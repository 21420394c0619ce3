//! Several dimensions in a row.

use tch::Tensor;
use torchd::job::spec::layer::Flatten;

use super::Forward;
use crate::failure::Result;
use crate::model::Mode;

impl Forward for Flatten {
    fn forward(&self, _: &[Tensor], input: &Tensor, _: Mode) -> Result<Tensor> {
        // A single number is a row of one.
        Ok(match input.dim() {
            1 => input.f_unsqueeze(1)?,
            _ => input.f_flatten(self.start_dim.into(), self.end_dim.into())?,
        })
    }
}
