//! A layer of a transformer's encoder.

use tch::Tensor;
use torchd::job::spec::layer::TransformerEncoderLayer;
use torchd::job::spec::model::Activation;

use super::{Attention, Forward, layer_norm};
use crate::failure::Result;
use crate::model::Mode;

impl Forward for TransformerEncoderLayer {
    fn forward(&self, tensors: &[Tensor], input: &Tensor, mode: Mode) -> Result<Tensor> {
        let drop = |values: Tensor| values.f_dropout(self.dropout, mode == Mode::Train);
        let norm = |values: &Tensor, at: usize| layer_norm(values, &tensors[at..], self.layer_norm_eps);
        let linear = |values: &Tensor, at: usize| values.f_linear(&tensors[at], Some(&tensors[at + 1]));
        let attention = Attention { tensors: &tensors[..4], heads: self.nhead.into(), dropout: self.dropout };
        let attended = |values: &Tensor| -> Result<Tensor> { Ok(drop(attention.forward(values, mode)?)?) };
        let perceived = |values: &Tensor| -> Result<Tensor> {
            let hidden = linear(values, 4)?;
            let active = match self.activation {
                Activation::Relu => hidden.f_relu()?,
                Activation::Gelu => hidden.f_gelu("none")?,
                Activation::Tanh => hidden.f_tanh()?,
            };
            Ok(drop(linear(&drop(active)?, 6)?)?)
        };
        if self.norm_first {
            let values = input.f_add(&attended(&norm(input, 8)?)?)?;
            let more = perceived(&norm(&values, 10)?)?;
            return Ok(values.f_add(&more)?);
        }
        let values = norm(&input.f_add(&attended(input)?)?, 8)?;
        let more = perceived(&values)?;
        norm(&values.f_add(&more)?, 10)
    }
}
