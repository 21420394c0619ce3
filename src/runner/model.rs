//! The networks: a family is a file in `model/`, one in `src/job/spec/model/`, and a line in each
//! registry.

mod mlp;
mod mnist_cnn;

use tch::{Device, Kind, TchError, Tensor};
use torchd::job::spec::{Model, Parameter};

use crate::failure::Result;
use crate::feed::Batch;
use crate::seed::{Stream, derive};
use crate::stateful::{Stateful, Tensors};

/// Whether a network learns from a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Dropout drops.
    Train,
    /// It does not.
    Evaluate,
}

/// A network with its weights.
pub(crate) trait Network: Stateful {
    /// The output for a batch, `[size, ...]`.
    fn forward(&self, batch: &Batch, mode: Mode) -> Result<Tensor>;

    /// What it learns.
    fn parameters(&self) -> &Parameters;
}

/// What a network learns, by PyTorch's names and in the order of its `state_dict`.
pub(crate) struct Parameters {
    names: Vec<String>,
    tensors: Vec<Tensor>,
}

/// The network of a spec with these weights.
pub(crate) fn build(model: &Model, parameters: Parameters) -> Box<dyn Network> {
    match model {
        Model::MnistCnn(settings) => Box::new(mnist_cnn::MnistCnn::new(*settings, parameters)),
        Model::Mlp(settings) => Box::new(mlp::Mlp::new(settings, parameters)),
    }
}

impl Parameters {
    /// Initial weights. They are drawn on the CPU, so that every device begins with the same.
    pub(crate) fn draw(wanted: &[Parameter], seed: u64, device: Device) -> std::result::Result<Self, TchError> {
        tch::manual_seed(derive(seed, Stream::Weights) as i64);
        let draw = |Parameter { shape, bound, .. }: &Parameter| {
            let values = Tensor::f_empty(shape, (Kind::Float, Device::Cpu))?.f_uniform_(-bound, *bound)?;
            values.f_to_device(device)?.f_set_requires_grad(true)
        };
        let tensors = wanted.iter().map(draw).collect::<std::result::Result<_, _>>()?;
        Ok(Self { names: wanted.iter().map(|told| told.name.clone()).collect(), tensors })
    }

    /// The tensors.
    pub(crate) fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Names and tensors.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.names.iter().map(String::as_str).zip(&self.tensors)
    }

    /// The tensor at a place in the order.
    pub(crate) fn at(&self, place: usize) -> &Tensor {
        &self.tensors[place]
    }

    /// Numbers that can be learned.
    pub(crate) fn count(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.numel() as u64).sum()
    }
}

impl Stateful for Parameters {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.named().try_for_each(|(name, tensor)| put(name, tensor))
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.named().try_for_each(|(name, tensor)| tensors.copy_to(name, tensor))
    }
}
