//! Normalisations: of each channel over a batch, of groups of channels, and over the last
//! dimension.

use super::{Flow, Refusal, Rules, size};
use crate::job::spec::Weight;
use crate::job::spec::model::Initial;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;
use crate::tensor_file::Dtype;

/// PyTorch's default for `eps`, which is added to variances.
const EPS: f64 = 1e-5;

/// Settings of a normalisation over a batch, of lines or of images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNorm<const DIMENSIONS: usize> {
    /// Added to variances.
    pub eps: f64,
    /// The share of a batch in the running statistics.
    pub momentum: f64,
    /// Whether there are weight and bias.
    pub affine: bool,
}

/// Settings of a normalisation over the last dimension.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerNorm {
    /// Added to variances.
    pub eps: f64,
    /// Whether there are weight and bias.
    pub elementwise_affine: bool,
}

/// Settings of a normalisation of groups of channels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupNorm {
    /// The number of groups.
    pub num_groups: u32,
    /// Added to variances.
    pub eps: f64,
    /// Whether there are weight and bias.
    pub affine: bool,
}

/// Weight and bias of a normalisation of so many values, named within a module of that name.
pub fn affine(name: &str, values: u64) -> [Weight; 2] {
    let made = |part, value| Weight::learned(part, &[size(values)], Initial::Constant(value)).within(name);
    [made("weight", 1.0), made("bias", 0.0)]
}

impl<const DIMENSIONS: usize> Default for BatchNorm<DIMENSIONS> {
    fn default() -> Self {
        Self { eps: EPS, momentum: 0.1, affine: true }
    }
}

impl<const DIMENSIONS: usize> Section for BatchNorm<DIMENSIONS> {
    type Message = v1::BatchNorm;
    const NAME: &str = if DIMENSIONS == 1 { "batch_norm1d" } else { "batch_norm2d" };

    fn read(message: &v1::BatchNorm, mut fields: Fields<'_>) -> Option<Self> {
        let default = Self::default();
        let eps = fields.positive("eps", message.eps.unwrap_or(default.eps));
        let momentum = fields.ratio("momentum", message.momentum.unwrap_or(default.momentum));
        fields.done(Self { eps, momentum, affine: message.affine.unwrap_or(default.affine) })
    }

    fn to_proto(&self) -> v1::BatchNorm {
        v1::BatchNorm { eps: Some(self.eps), momentum: Some(self.momentum), affine: Some(self.affine) }
    }
}

impl<const DIMENSIONS: usize> Rules for BatchNorm<DIMENSIONS> {
    fn gives(&self, input: &Flow) -> Result<Flow, Refusal> {
        match (DIMENSIONS, input.of_numbers()?) {
            (1, [_]) => {}
            (1, [_, ..]) if input.shape.len() != 2 => return Err(Refusal::takes("[channels] or [channels, length]")),
            _ => _ = input.of_channels::<DIMENSIONS>()?,
        }
        Ok(input.clone())
    }

    fn weights(&self, input: &Flow) -> Vec<Weight> {
        let channels = input.shape.first().copied().unwrap_or(1);
        let learned = affine("", channels).into_iter().filter(|_| self.affine);
        let running = |name, value| Weight::kept(name, Dtype::F32, &[size(channels)], value);
        let counter = Weight::kept("num_batches_tracked", Dtype::I64, &[], 0.0);
        learned.chain([running("running_mean", 0.0), running("running_var", 1.0), counter]).collect()
    }

    fn needs_two(&self, input: &Flow) -> bool {
        input.shape.iter().skip(1).all(|size| *size == 1)
    }
}

impl Section for LayerNorm {
    type Message = v1::LayerNorm;
    const NAME: &str = "layer_norm";

    fn read(message: &v1::LayerNorm, mut fields: Fields<'_>) -> Option<Self> {
        let eps = fields.positive("eps", message.eps.unwrap_or(EPS));
        fields.done(Self { eps, elementwise_affine: message.elementwise_affine.unwrap_or(true) })
    }

    fn to_proto(&self) -> v1::LayerNorm {
        v1::LayerNorm { eps: Some(self.eps), elementwise_affine: Some(self.elementwise_affine) }
    }
}

impl Rules for LayerNorm {
    fn gives(&self, input: &Flow) -> Result<Flow, Refusal> {
        match input.of_numbers()? {
            [] => Err(Refusal::takes("[..., features]")),
            _ => Ok(input.clone()),
        }
    }

    fn weights(&self, input: &Flow) -> Vec<Weight> {
        let features = input.shape.last().copied().unwrap_or(1);
        affine("", features).into_iter().filter(|_| self.elementwise_affine).collect()
    }
}

impl Section for GroupNorm {
    type Message = v1::GroupNorm;
    const NAME: &str = "group_norm";

    fn read(message: &v1::GroupNorm, mut fields: Fields<'_>) -> Option<Self> {
        let num_groups = fields.at_least_one("num_groups", Some(message.num_groups), 1);
        let eps = fields.positive("eps", message.eps.unwrap_or(EPS));
        fields.done(Self { num_groups, eps, affine: message.affine.unwrap_or(true) })
    }

    fn to_proto(&self) -> v1::GroupNorm {
        v1::GroupNorm { num_groups: self.num_groups, eps: Some(self.eps), affine: Some(self.affine) }
    }
}

impl Rules for GroupNorm {
    fn gives(&self, input: &Flow) -> Result<Flow, Refusal> {
        match input.of_numbers()? {
            [channels, ..] if channels.is_multiple_of(self.num_groups.into()) => Ok(input.clone()),
            _ => Err(Refusal::takes(format!("[channels, ...] with channels in {} groups", self.num_groups))),
        }
    }

    fn weights(&self, input: &Flow) -> Vec<Weight> {
        let channels = input.shape.first().copied().unwrap_or(1);
        affine("", channels).into_iter().filter(|_| self.affine).collect()
    }
}
