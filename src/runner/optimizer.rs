//! The optimizers: each is a file in `optimizer/`, one in `src/job/spec/optimizer/`, and a line in
//! each registry.

mod adamw;
mod sgd;
#[cfg(test)]
mod tests;

use tch::{TchError, Tensor};
use torchd::job::spec::Optimizer as Settings;
use torchd::job::spec::optimizer::slot_name;

use crate::dispatcher::Handle;
use crate::failure::Result;
use crate::model::Parameters;
use crate::stateful::{Stateful, Tensors};

/// Turns gradients into new weights. Before its first step it keeps nothing.
pub(crate) trait Optimizer: Stateful {
    /// Moves each parameter by its gradient, in the order of the parameters, at that learning rate.
    /// A parameter without one stays. The gradients are laid out in memory as the parameters are.
    fn step(&mut self, parameters: &Parameters, gradients: &[Option<Tensor>], rate: f64) -> Result<()>;
}

/// The optimizer of a spec for these parameters.
pub(crate) fn build(settings: &Settings, parameters: &Parameters) -> Result<Box<dyn Optimizer>> {
    Ok(match settings {
        Settings::Sgd(settings) => Box::new(sgd::Sgd::new(*settings, parameters)?),
        Settings::Adamw(settings) => Box::new(adamw::AdamW::new(*settings, parameters)?),
    })
}

/// The gradients that there are, as an operator takes a list of them.
fn given(gradients: &[Option<Tensor>]) -> Vec<Handle<'_>> {
    gradients.iter().flatten().map(Handle::from).collect()
}

/// The tensors of the parameters that have a gradient, likewise.
fn moved<'a>(tensors: &'a [Tensor], gradients: &[Option<Tensor>]) -> Vec<Handle<'a>> {
    tensors.iter().zip(gradients).filter(|(_, gradient)| gradient.is_some()).map(|(tensor, _)| tensor.into()).collect()
}

/// Tensors that an optimizer keeps of each parameter; none before the first step.
struct Slot {
    name: &'static str,
    /// Parameters by name, for their shapes and devices.
    parameters: Vec<(String, Tensor)>,
    tensors: Vec<Tensor>,
}

impl Slot {
    fn new(name: &'static str, parameters: &Parameters) -> Self {
        let parameters = parameters.named().map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()));
        Self { name, parameters: parameters.collect(), tensors: Vec::new() }
    }

    /// Begins with zeros.
    fn clear(&mut self) -> std::result::Result<(), TchError> {
        let zeros = |(_, tensor): &(String, Tensor)| tensor.detach().f_zeros_like();
        self.tensors = self.parameters.iter().map(zeros).collect::<std::result::Result<_, _>>()?;
        Ok(())
    }
}

impl Stateful for Slot {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        let mut named = self.parameters.iter().zip(&self.tensors);
        named.try_for_each(|((name, _), tensor)| put(&slot_name(self.name, name), tensor))
    }

    /// Takes up tensors for all parameters, or for none.
    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.tensors = Vec::new();
        let names = self.parameters.iter().map(|(name, parameter)| (slot_name(self.name, name), parameter));
        let names: Vec<_> = names.collect();
        if names.iter().any(|(name, _)| tensors.has(name)) {
            let taken = names.iter().map(|(name, parameter)| tensors.like(name, parameter));
            self.tensors = taken.collect::<std::result::Result<_, _>>()?;
        }
        Ok(())
    }
}

/// The length of all gradients taken as one vector.
pub(crate) fn gradient_norm(gradients: &[Option<Tensor>]) -> std::result::Result<Tensor, TchError> {
    let norms = gradients.iter().flatten().map(Tensor::f_norm).collect::<std::result::Result<Vec<_>, _>>()?;
    Tensor::f_stack(&norms, 0)?.f_norm()
}

/// Scales gradients of that norm down to a longest one, by the formula of
/// `torch.nn.utils.clip_grad_norm_`. Waits for nothing.
pub(crate) fn clip(gradients: &mut [Option<Tensor>], norm: &Tensor, longest: f64) -> std::result::Result<(), TchError> {
    /// Keeps the quotient finite.
    const LEAST: f64 = 1e-6;
    let ratio = norm.f_add_scalar(LEAST)?.f_reciprocal()?.f_mul_scalar(longest)?.f_clamp_max(1.0)?;
    for gradient in gradients.iter_mut().flatten() {
        let _ = gradient.f_mul_(&ratio)?;
    }
    Ok(())
}
