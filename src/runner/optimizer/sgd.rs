//! Stochastic gradient descent (`torch.optim.SGD`), bit for bit as PyTorch's own loop does it.
//!
//! The operator that does a whole step in one pass over memory rounds momentum once where the loop
//! rounds twice. So momentum goes by operators over lists, and the descent alone by that operator.

use tch::Tensor;
use torchd::exported::arithmetic::Number;
use torchd::job::spec::optimizer::{Rule, Sgd as Settings};

use super::{Method, Slot, Step, given, moved};
use crate::dispatcher::{Argument, Call, Handle};
use crate::failure::Result;
use crate::model::Parameters;
use crate::stateful::{Stateful, Tensors};

/// The optimizer with its state.
pub(super) struct Sgd {
    settings: Settings,
    /// None without momentum. The first step takes the gradient as it is.
    velocity: Option<Slot>,
    /// tensors, other tensors
    copy: Call,
    /// tensors, factor
    scale: Call,
    /// tensors, other tensors, factor of these
    add: Call,
    /// parameters, directions, learning rate
    descend: Call,
}

impl Sgd {
    pub(super) fn new(settings: Settings, parameters: &Parameters) -> Result<Self> {
        let number = |number| Argument::Number(Number::Float(number));
        let truth = |is| Argument::Number(Number::Bool(is));
        let none = Argument::None;
        let velocity = settings.slots().first().map(|name| Slot::new(name, parameters));
        // With momentum it is part of the direction.
        let decay = if velocity.is_some() { 0.0 } else { settings.weight_decay };
        // self, grads, momentum_buffer_list, weight_decay, momentum, lr, dampening, nesterov,
        // maximize, is_first_step, grad_scale, found_inf
        #[rustfmt::skip]
        let arguments = [
            none, none, Argument::Tensors(&[]), number(decay), number(0.0), none, number(0.0), truth(false),
            truth(false), truth(false), none, none,
        ];
        Ok(Self {
            settings,
            velocity,
            copy: Call::prepare("aten::_foreach_copy_", "", &[none, none, truth(false)])?,
            scale: Call::prepare("aten::_foreach_mul_", "Scalar", &[none, none])?,
            add: Call::prepare("aten::_foreach_add_", "List", &[none, none, none])?,
            descend: Call::prepare("aten::_fused_sgd_", "", &arguments)?,
        })
    }

    /// The direction of the step, by way of the velocities: either these, or the gradients.
    fn direction<'a>(
        &self,
        weights: &[Handle<'_>],
        gradients: Vec<Handle<'a>>,
        velocities: Vec<Handle<'a>>,
        is_first: bool,
    ) -> Result<Vec<Handle<'a>>> {
        let Settings { learning_rate: _, momentum, dampening, nesterov, weight_decay } = self.settings;
        let number = |number| Argument::Number(Number::Float(number));
        let add = |to: &[Handle<'_>], other: &[Handle<'_>], factor: f64| {
            self.add.run(&[0, 1, 2], &[Argument::Tensors(to), Argument::Tensors(other), number(factor)]).map(drop)
        };
        if weight_decay != 0.0 {
            add(&gradients, weights, weight_decay)?;
        }
        if is_first {
            self.copy.run(&[0, 1], &[Argument::Tensors(&velocities), Argument::Tensors(&gradients)])?;
        } else {
            self.scale.run(&[0, 1], &[Argument::Tensors(&velocities), number(momentum)])?;
            add(&velocities, &gradients, 1.0 - dampening)?;
        }
        if !nesterov {
            return Ok(velocities);
        }
        add(&gradients, &velocities, momentum)?;
        Ok(gradients)
    }
}

impl Method for Sgd {
    fn step(&mut self, &Step { weights, gradients, rate, .. }: &Step<'_>) -> Result<()> {
        let is_first = self.velocity.as_ref().is_some_and(|velocity| velocity.tensors.is_empty());
        if let Some(velocity) = self.velocity.as_mut().filter(|_| is_first) {
            velocity.clear()?;
        }
        let weights = moved(weights, gradients);
        let direction = match &self.velocity {
            None => given(gradients),
            Some(velocity) => {
                let velocities = moved(&velocity.tensors, gradients);
                self.direction(&weights, given(gradients), velocities, is_first)?
            }
        };
        let rate = Argument::Number(Number::Float(rate));
        self.descend.run(&[0, 1, 5], &[Argument::Tensors(&weights), Argument::Tensors(&direction), rate])?;
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
