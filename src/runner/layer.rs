//! The layers of torch.nn: a kind is a file in `layer/`, one in `src/job/spec/layer/`, and a line
//! in each registry. Layers that are alike share a file. Each calls the operator that PyTorch's
//! module calls, so that the numbers are the same.

mod activation;
mod attention;
mod convolution;
mod dropout;
mod embedding;
mod flatten;
mod linear;
mod normalization;
mod pool;
mod softmax;
mod transformer;

use tch::Tensor;
use torchd::job::spec::layer::Layer;

use crate::failure::Result;
use crate::model::Mode;
pub(crate) use attention::{Attention, heads_of};
pub(crate) use normalization::layer_norm;

/// The computation of a layer.
pub(crate) trait Forward {
    /// The output for an input `[size, ...]`. `tensors` are those that the rules of the layer tell,
    /// in their order.
    fn forward(&self, tensors: &[Tensor], input: &Tensor, mode: Mode) -> Result<Tensor>;
}

/// The computation of a layer.
pub(crate) fn forward(layer: &Layer) -> &dyn Forward {
    match layer {
        Layer::Linear(layer) => layer,
        Layer::Conv1d(layer) => layer,
        Layer::Conv2d(layer) => layer,
        Layer::BatchNorm1d(layer) => layer,
        Layer::BatchNorm2d(layer) => layer,
        Layer::LayerNorm(layer) => layer,
        Layer::GroupNorm(layer) => layer,
        Layer::Embedding(layer) => layer,
        Layer::Relu(layer) => layer,
        Layer::LeakyRelu(layer) => layer,
        Layer::Elu(layer) => layer,
        Layer::Gelu(layer) => layer,
        Layer::Silu(layer) => layer,
        Layer::Tanh(layer) => layer,
        Layer::Sigmoid(layer) => layer,
        Layer::Softmax(layer) => layer,
        Layer::LogSoftmax(layer) => layer,
        Layer::MaxPool1d(layer) => layer,
        Layer::MaxPool2d(layer) => layer,
        Layer::AvgPool2d(layer) => layer,
        Layer::AdaptiveAvgPool2d(layer) => layer,
        Layer::Dropout(layer) => layer,
        Layer::Dropout2d(layer) => layer,
        Layer::Flatten(layer) => layer,
        Layer::TransformerEncoderLayer(layer) => layer,
    }
}

/// Weight and bias of a layer, each of which it may do without.
fn pair(tensors: &[Tensor]) -> (Option<&Tensor>, Option<&Tensor>) {
    (tensors.first(), tensors.get(1))
}
