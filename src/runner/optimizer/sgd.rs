//! Stochastic gradient descent (`torch.optim.SGD`), by the operator that does a step in one pass
//! over memory.

use tch::Tensor;
use torchd::exported::arithmetic::Number;
use torchd::job::spec::optimizer::{Rule, Sgd as Settings};

use super::{Optimizer, Slot, handles};
use crate::dispatcher::{Argument, Call};
use crate::failure::Result;
use crate::model::Parameters;
use crate::stateful::{Stateful, Tensors};

/// The optimizer with its state.
pub(super) struct Sgd {
    /// None without momentum. The first step takes the gradient as it is.
    velocity: Option<Slot>,
    step: Call,
}

/// The places of the arguments that each step has of its own: parameters, gradients, velocities,
/// rate, and whether it is the first.
const PLACES: [usize; 5] = [0, 1, 2, 5, 9];

impl Sgd {
    pub(super) fn new(settings: Settings, parameters: &Parameters) -> Result<Self> {
        let Settings { learning_rate: _, momentum, dampening, nesterov, weight_decay } = settings;
        let number = |number| Argument::Number(Number::Float(number));
        let truth = |is| Argument::Number(Number::Bool(is));
        let none = Argument::None;
        // self, grads, momentum_buffer_list, weight_decay, momentum, lr, dampening, nesterov,
        // maximize, is_first_step, grad_scale, found_inf
        #[rustfmt::skip]
        let arguments = [
            none, none, none, number(weight_decay), number(momentum), none, number(dampening), truth(nesterov),
            truth(false), none, none, none,
        ];
        let step = Call::prepare("aten::_fused_sgd_", "", &arguments)?;
        Ok(Self { velocity: settings.slots().first().map(|name| Slot::new(name, parameters)), step })
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, parameters: &Parameters, gradients: Vec<Tensor>, rate: f64) -> Result<()> {
        let is_first = self.velocity.as_ref().is_some_and(|velocity| velocity.tensors.is_empty());
        if let Some(velocity) = self.velocity.as_mut().filter(|_| is_first) {
            velocity.clear()?;
        }
        let velocities = self.velocity.as_ref().map_or(&[][..], |velocity| &velocity.tensors);
        let (weights, gradients, velocities) =
            (handles(parameters.tensors()), handles(&gradients), handles(velocities));
        let arguments = [
            Argument::Tensors(&weights),
            Argument::Tensors(&gradients),
            Argument::Tensors(&velocities),
            Argument::Number(Number::Float(rate)),
            Argument::Number(Number::Bool(is_first)),
        ];
        tch::no_grad(|| self.step.run(&PLACES, &arguments))?;
        Ok(())
    }
}

impl Stateful for Sgd {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.velocity.as_ref().map_or(Ok(()), |velocity| velocity.save(put))
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.velocity.as_mut().map_or(Ok(()), |velocity| velocity.load(tensors))
    }
}
