//! Adam (`torch.optim.Adam` and `torch.optim.AdamW`, both with `fused=True`), by the operators that
//! do a step in one pass over memory.

use tch::Tensor;
use torchd::exported::arithmetic::Number;
use torchd::job::spec::optimizer::{Adam as Settings, AdamW, Rule};

use super::slots::Slots;
use super::{Method, Step, given, moved};
use crate::dispatcher::{Argument, Call, Handle};
use crate::failure::Result;
use crate::model::Parameters;
use crate::stateful::{Stateful, Tensors};

/// The optimizer with its state.
pub(super) struct Adam {
    /// Means of gradients, means of squared gradients, and with amsgrad the largest of the latter.
    slots: Slots,
    step: Call,
    /// The same with a learning rate on the device.
    step_there: Call,
}

/// The places of the arguments that each step has of its own: parameters, gradients, the three
/// slots, steps, and rate.
const PLACES: [usize; 7] = [0, 1, 2, 3, 4, 5, 6];

impl Adam {
    /// With the weight decay in the gradient.
    pub(super) fn new(settings: Settings, parameters: &Parameters) -> Result<Self> {
        Self::of("aten::_fused_adam_", settings, settings.slots(), parameters)
    }

    /// With decoupled weight decay.
    pub(super) fn decoupled(settings: AdamW, parameters: &Parameters) -> Result<Self> {
        let AdamW { learning_rate, beta1, beta2, epsilon, weight_decay, amsgrad } = settings;
        let numbers = Settings { learning_rate, beta1, beta2, epsilon, weight_decay, amsgrad };
        Self::of("aten::_fused_adamw_", numbers, settings.slots(), parameters)
    }

    fn of(operator: &str, numbers: Settings, slots: &'static [&'static str], parameters: &Parameters) -> Result<Self> {
        let Settings { learning_rate: _, beta1, beta2, epsilon, weight_decay, amsgrad } = numbers;
        let number = |number| Argument::Number(Number::Float(number));
        let truth = |is| Argument::Number(Number::Bool(is));
        let none = Argument::None;
        // self, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, state_steps, lr, beta1, beta2,
        // weight_decay, eps, amsgrad, maximize, grad_scale, found_inf
        #[rustfmt::skip]
        let arguments = [
            none, none, none, none, none, none, none, number(beta1), number(beta2),
            number(weight_decay), number(epsilon), truth(amsgrad), truth(false), none, none,
        ];
        let call = |overload| Call::prepare(operator, overload, &arguments);
        Ok(Self { slots: Slots::new(slots, parameters), step: call("")?, step_there: call("tensor_lr")? })
    }
}

impl Method for Adam {
    fn step(&mut self, &Step { weights, gradients, rate, rate_there, count }: &Step<'_>) -> Result<()> {
        self.slots.begin(0.0)?;
        let [means, squares, largest] = [0, 1, 2].map(|slot| self.slots.moved(slot, gradients));
        let (weights, gradients) = (moved(weights, gradients), given(gradients));
        let counts = vec![Handle::from(count); weights.len()];
        let (step, rate) = match rate_there {
            Some(there) => (&self.step_there, Argument::Tensor(there)),
            None => (&self.step, Argument::Number(Number::Float(rate))),
        };
        let arguments = [
            Argument::Tensors(&weights),
            Argument::Tensors(&gradients),
            Argument::Tensors(&means),
            Argument::Tensors(&squares),
            Argument::Tensors(&largest),
            Argument::Tensors(&counts),
            rate,
        ];
        step.run(&PLACES, &arguments)?;
        Ok(())
    }
}

impl Stateful for Adam {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.slots.save(put)
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.slots.load(tensors)
    }
}
