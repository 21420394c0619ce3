//! Adam with decoupled weight decay (`torch.optim.AdamW`), by the operator that does a step in one
//! pass over memory.

use tch::Tensor;
use torchd::exported::arithmetic::Number;
use torchd::job::spec::optimizer::{AdamW as Settings, Rule};

use super::{Optimizer, Slot, given, moved};
use crate::dispatcher::{Argument, Call, Handle};
use crate::failure::Result;
use crate::model::Parameters;
use crate::stateful::{Stateful, Tensors};

/// The optimizer with its state.
pub(super) struct AdamW {
    settings: Settings,
    /// Means of gradients.
    mean: Slot,
    /// Means of squared gradients.
    square: Slot,
    /// Steps so far, as PyTorch counts them: a 32-bit float on the device. All parameters share it.
    steps: Tensor,
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
        let device = parameters.tensors().first().map_or(tch::Device::Cpu, Tensor::device);
        let steps = Tensor::f_zeros([], (tch::Kind::Float, device))?;
        Ok(Self { settings, mean, square, steps, step })
    }
}

impl Optimizer for AdamW {
    fn step(&mut self, parameters: &Parameters, gradients: &[Option<Tensor>], rate: f64) -> Result<()> {
        if self.mean.tensors.is_empty() {
            self.mean.clear()?;
            self.square.clear()?;
        }
        let _ = self.steps.f_add_scalar_(1)?;
        let (means, squares) = (moved(&self.mean.tensors, gradients), moved(&self.square.tensors, gradients));
        let (weights, gradients) = (moved(parameters.tensors(), gradients), given(gradients));
        let steps = vec![Handle::from(&self.steps); weights.len()];
        let arguments = [
            Argument::Tensors(&weights),
            Argument::Tensors(&gradients),
            Argument::Tensors(&means),
            Argument::Tensors(&squares),
            Argument::Tensors(&steps),
            Argument::Number(Number::Float(rate)),
        ];
        tch::no_grad(|| self.step.run(&PLACES, &arguments))?;
        Ok(())
    }
}

impl Stateful for AdamW {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.mean.save(put)?;
        self.square.save(put)?;
        self.settings.counters().iter().try_for_each(|counter| put(counter, &self.steps))
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.mean.load(tensors)?;
        self.square.load(tensors)?;
        self.settings.counters().iter().try_for_each(|counter| tensors.copy_to(counter, &self.steps))?;
        match (self.mean.tensors.is_empty(), self.square.tensors.is_empty()) {
            (true, false) | (false, true) => Err("it has one of exp_avg and exp_avg_sq, and both are needed".into()),
            (true, true) | (false, false) => Ok(()),
        }
    }
}
