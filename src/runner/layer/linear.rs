//! A linear map of the last dimension.

use tch::Tensor;
use torchd::job::spec::layer::Linear;

use super::Forward;
use crate::failure::Result;
use crate::model::Mode;

impl Forward for Linear {
    fn forward(&self, tensors: &[Tensor], input: &Tensor, _: Mode) -> Result<Tensor> {
        Ok(input.f_linear(&tensors[0], tensors.get(1))?)
    }
}
