//! The networks: a family that tells its modules is computed by `model/tree.rs`. Any other is a
//! file in `model/`, one in `src/job/spec/model/`, and a line in each registry.

mod exported;
mod gpt;
mod held;
mod torchscript;
mod tree;
mod vit;

use std::io;

use tch::{Device, Tensor};
use torchd::job::spec::module::Module;
use torchd::job::spec::{Model, Weight};
use torchd::journal::JobFolder;
use torchd::proto::v1::JobEndReason;

use crate::failure::{Failure, Result};
use crate::feed::Batch;
use crate::stateful::{Stateful, Tensors};
pub(crate) use held::Held;

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

    /// Why a step of it cannot be captured as a CUDA graph, as far as is known; None where it can.
    fn waits(&self) -> Option<String> {
        None
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

/// The computation of a network that torchd builds.
trait Forward {
    /// The output for a batch, `[size, ...]`.
    fn forward(&self, batch: &Batch, mode: Mode) -> Result<Tensor>;
}

/// A network that torchd builds.
struct Built {
    held: Held,
    forward: Box<dyn Forward>,
}

impl Network for Built {
    fn forward(&self, batch: &Batch, mode: Mode) -> Result<Outputs> {
        Ok(self.forward.forward(batch, mode)?.into())
    }

    fn parameters(&self) -> &Parameters {
        self.held.parameters()
    }

    fn result(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.held.all(put)
    }
}

impl Stateful for Built {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.held.save(put)
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.held.load(tensors)
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
    /// A TorchScript module.
    Script(Box<torchscript::Net>),
}

/// Opens the files of a model, which knows what is in them afterwards. `is_new`: the job begins,
/// and does not go on from a checkpoint.
pub(crate) fn open(model: &mut Model, folder: &JobFolder, is_new: bool, device: Device) -> Result<Opened> {
    Ok(match model {
        Model::Torchscript(settings) => Opened::Script(Box::new(torchscript::Net::open(settings, folder, device)?)),
        Model::Exported(settings) => Opened::Exported(Box::new(exported::Opened::open(settings, folder, is_new)?)),
        _ => Opened::Family,
    })
}

/// Runs a model that is code on some examples, without learning from them: it knows what it gives
/// afterwards. Other models know already.
pub(crate) fn see(model: &mut Model, opened: &mut Opened, batch: impl FnOnce() -> Result<Batch>) -> Result<()> {
    match (model, opened) {
        (Model::Torchscript(settings), Opened::Script(net)) => net.see(settings, &batch()?),
        _ => Ok(()),
    }
}

/// The beginning of a network.
pub(crate) struct Beginning<'a> {
    /// The sizes of its output for an example.
    pub(crate) output: &'a [u64],
    /// Its tensors.
    pub(crate) weights: &'a [Weight],
    /// Its modules, if its family is a tree of these.
    pub(crate) modules: Option<&'a Module>,
    /// The seed of those that are drawn.
    pub(crate) seed: u64,
    /// Weights of four dimensions have the second one last in memory.
    pub(crate) channels_last: bool,
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
    let Beginning { output, weights, modules, seed, channels_last, is_new } = *beginning;
    match opened {
        Opened::Exported(opened) => return Ok(Box::new(exported::Net::new(*opened, output, device, is_new)?)),
        Opened::Script(net) => return Ok(net),
        Opened::Family => {}
    }
    let held = Held::draw(weights, seed, device, channels_last)?;
    let forward: Box<dyn Forward> = match (model, modules) {
        (_, Some(modules)) => Box::new(tree::Tree::new(modules, "", &held)),
        (Model::Vit(settings), None) => Box::new(vit::Vit::new(*settings, &held)?),
        (Model::Gpt(settings), None) => Box::new(gpt::Gpt::new(*settings, &held)?),
        (other, None) => {
            let what = format!("{} has neither modules nor files that are open", other.name());
            return Err(Failure::new(JobEndReason::Internal, what));
        }
    };
    Ok(Box::new(Built { held, forward }))
}

impl Parameters {
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

    /// Numbers that can be learned.
    pub(crate) fn count(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.numel() as u64).sum()
    }
}
