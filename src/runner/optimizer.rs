//! Stochastic gradient descent with momentum, by PyTorch's formula (`torch.optim.SGD`, dampening 0,
//! no Nesterov).

use std::collections::BTreeMap;

use tch::{TchError, Tensor};
use torchd::job::spec::{Optimizer, velocity_name};

/// The optimizer with its state.
pub(crate) struct Sgd {
    learning_rate: f64,
    momentum: f64,
    /// One velocity a parameter; empty before the first step, which takes the gradient as it is.
    velocities: Vec<Tensor>,
}

impl Sgd {
    /// An optimizer that has made no step.
    pub(crate) fn new(settings: Optimizer) -> Self {
        let Optimizer::Sgd { learning_rate, momentum } = settings;
        Self { learning_rate, momentum, velocities: Vec::new() }
    }

    /// What a checkpoint needs of it, by name: one velocity a parameter, none before the first
    /// step.
    pub(crate) fn state<'a>(&'a self, parameters: &'a [(&str, Tensor)]) -> impl Iterator<Item = (String, &'a Tensor)> {
        parameters.iter().zip(&self.velocities).map(|((name, _), velocity)| (velocity_name(name), velocity))
    }

    /// Takes up what a checkpoint holds: velocities for all of these parameters, or for none.
    pub(crate) fn restore(
        &mut self,
        state: &BTreeMap<String, Tensor>,
        parameters: &[(&str, Tensor)],
    ) -> Result<(), String> {
        let saved: Vec<_> = parameters.iter().map(|(name, _)| state.get(&velocity_name(name))).collect();
        if saved.iter().all(Option::is_none) {
            self.velocities = Vec::new();
            return Ok(());
        }
        let take = |((name, parameter), saved): (&(&str, Tensor), Option<&Tensor>)| {
            let saved = saved.ok_or_else(|| format!("{} is missing", velocity_name(name)))?;
            if saved.size() != parameter.size() || saved.kind() != parameter.kind() {
                return Err(format!("{} is {:?}; {:?} is needed", velocity_name(name), saved.size(), parameter.size()));
            }
            saved.f_to_device(parameter.device()).map_err(|error| error.to_string())
        };
        self.velocities = parameters.iter().zip(saved).map(take).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// The step size.
    pub(crate) fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    /// Moves each parameter against its gradient. The gradients are used up: the first become the
    /// velocities.
    pub(crate) fn step(&mut self, parameters: &[(&str, Tensor)], gradients: Vec<Tensor>) -> Result<(), TchError> {
        tch::no_grad(|| {
            if self.momentum == 0.0 {
                return self.descend(parameters, &gradients);
            }
            if self.velocities.is_empty() {
                self.velocities = gradients;
            } else {
                for (velocity, gradient) in self.velocities.iter_mut().zip(&gradients) {
                    let _ = velocity.f_mul_scalar_(self.momentum)?.f_add_(gradient)?;
                }
            }
            self.descend(parameters, &self.velocities)
        })
    }

    fn descend(&self, parameters: &[(&str, Tensor)], directions: &[Tensor]) -> Result<(), TchError> {
        for ((_, parameter), direction) in parameters.iter().zip(directions) {
            let _ = parameter.shallow_clone().f_add_(&direction.f_mul_scalar(-self.learning_rate)?)?;
        }
        Ok(())
    }
}

/// The length of all gradients taken as one vector.
pub(crate) fn gradient_norm(gradients: &[Tensor]) -> Result<f64, TchError> {
    let norms = gradients.iter().map(Tensor::f_norm).collect::<Result<Vec<_>, _>>()?;
    f64::try_from(Tensor::f_stack(&norms, 0)?.f_norm()?)
}
