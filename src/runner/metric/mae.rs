//! The mean of absolute differences.

use tch::{Device, Kind, Tensor};
use torchd::job::spec::Metric as Settings;

use super::Metric;
use crate::failure::Result;
use crate::model::Outputs;
use crate::stateful::{Stateful, Tensors, zero};

/// Its sums.
pub(super) struct Mae {
    absolute: Tensor,
    numbers: Tensor,
}

impl Mae {
    pub(super) fn new(device: Device) -> Result<Self> {
        Ok(Self { absolute: zero(device)?, numbers: zero(device)? })
    }

    fn sums(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        Settings::Mae.sums().iter().copied().zip([&self.absolute, &self.numbers])
    }
}

impl Metric for Mae {
    fn name(&self) -> &str {
        Settings::Mae.name()
    }

    fn add(&mut self, outputs: &Outputs, targets: &Tensor) -> Result<()> {
        let apart = outputs.output.detach().f_view_as(targets)?.f_sub(targets)?.f_abs()?;
        let _ = self.absolute.f_add_(&apart.f_sum(Kind::Double)?)?;
        let _ = self.numbers.f_add_scalar_(targets.numel() as f64)?;
        Ok(())
    }

    fn value(&self) -> Result<f64> {
        Ok(f64::try_from(&self.absolute)? / f64::try_from(&self.numbers)?)
    }
}

impl Stateful for Mae {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.sums().try_for_each(|(name, sum)| put(name, sum))
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.sums().try_for_each(|(name, sum)| tensors.copy_to(name, sum))
    }
}
