//! A network that is a tree of modules: every family that tells its modules is computed here.

use tch::Tensor;
use torchd::job::spec::layer::Layer;
use torchd::job::spec::module::{Module, within};

use super::{Forward, Held, Mode};
use crate::failure::Result;
use crate::feed::Batch;
use crate::layer;

/// A module with its tensors.
pub(super) enum Tree {
    Layer { layer: Layer, tensors: Vec<Tensor> },
    Row(Vec<Tree>),
    Sum(Box<[Tree; 2]>),
}

impl Tree {
    /// The tree of the module of that name, which is empty for the whole network.
    pub(super) fn new(module: &Module, name: &str, held: &Held) -> Self {
        match module {
            Module::Layer(layer) => Self::Layer { layer: layer.clone(), tensors: held.of(name) },
            Module::Row(modules) => {
                let named = modules.iter().map(|(inner, module)| Self::new(module, &within(name, inner), held));
                Self::Row(named.collect())
            }
            Module::Sum(first, second) => Self::Sum([first, second].map(|way| Self::new(way, name, held)).into()),
        }
    }

    fn output(&self, input: &Tensor, mode: Mode) -> Result<Tensor> {
        match self {
            Self::Layer { layer, tensors } => layer::forward(layer).forward(tensors, input, mode),
            Self::Row(modules) => {
                modules.iter().try_fold(input.shallow_clone(), |values, module| module.output(&values, mode))
            }
            Self::Sum(ways) => {
                let [first, second] = &**ways;
                Ok(first.output(input, mode)?.f_add(&second.output(input, mode)?)?)
            }
        }
    }
}

impl Forward for Tree {
    fn forward(&self, batch: &Batch, mode: Mode) -> Result<Tensor> {
        self.output(&batch.inputs[0], mode)
    }
}
