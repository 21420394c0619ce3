//! Normalisations: of each channel over a batch, of groups of channels, and over the last
//! dimension.

use tch::Tensor;
use torchd::job::spec::layer::{BatchNorm, GroupNorm, LayerNorm};

use super::{Forward, pair};
use crate::failure::Result;
use crate::model::Mode;

impl<const DIMENSIONS: usize> Forward for BatchNorm<DIMENSIONS> {
    /// In training it counts the batch, and puts its statistics into the running ones.
    fn forward(&self, tensors: &[Tensor], input: &Tensor, mode: Mode) -> Result<Tensor> {
        let (learned, running) = tensors.split_at(if self.affine { 2 } else { 0 });
        let ((weight, bias), (mean, variance)) = (pair(learned), pair(running));
        let trains = mode == Mode::Train;
        if trains {
            let _ = running[2].shallow_clone().f_add_scalar_(1)?;
        }
        Ok(input.f_batch_norm(weight, bias, mean, variance, trains, self.momentum, self.eps, true)?)
    }
}

impl Forward for LayerNorm {
    fn forward(&self, tensors: &[Tensor], input: &Tensor, _: Mode) -> Result<Tensor> {
        layer_norm(input, tensors, self.eps)
    }
}

/// Normalisation over the last dimension; weight and bias are the first tensors, if there are any.
pub(crate) fn layer_norm(input: &Tensor, tensors: &[Tensor], eps: f64) -> Result<Tensor> {
    let (weight, bias) = pair(tensors);
    let features = input.size().last().copied().unwrap_or(1);
    Ok(input.f_layer_norm([features], weight, bias, eps, true)?)
}

impl Forward for GroupNorm {
    fn forward(&self, tensors: &[Tensor], input: &Tensor, _: Mode) -> Result<Tensor> {
        let (weight, bias) = pair(tensors);
        Ok(input.f_group_norm(self.num_groups.into(), weight, bias, self.eps, true)?)
    }
}
