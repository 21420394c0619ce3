//! RMSprop (`torch.optim.RMSprop`), bit for bit as PyTorch's own loop does it: libtorch has no
//! operator for a whole step.

use tch::Tensor;
use torchd::job::spec::optimizer::{RmsProp as Settings, Rule};

use super::lists::{Lists, handles};
use super::slots::Slots;
use super::{Method, Step, given, moved};
use crate::failure::Result;
use crate::model::Parameters;
use crate::stateful::{Stateful, Tensors};

/// The optimizer with its state.
pub(super) struct RmsProp {
    settings: Settings,
    /// Means of squared gradients, where it is centered means of gradients, and with momentum
    /// directions.
    slots: Slots,
    lists: Lists,
}

impl RmsProp {
    pub(super) fn new(settings: Settings, parameters: &Parameters) -> Result<Self> {
        Ok(Self { settings, slots: Slots::new(settings.slots(), parameters), lists: Lists::new()? })
    }
}

impl Method for RmsProp {
    fn step(&mut self, &Step { weights, gradients, rate, .. }: &Step<'_>) -> Result<()> {
        let Settings { learning_rate: _, alpha, epsilon, weight_decay, momentum, centered } = self.settings;
        self.slots.begin(0.0)?;
        let squares = self.slots.moved(0, gradients);
        let means = self.slots.moved(1, gradients);
        let directions = self.slots.moved(1 + usize::from(centered), gradients);
        let (weights, gradients, lists) = (moved(weights, gradients), given(gradients), &self.lists);
        if weight_decay != 0.0 {
            lists.add(&gradients, &weights, weight_decay)?;
        }
        lists.scale(&squares, alpha)?;
        lists.add_square(&squares, &gradients, 1.0 - alpha)?;
        let roots = if centered {
            lists.mix(&means, &gradients, 1.0 - alpha)?;
            let variances = lists.with_square(&squares, &means, -1.0)?;
            lists.roots(&handles(&variances))?
        } else {
            lists.roots(&squares)?
        };
        let roots = handles(&roots);
        lists.add_number(&roots, epsilon)?;
        if momentum == 0.0 {
            lists.add_quotient(&weights, &gradients, &roots, -rate)?;
        } else {
            lists.scale(&directions, momentum)?;
            lists.add_quotient(&directions, &gradients, &roots, 1.0)?;
            lists.add(&weights, &directions, -rate)?;
        }
        Ok(())
    }
}

impl Stateful for RmsProp {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.slots.save(put)
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.slots.load(tensors)
    }
}
