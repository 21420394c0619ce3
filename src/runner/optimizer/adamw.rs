//! Adam with decoupled weight decay (`torch.optim.AdamW`), by the operator that does a step in one
//! pass over memory.

use tch::Tensor;
use torchd::exported::arithmetic::Number;
use torchd::job::spec::optimizer::{AdamW as Settings, Rule};

use super::{Method, Slot, Step, given, moved};
use crate::dispatcher::{Argument, Call, Handle};
use crate::failure::Result;
use crate::model::Parameters;
use crate::stateful::{Stateful, Tensors};

/// The optimizer with its state.
pub(super) struct AdamW {
    /// Means of gradients.
    mean: Slot,
    /// Means of squared gradients.
    square: Slot,
    step: Call,
}

/// The places of the arguments that each step has of its own: parameters, gradients, their means,
/// means of squares, steps, and rate.
const PLACES: [usize; 6] = [0, 1, 2, 3, 5, 6];

impl AdamW {
    pub(super) fn new(settings: Settings, parameters: &Parameters) -> Result<Self> {
        let Settings { learning_rate: _, beta1, beta2, epsilon, weight_decay } = settings;
        let number = |number| Argument::Number(Number::Float(number));
        let (none, no) = (Argument::None, Argument::Number(Number::Bool(false)));
        // self, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, state_steps, lr, beta1, beta2,
        // weight_decay, eps, amsgrad, maximize, grad_scale, found_inf
        #[rustfmt::skip]
        let arguments = [
            none, none, none, none, Argument::Tensors(&[]), none, none, number(beta1), number(beta2),
            number(weight_decay), number(epsilon), no, no, none, none,
        ];
        let step = Call::prepare("aten::_fused_adamw_", "", &arguments)?;
        let [mean, square] = [0, 1].map(|place| Slot::new(settings.slots()[place], parameters));
        Ok(Self { mean, square, step })
    }
}

impl Method for AdamW {
    fn step(&mut self, &Step { weights, gradients, rate, count }: &Step<'_>) -> Result<()> {
        if self.mean.tensors.is_empty() {
            self.mean.clear()?;
            self.square.clear()?;
        }
        let (means, squares) = (moved(&self.mean.tensors, gradients), moved(&self.square.tensors, gradients));
        let (weights, gradients) = (moved(weights, gradients), given(gradients));
        let counts = vec![Handle::from(count); weights.len()];
        let arguments = [
            Argument::Tensors(&weights),
            Argument::Tensors(&gradients),
            Argument::Tensors(&means),
            Argument::Tensors(&squares),
            Argument::Tensors(&counts),
            Argument::Number(Number::Float(rate)),
        ];
        self.step.run(&PLACES, &arguments)?;
        Ok(())
    }
}

impl Stateful for AdamW {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.mean.save(put)?;
        self.square.save(put)
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.mean.load(tensors)?;
        self.square.load(tensors)?;
        match (self.mean.tensors.is_empty(), self.square.tensors.is_empty()) {
            (true, false) | (false, true) => Err("it has one of exp_avg and exp_avg_sq, and both are needed".into()),
            (true, true) | (false, false) => Ok(()),
        }
    }
}
