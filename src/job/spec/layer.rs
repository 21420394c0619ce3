//! The layers of torch.nn: a kind is a file in `layer/`, one in `src/runner/layer/`, and a line in
//! each registry. Layers that are alike share a file.

mod activation;
mod convolution;
mod dropout;
mod embedding;
mod flatten;
mod linear;
mod normalization;
mod pool;
mod softmax;
mod transformer;

use std::fmt;

use super::Weight;
use super::section::{Fields, registry};
use crate::dataset::{Dtype, Field, Range};
use crate::proto::v1::{self, layer::Kind};
pub use activation::{Elu, Gelu, LeakyRelu, Relu, Sigmoid, Silu, Tanh};
pub use convolution::Convolution;
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use flatten::Flatten;
pub use linear::Linear;
pub use normalization::{BatchNorm, GroupNorm, LayerNorm, affine};
pub use pool::{AdaptiveAvgPool, AvgPool, MaxPool};
pub use softmax::{LogSoftmax, Softmax};
pub use transformer::{TransformerEncoderLayer, attention};

registry! {
    /// A layer.
    Layer as Rules, from Kind, {
        /// A linear map.
        Linear(Linear),
        /// A convolution along a line.
        Conv1d(Convolution<1>),
        /// A convolution over an image.
        Conv2d(Convolution<2>),
        /// Normalisation of each channel over a batch, of points or lines.
        BatchNorm1d(BatchNorm<1>),
        /// The same of images.
        BatchNorm2d(BatchNorm<2>),
        /// Normalisation over the last dimension.
        LayerNorm(LayerNorm),
        /// Normalisation of groups of channels.
        GroupNorm(GroupNorm),
        /// Numbers for tokens.
        Embedding(Embedding),
        /// max(x, 0).
        Relu(Relu),
        /// max(x, 0), and a share of what is below.
        LeakyRelu(LeakyRelu),
        /// The exponential linear unit.
        Elu(Elu),
        /// The Gaussian error linear unit.
        Gelu(Gelu),
        /// The sigmoid linear unit.
        Silu(Silu),
        /// The hyperbolic tangent.
        Tanh(Tanh),
        /// The logistic function.
        Sigmoid(Sigmoid),
        /// Probabilities of scores.
        Softmax(Softmax),
        /// Their logarithms.
        LogSoftmax(LogSoftmax),
        /// The largest numbers along a line.
        MaxPool1d(MaxPool<1>),
        /// The largest numbers of an image.
        MaxPool2d(MaxPool<2>),
        /// Means of an image.
        AvgPool2d(AvgPool),
        /// Means of an image, as many as are wanted.
        AdaptiveAvgPool2d(AdaptiveAvgPool),
        /// Drops numbers in training.
        Dropout(Dropout<1>),
        /// Drops whole channels of an image in training.
        Dropout2d(Dropout<2>),
        /// Several dimensions in a row.
        Flatten(Flatten),
        /// Attention and a perceptron.
        TransformerEncoderLayer(TransformerEncoderLayer),
    }
}

/// The rules of a layer, known before one is built.
pub trait Rules {
    /// Its output for such an input.
    ///
    /// # Errors
    /// It does not take the input, or the data do not tell its output yet.
    fn gives(&self, input: &Flow) -> Result<Flow, Refusal>;

    /// Its tensors for an input that it takes, named within the layer, in the order of PyTorch's
    /// `state_dict`.
    fn weights(&self, _: &Flow) -> Vec<Weight> {
        Vec::new()
    }

    /// Whether it cannot train on a batch of one such input, because it has one number then to
    /// normalise over.
    fn needs_two(&self, _: &Flow) -> bool {
        false
    }
}

/// The values of an example on their way through a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Sizes, outermost first.
    pub shape: Vec<u64>,
    /// The kind of the values.
    pub values: Values,
}

/// A kind of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// 32-bit floats.
    Numbers,
    /// 64-bit integers, and their range where it is known.
    Tokens(Option<Range>),
}

/// Why there is no output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The layer does not take the input: the values that it takes, in words that follow "takes".
    Takes(String),
    /// The data do not tell yet.
    Unknown,
}

impl Flow {
    /// Numbers of that shape.
    pub fn numbers(shape: impl Into<Vec<u64>>) -> Self {
        Self { shape: shape.into(), values: Values::Numbers }
    }

    /// The values of an input.
    pub fn of(input: &Field) -> Self {
        let values = match input.dtype {
            Dtype::Pixel | Dtype::F32 => Values::Numbers,
            Dtype::I64 => Values::Tokens(input.range),
        };
        Self { shape: input.shape.clone(), values }
    }

    /// The shape of numbers.
    fn of_numbers(&self) -> Result<&[u64], Refusal> {
        match self.values {
            Values::Numbers => Ok(&self.shape),
            Values::Tokens(_) => Err(Refusal::takes("32-bit floats; an embedding makes them of tokens")),
        }
    }

    /// Channels and sizes of numbers with so many dimensions besides the channels.
    fn of_channels<const DIMENSIONS: usize>(&self) -> Result<(u64, [u64; DIMENSIONS]), Refusal> {
        let takes = || Refusal::takes(if DIMENSIONS == 1 { "[channels, length]" } else { "[channels, height, width]" });
        let (channels, sizes) = self.of_numbers()?.split_first().ok_or_else(takes)?;
        Ok((*channels, sizes.try_into().map_err(|_| takes())?))
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.values {
            Values::Numbers => Dtype::F32.name(),
            Values::Tokens(_) => Dtype::I64.name(),
        };
        write!(f, "{:?} of {kind}", self.shape)
    }
}

impl Refusal {
    fn takes(what: impl Into<String>) -> Self {
        Self::Takes(what.into())
    }
}

impl Layer {
    /// Reads the layer at a place in a list.
    pub(super) fn read(message: &v1::Layer, fields: Fields<'_>) -> Option<Self> {
        Self::choose(message.kind.as_ref(), fields, "names no layer; choose one")
    }

    /// The message that it was read from.
    pub(super) fn to_proto(&self) -> v1::Layer {
        v1::Layer { kind: Some(self.to_kind()) }
    }
}

/// A dimension of an example of that rank, counted from 0, for one that counts the examples as well
/// or counts from the last one where it is negative; None where there is none.
pub fn dimension(wanted: i32, rank: usize) -> Option<usize> {
    let place = match usize::try_from(wanted) {
        Ok(place) => place.checked_sub(1)?,
        Err(_) => rank.checked_sub(usize::try_from(wanted.unsigned_abs()).ok()?)?,
    };
    (place < rank).then_some(place)
}

/// A size as a tensor has it.
fn size(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// The number of places of a window along a line.
///
/// # Errors
/// The window is longer than the line.
fn places(line: u64, window: u32, stride: u32, padding: u32, dilation: u32) -> Result<u64, Refusal> {
    // All four are of 32 bits, and so are their products of 64.
    let (edges, reach) = (2 * u64::from(padding), u64::from(window.saturating_sub(1)) * u64::from(dilation) + 1);
    let too_short = || Refusal::takes(format!("sizes from {} on", reach.saturating_sub(edges)));
    let room = line.saturating_add(edges).checked_sub(reach).ok_or_else(too_short)?;
    Ok((room / u64::from(stride.max(1))).saturating_add(1))
}
