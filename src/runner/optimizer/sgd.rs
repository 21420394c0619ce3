//! Stochastic gradient descent (`torch.optim.SGD`), bit for bit as PyTorch's own loop does it.
//!
//! The operator that does a whole step in one pass over memory rounds momentum once where the loop
//! rounds twice. So momentum goes by operators over lists, and the descent alone by that operator.

use tch::Tensor;
use torchd::exported::arithmetic::Number;
use torchd::job::spec::optimizer::{Rule, Sgd as Settings};

use super::lists::Lists;
use super::slots::Slots;
use super::{Method, Step, given, moved};
use crate::dispatcher::{Argument, Call, Handle};
use crate::failure::Result;
use crate::model::Parameters;
use crate::stateful::{Stateful, Tensors};

/// The optimizer with its state.
pub(super) struct Sgd {
    settings: Settings,
    /// No slot without momentum. The first step takes the gradient as it is.
    velocities: Slots,
    lists: Lists,
    /// parameters, directions, learning rate
    descend: Call,
    /// The same with a learning rate on the device.
    descend_there: Call,
}

impl Sgd {
    pub(super) fn new(settings: Settings, parameters: &Parameters) -> Result<Self> {
        let number = |number| Argument::Number(Number::Float(number));
        let truth = |is| Argument::Number(Number::Bool(is));
        let none = Argument::None;
        // With momentum it is part of the direction.
        let decay = if settings.momentum == 0.0 { settings.weight_decay } else { 0.0 };
        // self, grads, momentum_buffer_list, weight_decay, momentum, lr, dampening, nesterov,
        // maximize, is_first_step, grad_scale, found_inf
        #[rustfmt::skip]
        let arguments = [
            none, none, Argument::Tensors(&[]), number(decay), number(0.0), none, number(0.0), truth(false),
            truth(false), truth(false), none, none,
        ];
        Ok(Self {
            settings,
            velocities: Slots::new(settings.slots(), parameters),
            lists: Lists::new()?,
            descend: Call::prepare("aten::_fused_sgd_", "", &arguments)?,
            descend_there: Call::prepare("aten::_fused_sgd_", "tensor_lr", &arguments)?,
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
        let lists = &self.lists;
        if weight_decay != 0.0 {
            lists.add(&gradients, weights, weight_decay)?;
        }
        if is_first {
            lists.copy(&velocities, &gradients)?;
        } else {
            lists.scale(&velocities, momentum)?;
            lists.add(&velocities, &gradients, 1.0 - dampening)?;
        }
        if !nesterov {
            return Ok(velocities);
        }
        lists.add(&gradients, &velocities, momentum)?;
        Ok(gradients)
    }
}

impl Method for Sgd {
    fn step(&mut self, &Step { weights, gradients, rate, rate_there, .. }: &Step<'_>) -> Result<()> {
        let is_first = self.velocities.begin(0.0)?;
        let weights = moved(weights, gradients);
        let mut direction = given(gradients);
        if self.settings.momentum != 0.0 {
            direction = self.direction(&weights, direction, self.velocities.moved(0, gradients), is_first)?;
        }
        let (descend, rate) = match rate_there {
            Some(there) => (&self.descend_there, Argument::Tensor(there)),
            None => (&self.descend, Argument::Number(Number::Float(rate))),
        };
        descend.run(&[0, 1, 5], &[Argument::Tensors(&weights), Argument::Tensors(&direction), rate])?;
        Ok(())
    }
}

impl Stateful for Sgd {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.velocities.save(put)
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.velocities.load(tensors)
    }
}
