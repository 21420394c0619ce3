//! The networks, with the parameter names, shapes and initial distributions that PyTorch gives
//! them.

use tch::{Device, Kind, TchError, Tensor};
use torchd::job::spec::{Model, Parameter};

use crate::seed::{Stream, derive};

/// A network with its weights.
pub(crate) struct Network {
    kind: Model,
    /// Names as in PyTorch's `state_dict`, in its order.
    pub(crate) parameters: Vec<(&'static str, Tensor)>,
}

impl Network {
    /// A network with initial weights. They are drawn on the CPU, so that every device begins with
    /// the same.
    pub(crate) fn new(kind: Model, seed: u64, device: Device) -> Result<Self, TchError> {
        tch::manual_seed(derive(seed, Stream::Weights) as i64);
        let mut parameters = Vec::new();
        for &Parameter { name, shape, fan_in } in kind.parameters() {
            // What torch.nn.Conv2d and torch.nn.Linear draw: uniform within 1/sqrt(fan_in), weights
            // and biases alike.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_parameters_that_requests_are_judged_by_and_computes_with_them() {
        let kind = Model::MnistCnn { dropout: 0.5 };
        let network = Network::new(kind, 1, Device::Cpu).unwrap();
        let built: Vec<_> = network.parameters.iter().map(|(name, tensor)| (*name, tensor.size())).collect();
        let judged: Vec<_> = kind.parameters().iter().map(|told| (told.name, told.shape.to_vec())).collect();
        assert_eq!(built, judged);
        assert!(network.parameters.iter().all(|(_, tensor)| tensor.kind() == Kind::Float));
        // The fan-in of a layer is what one of its outputs is computed from.
        for pair in kind.parameters().chunks(2) {
            let inputs: i64 = pair[0].shape[1..].iter().product();
            assert!(pair.iter().all(|told| told.fan_in == inputs), "{pair:?}");
        }
        let images = Tensor::zeros([2, 1, 28, 28], (Kind::Float, Device::Cpu));
        assert_eq!(network.forward(&images, false).unwrap().size(), [2, 10]);
    }
}
