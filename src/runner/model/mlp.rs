//! A multilayer perceptron.

use tch::Tensor;
use torchd::job::spec::model::{Activation, Mlp as Settings};

use super::{Mode, Network, Outputs, Parameters};
use crate::failure::Result;
use crate::feed::Batch;
use crate::stateful::{Stateful, Tensors};

/// The network.
pub(super) struct Mlp {
    hidden: usize,
    activation: Activation,
    dropout: f64,
    parameters: Parameters,
}

impl Mlp {
    pub(super) fn new(settings: &Settings, parameters: Parameters) -> Self {
        let Settings { hidden, activation, dropout, .. } = settings;
        Self { hidden: hidden.len(), activation: *activation, dropout: *dropout, parameters }
    }
}

impl Network for Mlp {
    /// `[size, outputs]` of inputs `[size, ...]`.
    fn forward(&self, batch: &Batch, mode: Mode) -> Result<Outputs> {
        let linear = |input: &Tensor, layer: usize| {
            input.f_linear(self.parameters.at(2 * layer), Some(self.parameters.at(2 * layer + 1)))
        };
        let mut values = batch.inputs[0].f_view([batch.size, -1])?;
        for layer in 0..self.hidden {
            let hidden = linear(&values, layer)?;
            let active = match self.activation {
                Activation::Relu => hidden.f_relu()?,
                Activation::Gelu => hidden.f_gelu("none")?,
                Activation::Tanh => hidden.f_tanh()?,
            };
            values = active.f_dropout(self.dropout, mode == Mode::Train)?;
        }
        Ok(linear(&values, self.hidden)?.into())
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }
}

impl Stateful for Mlp {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.parameters.save(put)
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.parameters.load(tensors)
    }
}
