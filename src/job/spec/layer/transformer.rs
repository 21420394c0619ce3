//! A layer of a transformer's encoder, and the tensors of attention.

use super::normalization::affine;
use super::{Flow, Refusal, Rules, size};
use crate::job::spec::Weight;
use crate::job::spec::model::{Activation, Initial};
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransformerEncoderLayer {
    /// Heads of attention.
    pub nhead: u32,
    /// Numbers in the middle of the perceptron.
    pub dim_feedforward: u32,
    /// Probability of each dropout.
    pub dropout: f64,
    /// The function in the perceptron: relu or gelu.
    pub activation: Activation,
    /// Added to variances.
    pub layer_norm_eps: f64,
    /// Normalise before attention and perceptron, not behind them.
    pub norm_first: bool,
}

impl Section for TransformerEncoderLayer {
    type Message = v1::TransformerEncoderLayer;
    const NAME: &str = "transformer_encoder_layer";

    fn read(message: &v1::TransformerEncoderLayer, mut fields: Fields<'_>) -> Option<Self> {
        let nhead = fields.at_least_one("nhead", Some(message.nhead), 1);
        let dim_feedforward = fields.at_least_one("dim_feedforward", message.dim_feedforward, 2048);
        let dropout = fields.probability("dropout", message.dropout.unwrap_or(0.1));
        let activation = Activation::read(message.activation, &mut fields);
        if activation == Activation::Tanh {
            fields.wrong("activation", "is tanh; relu or gelu is needed");
        }
        let layer_norm_eps = fields.positive("layer_norm_eps", message.layer_norm_eps.unwrap_or(1e-5));
        let norm_first = message.norm_first;
        fields.done(Self { nhead, dim_feedforward, dropout, activation, layer_norm_eps, norm_first })
    }

    fn to_proto(&self) -> v1::TransformerEncoderLayer {
        v1::TransformerEncoderLayer {
            nhead: self.nhead,
            dim_feedforward: Some(self.dim_feedforward),
            dropout: Some(self.dropout),
            activation: self.activation.to_proto().into(),
            layer_norm_eps: Some(self.layer_norm_eps),
            norm_first: self.norm_first,
        }
    }
}

impl Rules for TransformerEncoderLayer {
    fn gives(&self, input: &Flow) -> Result<Flow, Refusal> {
        match input.of_numbers()? {
            [_, width] if width.is_multiple_of(self.nhead.into()) => Ok(input.clone()),
            _ => Err(Refusal::takes(format!("[tokens, numbers] with numbers for {} heads", self.nhead))),
        }
    }

    fn weights(&self, input: &Flow) -> Vec<Weight> {
        let width = input.shape.last().copied().unwrap_or(1);
        let (outer, inner) = (size(width), i64::from(self.dim_feedforward));
        let perceptron = [("linear1", [inner, outer]), ("linear2", [outer, inner])];
        let perceptron = perceptron.iter().flat_map(|(name, shape)| Weight::layer(name, shape));
        let norms = ["norm1", "norm2"].into_iter().flat_map(|name| affine(name, width));
        attention("self_attn", width).into_iter().chain(perceptron).chain(norms).collect()
    }
}

/// The tensors of a torch.nn.MultiheadAttention of that name, for so many numbers a token.
pub fn attention(name: &str, width: u64) -> Vec<Weight> {
    let width = size(width);
    // Xavier's distribution: uniform within sqrt(6 / (inputs + outputs)).
    let bound = (6.0 / (4.0 * width as f64)).sqrt();
    let [out, _] = Weight::layer("out_proj", &[width, width]);
    let zeros = Initial::Constant(0.0);
    let all = [
        Weight::learned("in_proj_weight", &[width.saturating_mul(3), width], Initial::Uniform(bound)),
        Weight::learned("in_proj_bias", &[width.saturating_mul(3)], zeros),
        out,
        Weight::learned("out_proj.bias", &[width], zeros),
    ];
    all.into_iter().map(|weight| weight.within(name)).collect()
}
