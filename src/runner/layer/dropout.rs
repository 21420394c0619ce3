//! Dropout of numbers, and of whole channels of images.

use tch::Tensor;
use torchd::job::spec::layer::Dropout;

use super::Forward;
use crate::failure::Result;
use crate::model::Mode;

impl<const DIMENSIONS: usize> Forward for Dropout<DIMENSIONS> {
    fn forward(&self, _: &[Tensor], input: &Tensor, mode: Mode) -> Result<Tensor> {
        let drops = mode == Mode::Train;
        Ok(match DIMENSIONS {
            1 => input.f_dropout(self.p, drops)?,
            _ => input.f_feature_dropout(self.p, drops)?,
        })
    }
}
