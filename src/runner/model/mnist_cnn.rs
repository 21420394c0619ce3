//! The notebook's network: two convolutions and two linear layers.

use tch::{Kind, Tensor};
use torchd::job::spec::model::MnistCnn as Settings;

use super::{Mode, Network, Outputs, Parameters};
use crate::failure::Result;
use crate::feed::Batch;
use crate::stateful::{Stateful, Tensors};

/// The network.
pub(super) struct MnistCnn {
    settings: Settings,
    parameters: Parameters,
}

impl MnistCnn {
    pub(super) fn new(settings: Settings, parameters: Parameters) -> Self {
        Self { settings, parameters }
    }
}

impl Network for MnistCnn {
    /// Log-probabilities `[size, 10]` of images `[size, 1, 28, 28]`.
    fn forward(&self, batch: &Batch, mode: Mode) -> Result<Outputs> {
        let (dropout, drops) = (self.settings.dropout, mode == Mode::Train);
        let p = |place| self.parameters.at(place);
        let pool = |input: Tensor| input.f_max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false);
        let conv = |input: &Tensor, weight, bias| input.f_conv2d(weight, Some(bias), [1, 1], [0, 0], [1, 1], 1);
        let first = pool(conv(&batch.inputs[0], p(0), p(1))?)?.f_relu()?;
        let second = pool(conv(&first, p(2), p(3))?.f_feature_dropout(dropout, drops)?)?.f_relu()?;
        let flat = second.f_view([-1, 320])?;
        let hidden = flat.f_linear(p(4), Some(p(5)))?.f_relu()?.f_dropout(dropout, drops)?;
        Ok(hidden.f_linear(p(6), Some(p(7)))?.f_log_softmax(1, Kind::Float)?.into())
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }
}

impl Stateful for MnistCnn {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.parameters.save(put)
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.parameters.load(tensors)
    }
}
