//! A metric that a network gives: a mean over the examples of a batch.

use tch::{Device, Kind, Tensor};
use torchd::job::spec::metric::own_sums;

use super::Metric;
use crate::failure::Result;
use crate::model::Outputs;
use crate::stateful::{Stateful, Tensors, zero};

/// Its sums.
pub(super) struct Own {
    name: String,
    /// Its place among the metrics of the network.
    place: usize,
    values: Tensor,
    examples: Tensor,
}

impl Own {
    pub(super) fn new(name: &str, place: usize, device: Device) -> Result<Self> {
        Ok(Self { name: name.to_owned(), place, values: zero(device)?, examples: zero(device)? })
    }

    fn sums(&self) -> impl Iterator<Item = (String, &Tensor)> {
        own_sums(&self.name).into_iter().zip([&self.values, &self.examples])
    }
}

impl Metric for Own {
    fn name(&self) -> &str {
        &self.name
    }

    fn add(&mut self, outputs: &Outputs, targets: &Tensor) -> Result<()> {
        let examples = targets.size().first().map_or(1.0, |&size| size as f64);
        let value = outputs.metrics[self.place].detach().f_to_kind(Kind::Double)?;
        let _ = self.values.f_add_(&value.f_mul_scalar(examples)?)?;
        let _ = self.examples.f_add_scalar_(examples)?;
        Ok(())
    }

    fn value(&self) -> Result<f64> {
        Ok(f64::try_from(&self.values)? / f64::try_from(&self.examples)?)
    }
}

impl Stateful for Own {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.sums().try_for_each(|(name, sum)| put(&name, sum))
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.sums().try_for_each(|(name, sum)| tensors.copy_to(&name, sum))
    }
}
