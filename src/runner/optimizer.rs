//! Stochastic gradient descent with momentum, by PyTorch's formula (`torch.optim.SGD`, dampening 0, no Nesterov).

use tch::{TchError, Tensor};
use torchd::job::spec::Optimizer;

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

    /// The step size.
    pub(crate) fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    /// Moves each parameter against its gradient. The gradients are used up: the first become the velocities.
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
