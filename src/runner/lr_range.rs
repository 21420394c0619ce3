//! The losses of a job that looks for a learning rate.

use tch::{Device, Kind, Tensor};
use torchd::job::spec::LrRange as Settings;

use crate::failure::Result;
use crate::stateful::{Stateful, Tensors};

/// The losses of the steps so far.
pub(crate) struct LrRange {
    settings: Settings,
    losses: Vec<f64>,
}

impl LrRange {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, losses: Vec::new() }
    }

    /// Takes the loss of a step in. Whether higher rates are worth a step.
    pub(crate) fn goes_on(&mut self, loss: f64) -> bool {
        if !loss.is_finite() {
            return false;
        }
        self.losses.push(loss);
        !self.settings.has_risen(&self.losses)
    }

    /// Forgets the losses behind a step: a checkpoint has room for all.
    pub(crate) fn cut(&mut self, step: u64) {
        self.losses.truncate(usize::try_from(step).unwrap_or(usize::MAX));
    }

    /// The end of the job, in words.
    pub(crate) fn proposal(&self) -> String {
        self.settings.proposal(&self.losses)
    }
}

impl Stateful for LrRange {
    /// As many losses as there are steps: those that have not come are 0.
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        let losses = Tensor::f_zeros([i64::from(self.settings.steps)], (Kind::Double, Device::Cpu))?;
        let mut begun = losses.f_narrow(0, 0, self.losses.len() as i64)?;
        begun.f_copy_(&Tensor::f_from_slice(&self.losses)?)?;
        put(Settings::LOSSES, &losses)
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        let like = Tensor::zeros([i64::from(self.settings.steps)], (Kind::Double, Device::Cpu));
        let losses = Vec::<f64>::try_from(tensors.like(Settings::LOSSES, &like)?).map_err(|error| error.to_string())?;
        self.losses = losses;
        Ok(())
    }
}
