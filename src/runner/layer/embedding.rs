//! Numbers for tokens.

use tch::Tensor;
use torchd::job::spec::layer::Embedding;

use super::Forward;
use crate::failure::Result;
use crate::model::Mode;

/// No token has a row that is not trained.
const NO_PADDING: i64 = -1;

impl Forward for Embedding {
    fn forward(&self, tensors: &[Tensor], input: &Tensor, _: Mode) -> Result<Tensor> {
        Ok(Tensor::f_embedding(&tensors[0], input, NO_PADDING, false, false)?)
    }
}
