//! Probabilities of scores, and their logarithms.

use tch::Tensor;
use torchd::job::spec::layer::{LogSoftmax, Softmax};

use super::Forward;
use crate::failure::Result;
use crate::model::Mode;

impl Forward for Softmax {
    fn forward(&self, _: &[Tensor], input: &Tensor, _: Mode) -> Result<Tensor> {
        Ok(input.f_softmax(self.dim.into(), None)?)
    }
}

impl Forward for LogSoftmax {
    fn forward(&self, _: &[Tensor], input: &Tensor, _: Mode) -> Result<Tensor> {
        Ok(input.f_log_softmax(self.dim.into(), None)?)
    }
}
