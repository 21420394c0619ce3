//! The share of targets whose class has the highest score.

use tch::{Device, Kind, Tensor};
use torchd::job::spec::Metric as Settings;
use torchd::job::spec::loss::Classes;

use super::Metric;
use crate::failure::Result;
use crate::model::Outputs;
use crate::stateful::{Stateful, Tensors, zero};

/// Its sums.
pub(super) struct Accuracy {
    classes: Classes,
    ignored: Option<i64>,
    correct: Tensor,
    labels: Tensor,
}

impl Accuracy {
    pub(super) fn new(classes: Classes, ignored: Option<i64>, device: Device) -> Result<Self> {
        Ok(Self { classes, ignored, correct: zero(device)?, labels: zero(device)? })
    }

    fn sums(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        Settings::Accuracy.sums().iter().copied().zip([&self.correct, &self.labels])
    }
}

impl Metric for Accuracy {
    fn name(&self) -> &str {
        Settings::Accuracy.name()
    }

    fn add(&mut self, outputs: &Outputs, targets: &Tensor) -> Result<()> {
        let dimension = match self.classes {
            Classes::First => 1,
            Classes::Last => -1,
        };
        let hits = outputs.output.detach().f_argmax(dimension, false)?.f_eq_tensor(targets)?;
        match self.ignored {
            None => {
                let _ = self.correct.f_add_(&hits.f_sum(Kind::Double)?)?;
                let _ = self.labels.f_add_scalar_(targets.numel() as f64)?;
            }
            Some(ignored) => {
                let counts = targets.f_ne(ignored)?;
                let _ = self.correct.f_add_(&hits.f_logical_and(&counts)?.f_sum(Kind::Double)?)?;
                let _ = self.labels.f_add_(&counts.f_sum(Kind::Double)?)?;
            }
        }
        Ok(())
    }

    fn value(&self) -> Result<f64> {
        Ok(f64::try_from(&self.correct)? / f64::try_from(&self.labels)?)
    }
}

impl Stateful for Accuracy {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.sums().try_for_each(|(name, sum)| put(name, sum))
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        for (name, sum) in self.sums() {
            // Checkpoints of earlier versions hold a label an example, and do not tell so.
            if name == "sums.labels" && !tensors.has(name) {
                let _ = sum.shallow_clone().f_fill_(tensors.examples as f64).map_err(|error| error.to_string())?;
            } else {
                tensors.copy_to(name, sum)?;
            }
        }
        Ok(())
    }
}
