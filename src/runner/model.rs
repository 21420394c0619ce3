//! The networks: a family is a file in `model/`, one in `src/job/spec/model/`, and a line in each
//! registry.

mod exported;
mod mlp;
mod mnist_cnn;

use std::io;

use tch::{Device, Kind, TchError, Tensor};
use torchd::job::spec::{Model, Weight};
use torchd::journal::JobFolder;
use torchd::proto::v1::JobEndReason;

use crate::failure::{Failure, Result};
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
    /// The outputs for a batch.
    fn forward(&self, batch: &Batch, mode: Mode) -> Result<Outputs>;

    /// Its parameters.
    fn parameters(&self) -> &Parameters;

    /// Hands out what `state_dict()` has, by every name: tied tensors under each of theirs.
    fn result(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.save(put)
    }

    /// Buffers that `state_dict()` does not have, and that training goes on with.
    fn hidden(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }

    /// Writes what is left of a trained job besides the weights.
    fn write_artifacts(&self, _: &JobFolder) -> io::Result<()> {
        Ok(())
    }
}

/// The outputs of a network for a batch.
pub(crate) struct Outputs {
    /// `[size, ...]`; the mean loss of the batch, a single number, from a network that computes it.
    pub(crate) output: Tensor,
    /// The metrics that the network gives, each a single number: a mean over the batch.
    pub(crate) metrics: Vec<Tensor>,
}

impl Outputs {
    /// The same without gradients.
    pub(crate) fn detach(&self) -> Self {
        Self { output: self.output.detach(), metrics: self.metrics.iter().map(Tensor::detach).collect() }
    }
}

impl From<Tensor> for Outputs {
    fn from(output: Tensor) -> Self {
        Self { output, metrics: Vec::new() }
    }
}

/// The parameters of a network, by PyTorch's names and in the order of its `state_dict`.
pub(crate) struct Parameters {
    names: Vec<String>,
    tensors: Vec<Tensor>,
}

/// A model whose files, if it has any, are open.
pub(crate) enum Opened {
    /// A family of torchd's.
    Family,
    /// One that PyTorch exported.
    Exported(Box<exported::Opened>),
}

/// Opens the files of a model, which knows what is in them afterwards. `is_new`: the job begins,
/// and does not go on from a checkpoint.
pub(crate) fn open(model: &mut Model, folder: &JobFolder, is_new: bool) -> Result<Opened> {
    Ok(match model {
        Model::MnistCnn(_) | Model::Mlp(_) => Opened::Family,
        Model::Exported(settings) => Opened::Exported(Box::new(exported::Opened::open(settings, folder, is_new)?)),
    })
}

/// The beginning of a network.
pub(crate) struct Beginning<'a> {
    /// The sizes of its output for an example.
    pub(crate) output: &'a [u64],
    /// Its tensors.
    pub(crate) weights: &'a [Weight],
    /// The seed of those that are drawn.
    pub(crate) seed: u64,
    /// Whether the job begins here, and does not go on from a checkpoint.
    pub(crate) is_new: bool,
}

/// The network of a spec on a device.
pub(crate) fn build(
    model: &Model,
    opened: Opened,
    beginning: &Beginning<'_>,
    device: Device,
) -> Result<Box<dyn Network>> {
    let Beginning { output, weights, seed, is_new } = *beginning;
    let drawn = || Parameters::draw(weights, seed, device);
    Ok(match (model, opened) {
        (_, Opened::Exported(opened)) => Box::new(exported::Net::new(*opened, output, device, is_new)?),
        (Model::MnistCnn(settings), _) => Box::new(mnist_cnn::MnistCnn::new(*settings, drawn()?)),
        (Model::Mlp(settings), _) => Box::new(mlp::Mlp::new(settings, drawn()?)),
        (Model::Exported(_), Opened::Family) => {
            return Err(Failure::new(JobEndReason::Internal, "the files of the model were not opened"));
        }
    })
}

impl Parameters {
    /// Initial weights. They are drawn on the CPU, so that every device begins with the same.
    pub(crate) fn draw(wanted: &[Weight], seed: u64, device: Device) -> std::result::Result<Self, TchError> {
        tch::manual_seed(derive(seed, Stream::Weights) as i64);
        let draw = |Weight { shape, bound, .. }: &Weight| {
            let bound = bound.unwrap_or(0.0);
            let values = Tensor::f_empty(shape, (Kind::Float, Device::Cpu))?.f_uniform_(-bound, bound)?;
            values.f_to_device(device)?.f_set_requires_grad(true)
        };
        let tensors = wanted.iter().map(draw).collect::<std::result::Result<_, _>>()?;
        Ok(Self { names: wanted.iter().map(|told| told.name.clone()).collect(), tensors })
    }

    /// Weights that are there.
    pub(crate) fn of(named: impl Iterator<Item = (String, Tensor)>) -> Self {
        let (names, tensors) = named.unzip();
        Self { names, tensors }
    }

    /// The tensors.
    pub(crate) fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensors alone.
    pub(crate) fn into_tensors(self) -> Vec<Tensor> {
        self.tensors
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
