//! The networks, with the parameter names, shapes and initial distributions that PyTorch gives them.

use tch::{Device, Kind, TchError, Tensor};
use torchd::job::spec::Model;

use crate::seed::{Stream, derive};

/// A network with its weights.
pub(crate) struct Network {
    kind: Model,
    /// Names as in PyTorch's `state_dict`, in its order.
    pub(crate) parameters: Vec<(&'static str, Tensor)>,
}

/// Name, shape, and the inputs of one output, which set the range of the initial values.
const MNIST_CNN: [(&str, &[i64], i64); 8] = [
    ("conv1.weight", &[10, 1, 5, 5], 25),
    ("conv1.bias", &[10], 25),
    ("conv2.weight", &[20, 10, 5, 5], 250),
    ("conv2.bias", &[20], 250),
    ("fc1.weight", &[50, 320], 320),
    ("fc1.bias", &[50], 320),
    ("fc2.weight", &[10, 50], 50),
    ("fc2.bias", &[10], 50),
];

impl Network {
    /// A network with initial weights. They are drawn on the CPU, so that every device begins with the same.
    pub(crate) fn new(kind: Model, seed: u64, device: Device) -> Result<Self, TchError> {
        let Model::MnistCnn { .. } = kind;
        tch::manual_seed(derive(seed, Stream::Weights) as i64);
        let mut parameters = Vec::new();
        for (name, shape, fan_in) in MNIST_CNN {
            // What torch.nn.Conv2d and torch.nn.Linear draw: uniform within 1/sqrt(fan_in), weights and biases alike.
            let bound = 1.0 / (fan_in as f64).sqrt();
            let values = Tensor::f_empty(shape, (Kind::Float, Device::Cpu))?.f_uniform_(-bound, bound)?;
            parameters.push((name, values.f_to_device(device)?.f_set_requires_grad(true)?));
        }
        Ok(Self { kind, parameters })
    }

    /// Trainable numbers.
    pub(crate) fn parameter_count(&self) -> u64 {
        self.parameters.iter().map(|(_, tensor)| tensor.numel() as u64).sum()
    }

    /// Log-probabilities `[batch, 10]` of images `[batch, 1, 28, 28]`.
    pub(crate) fn forward(&self, images: &Tensor, training: bool) -> Result<Tensor, TchError> {
        let Model::MnistCnn { dropout } = self.kind;
        let p = |place: usize| &self.parameters[place].1;
        let pool = |input: Tensor| input.f_max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false);
        let conv = |input: &Tensor, weight, bias| input.f_conv2d(weight, Some(bias), [1, 1], [0, 0], [1, 1], 1);
        let first = pool(conv(images, p(0), p(1))?)?.f_relu()?;
        let second = pool(conv(&first, p(2), p(3))?.f_feature_dropout(dropout, training)?)?.f_relu()?;
        let flat = second.f_view([-1, 320])?;
        let hidden = flat.f_linear(p(4), Some(p(5)))?.f_relu()?.f_dropout(dropout, training)?;
        hidden.f_linear(p(6), Some(p(7)))?.f_log_softmax(1, Kind::Float)
    }
}
