//! Stochastic gradient descent by PyTorch's formula (`torch.optim.SGD`).

use tch::{TchError, Tensor};
use torchd::job::spec::optimizer::{Rule, Sgd as Settings};

use super::{Optimizer, Slot};
use crate::failure::Result;
use crate::model::Parameters;
use crate::stateful::{Stateful, Tensors};

/// The optimizer with its state.
pub(super) struct Sgd {
    settings: Settings,
    /// None without momentum. The first step takes the gradient as it is.
    velocity: Option<Slot>,
}

impl Sgd {
    pub(super) fn new(settings: Settings, parameters: &Parameters) -> Self {
        let velocity = settings.slots().first().map(|name| Slot::new(name, parameters));
        Self { settings, velocity }
    }

    /// What each parameter is moved by, against its direction.
    fn directions(&mut self, gradients: Vec<Tensor>) -> std::result::Result<Vec<Tensor>, TchError> {
        let Settings { momentum, dampening, nesterov, .. } = self.settings;
        let Some(velocity) = &mut self.velocity else { return Ok(gradients) };
        if velocity.tensors.is_empty() {
            velocity.tensors = gradients.iter().map(Tensor::f_detach_copy).collect::<std::result::Result<_, _>>()?;
        } else {
            for (velocity, gradient) in velocity.tensors.iter_mut().zip(&gradients) {
                let added =
                    if dampening == 0.0 { gradient.shallow_clone() } else { gradient.f_mul_scalar(1.0 - dampening)? };
                let _ = velocity.f_mul_scalar_(momentum)?.f_add_(&added)?;
            }
        }
        let look_ahead = |(velocity, gradient): (&Tensor, &Tensor)| {
            if nesterov { gradient.f_add(&velocity.f_mul_scalar(momentum)?) } else { Ok(velocity.shallow_clone()) }
        };
        velocity.tensors.iter().zip(&gradients).map(look_ahead).collect()
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, parameters: &Parameters, mut gradients: Vec<Tensor>, rate: f64) -> Result<()> {
        tch::no_grad(|| {
            if self.settings.weight_decay != 0.0 {
                for (gradient, parameter) in gradients.iter_mut().zip(parameters.tensors()) {
                    let _ = gradient.f_add_(&parameter.f_mul_scalar(self.settings.weight_decay)?)?;
                }
            }
            for (parameter, direction) in parameters.tensors().iter().zip(self.directions(gradients)?) {
                let _ = parameter.shallow_clone().f_add_(&direction.f_mul_scalar(-rate)?)?;
            }
            Ok(())
        })
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
