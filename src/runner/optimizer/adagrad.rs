//! Adagrad (`torch.optim.Adagrad` with `fused=True`), by the operator that does a step in one pass
//! over memory.

use tch::Tensor;
use torchd::exported::arithmetic::Number;
use torchd::job::spec::optimizer::{Adagrad as Settings, Rule};

use super::slots::Slots;
use super::{Method, Step, given, moved};
use crate::dispatcher::{Argument, Call, Handle};
use crate::failure::Result;
use crate::model::Parameters;
use crate::stateful::{Stateful, Tensors};

/// The optimizer with its state.
pub(super) struct Adagrad {
    /// Sums of squared gradients.
    sums: Slots,
    /// They begin with it.
    initial: f64,
    step: Call,
}

impl Adagrad {
    pub(super) fn new(settings: Settings, parameters: &Parameters) -> Result<Self> {
        let Settings { learning_rate: _, lr_decay, initial_accumulator_value, epsilon, weight_decay } = settings;
        let number = |number| Argument::Number(Number::Float(number));
        let (none, no) = (Argument::None, Argument::Number(Number::Bool(false)));
        // self, grads, state_sums, state_steps, lr, lr_decay, weight_decay, eps, maximize,
        // grad_scale, found_inf
        #[rustfmt::skip]
        let arguments = [
            none, none, none, none, none, number(lr_decay), number(weight_decay), number(epsilon), no, none, none,
        ];
        let step = Call::prepare("aten::_fused_adagrad_", "", &arguments)?;
        Ok(Self { sums: Slots::new(settings.slots(), parameters), initial: initial_accumulator_value, step })
    }
}

impl Method for Adagrad {
    fn step(&mut self, &Step { weights, gradients, rate, count, .. }: &Step<'_>) -> Result<()> {
        self.sums.begin(self.initial)?;
        let sums = self.sums.moved(0, gradients);
        let (weights, gradients) = (moved(weights, gradients), given(gradients));
        let counts = vec![Handle::from(count); weights.len()];
        let arguments = [
            Argument::Tensors(&weights),
            Argument::Tensors(&gradients),
            Argument::Tensors(&sums),
            Argument::Tensors(&counts),
            Argument::Number(Number::Float(rate)),
        ];
        self.step.run(&[0, 1, 2, 3, 4], &arguments)?;
        Ok(())
    }
}

impl Stateful for Adagrad {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.sums.save(put)
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.sums.load(tensors)
    }
}
