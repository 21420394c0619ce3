//! The state of an optimizer for each parameter: tensors of its shape, under a name each.

use tch::Tensor;
use torchd::job::spec::optimizer::slot_name;

use crate::dispatcher::Handle;
use crate::failure::Result;
use crate::model::Parameters;
use crate::stateful::{Stateful, Tensors};

/// The slots of an optimizer, in the order of the spec's half.
pub(super) struct Slots {
    names: &'static [&'static str],
    /// Parameters by name, for their shapes and devices.
    parameters: Vec<(String, Tensor)>,
    /// For each slot a tensor for each parameter; None before the first step.
    tensors: Option<Vec<Vec<Tensor>>>,
}

impl Slots {
    pub(super) fn new(names: &'static [&'static str], parameters: &Parameters) -> Self {
        let parameters = parameters.named().map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()));
        Self { names, parameters: parameters.collect(), tensors: None }
    }

    /// Before the first step, fills all slots with a number. Whether it did.
    pub(super) fn begin(&mut self, number: f64) -> Result<bool> {
        if self.tensors.is_some() {
            return Ok(false);
        }
        let filled = |(_, tensor): &(String, Tensor)| tensor.detach().f_full_like(number);
        let slot = |_: &&str| self.parameters.iter().map(filled).collect();
        self.tensors = Some(self.names.iter().map(slot).collect::<std::result::Result<_, _>>()?);
        Ok(true)
    }

    /// The tensors of a slot for the parameters that have a gradient; none of a slot that there is
    /// not.
    pub(super) fn moved(&self, slot: usize, gradients: &[Option<Tensor>]) -> Vec<Handle<'_>> {
        let tensors = self.tensors.as_ref().and_then(|tensors| tensors.get(slot));
        tensors.map_or_else(Vec::new, |tensors| super::moved(tensors, gradients))
    }
}

impl Stateful for Slots {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        for (slot, tensors) in self.names.iter().zip(self.tensors.iter().flatten()) {
            let mut named = self.parameters.iter().zip(tensors);
            named.try_for_each(|((name, _), tensor)| put(&slot_name(slot, name), tensor))?;
        }
        Ok(())
    }

    /// Takes up all slots of all parameters, or none.
    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        let has = |slot: &&str| self.parameters.iter().any(|(name, _)| tensors.has(&slot_name(slot, name)));
        self.tensors = None;
        if self.names.iter().any(has) {
            let mut take = |slot: &&str| {
                let parameters = self.parameters.iter();
                parameters.map(|(name, parameter)| tensors.like(&slot_name(slot, name), parameter)).collect()
            };
            self.tensors = Some(self.names.iter().map(&mut take).collect::<std::result::Result<_, _>>()?);
        }
        Ok(())
    }
}
