//! Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2). PyTorch
//! has none; the operations are those of the authors' code, in its order.

use tch::Tensor;
use torchd::job::spec::optimizer::{Lion as Settings, Rule};

use super::lists::{Lists, handles};
use super::slots::Slots;
use super::{Method, Step, given, moved};
use crate::failure::Result;
use crate::model::Parameters;
use crate::stateful::{Stateful, Tensors};

/// The optimizer with its state.
pub(super) struct Lion {
    settings: Settings,
    /// Means of gradients.
    means: Slots,
    lists: Lists,
}

impl Lion {
    pub(super) fn new(settings: Settings, parameters: &Parameters) -> Result<Self> {
        Ok(Self { settings, means: Slots::new(settings.slots(), parameters), lists: Lists::new()? })
    }
}

impl Method for Lion {
    fn step(&mut self, &Step { weights, gradients, rate, .. }: &Step<'_>) -> Result<()> {
        let Settings { learning_rate: _, beta1, beta2, weight_decay } = self.settings;
        self.means.begin(0.0)?;
        let means = self.means.moved(0, gradients);
        let (weights, gradients, lists) = (moved(weights, gradients), given(gradients), &self.lists);
        if weight_decay != 0.0 {
            lists.scale(&weights, 1.0 - rate * weight_decay)?;
        }
        let directions = lists.scaled(&means, beta1)?;
        let directions = handles(&directions);
        lists.add(&directions, &gradients, 1.0 - beta1)?;
        lists.signs(&directions)?;
        lists.add(&weights, &directions, -rate)?;
        lists.scale(&means, beta2)?;
        lists.add(&means, &gradients, 1.0 - beta2)?;
        Ok(())
    }
}

impl Stateful for Lion {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.means.save(put)
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.means.load(tensors)
    }
}
