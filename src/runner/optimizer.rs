//! The optimizers: each is a file in `optimizer/`, one in `src/job/spec/optimizer/`, and a line in
//! each registry.

mod adagrad;
mod adam;
mod lion;
mod lists;
mod rmsprop;
mod sgd;
mod slots;
#[cfg(test)]
mod tests;

use tch::{Device, Kind, TchError, Tensor};
use torchd::job::spec::Optimizer as Settings;
use torchd::job::spec::optimizer::{Method as Choice, Share};

use crate::dispatcher::Handle;
use crate::failure::Result;
use crate::model::Parameters;
use crate::stateful::{Stateful, Tensors};

/// A way from gradients to new weights. Before its first step it keeps nothing.
trait Method: Stateful {
    /// Moves parameters by their gradients.
    fn step(&mut self, step: &Step<'_>) -> Result<()>;
}

/// A step of some parameters.
struct Step<'a> {
    /// The parameters.
    weights: &'a [Tensor],
    /// Their gradients, laid out in memory as the parameters are. A parameter without one stays.
    gradients: &'a [Option<Tensor>],
    /// The learning rate.
    rate: f64,
    /// The same as a 32-bit float on the device, by which the step goes where it is there.
    rate_there: Option<&'a Tensor>,
    /// The steps so far, this one included, as PyTorch counts them: a 32-bit float on the device.
    count: &'a Tensor,
}

/// The optimizer of a job: each group of parameters goes the way with numbers of its own.
pub(crate) struct Optimizer {
    /// The parameters that are trained, in the network's order.
    trained: Vec<Tensor>,
    groups: Vec<Group>,
    /// The name of the count in the state of a checkpoint, if the method needs it.
    counter: Option<&'static str>,
    count: Tensor,
}

/// Parameters that are trained alike.
struct Group {
    /// Their places among those that are trained.
    places: Vec<usize>,
    weights: Vec<Tensor>,
    rate_scale: f64,
    rate_there: Option<Tensor>,
    method: Box<dyn Method>,
}

/// The parameters of a group of the spec, or of none.
#[derive(Default)]
struct Members {
    group: Option<usize>,
    named: Vec<(String, Tensor)>,
    /// Their places among those that are trained.
    places: Vec<usize>,
}

impl Optimizer {
    /// The optimizer of a spec for these parameters. Those that the spec freezes want no gradient
    /// from here on.
    pub(crate) fn new(settings: &Settings, parameters: &Parameters) -> Result<Self> {
        let mut members: Vec<Members> = Vec::new();
        let mut trained = Vec::new();
        for (name, tensor) in parameters.named() {
            let group = match settings.groups.share(name) {
                Share::Plain => None,
                Share::Group(place) => Some(place),
                Share::Frozen => {
                    let _ = tensor.f_set_requires_grad(false)?;
                    continue;
                }
            };
            let place = members.iter().position(|known| known.group == group).unwrap_or_else(|| {
                members.push(Members { group, ..Members::default() });
                members.len() - 1
            });
            members[place].named.push((name.to_owned(), tensor.shallow_clone()));
            members[place].places.push(trained.len());
            trained.push(tensor.shallow_clone());
        }
        let group = |Members { group, named, places }| {
            let rate_scale = group.map_or(1.0, |place| settings.groups.groups[place].rate_scale);
            let parameters = Parameters::of(named.into_iter());
            let method = build(&settings.of_group(group), &parameters)?;
            Ok(Group { places, weights: parameters.into_tensors(), rate_scale, rate_there: None, method })
        };
        let groups = members.into_iter().map(group).collect::<Result<_>>()?;
        let device = parameters.tensors().first().map_or(Device::Cpu, Tensor::device);
        let count = Tensor::f_zeros([], (Kind::Float, device))?;
        Ok(Self { trained, groups, counter: settings.counter(), count })
    }

    /// The parameters that are trained, in the network's order: those that need gradients.
    pub(crate) fn trained(&self) -> &[Tensor] {
        &self.trained
    }

    /// Keeps the learning rate on the device from here on, as a 32-bit float, so that a captured
    /// step reads it there. Of use to methods whose operators take it so: sgd, adam and adamw.
    pub(crate) fn keep_rate_there(&mut self) -> Result<()> {
        let device = self.count.device();
        self.groups.iter_mut().try_for_each(|group| {
            group.rate_there = Some(Tensor::f_zeros([], (Kind::Float, device))?);
            Ok(())
        })
    }

    /// Sets the learning rate on the device, where it is kept there, without waiting.
    pub(crate) fn set_rate(&mut self, rate: f64) -> Result<()> {
        self.groups.iter_mut().try_for_each(|Group { rate_scale, rate_there, .. }| {
            rate_there.as_mut().map_or(Ok(()), |there| Ok(there.f_fill_(rate * *rate_scale).map(drop)?))
        })
    }

    /// Moves each parameter that is trained by its gradient, at that learning rate of the job, or
    /// at that which was set on the device. A parameter without a gradient stays. The gradients are laid out in memory as the parameters
    /// are.
    pub(crate) fn step(&mut self, gradients: &[Option<Tensor>], rate: f64) -> Result<()> {
        let Self { groups, count, .. } = self;
        let _ = count.f_add_scalar_(1)?;
        for Group { places, weights, rate_scale, rate_there, method } in groups {
            let (rate, rate_there) = (rate * *rate_scale, rate_there.as_ref());
            let chosen: Vec<_>;
            let gradients = if places.len() == gradients.len() {
                gradients
            } else {
                let taken = |&place: &usize| gradients[place].as_ref().map(Tensor::shallow_clone);
                chosen = places.iter().map(taken).collect();
                &chosen
            };
            tch::no_grad(|| method.step(&Step { weights, gradients, rate, rate_there, count }))?;
        }
        Ok(())
    }
}

impl Stateful for Optimizer {
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.groups.iter().try_for_each(|group| group.method.save(put))?;
        self.counter.map_or(Ok(()), |counter| put(counter, &self.count))
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.groups.iter_mut().try_for_each(|group| group.method.load(tensors))?;
        self.counter.map_or(Ok(()), |counter| tensors.copy_to(counter, &self.count))
    }
}

fn build(choice: &Choice, parameters: &Parameters) -> Result<Box<dyn Method>> {
    Ok(match choice {
        Choice::Sgd(settings) => Box::new(sgd::Sgd::new(*settings, parameters)?),
        Choice::Adamw(settings) => Box::new(adam::Adam::decoupled(*settings, parameters)?),
        Choice::Adam(settings) => Box::new(adam::Adam::new(*settings, parameters)?),
        Choice::Rmsprop(settings) => Box::new(rmsprop::RmsProp::new(*settings, parameters)?),
        Choice::Adagrad(settings) => Box::new(adagrad::Adagrad::new(*settings, parameters)?),
        Choice::Lion(settings) => Box::new(lion::Lion::new(*settings, parameters)?),
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

/// The length of all gradients taken as one vector.
pub(crate) fn gradient_norm(gradients: &[Option<Tensor>]) -> std::result::Result<Tensor, TchError> {
    let norms = gradients.iter().flatten().map(Tensor::f_norm).collect::<std::result::Result<Vec<_>, _>>()?;
    Tensor::f_stack(&norms, 0)?.f_norm()
}

/// Scales gradients of that norm down to a longest one, by the formula of
/// `torch.nn.utils.clip_grad_norm_`. Waits for nothing.
pub(crate) fn clip_norm(
    gradients: &mut [Option<Tensor>],
    norm: &Tensor,
    longest: f64,
) -> std::result::Result<(), TchError> {
    /// Keeps the quotient finite.
    const LEAST: f64 = 1e-6;
    let ratio = norm.f_add_scalar(LEAST)?.f_reciprocal()?.f_mul_scalar(longest)?.f_clamp_max(1.0)?;
    for gradient in gradients.iter_mut().flatten() {
        let _ = gradient.f_mul_(&ratio)?;
    }
    Ok(())
}

/// Moves each number of gradients to between `-largest` and `largest`, as
/// `torch.nn.utils.clip_grad_value_` does.
pub(crate) fn clip_value(gradients: &mut [Option<Tensor>], largest: f64) -> std::result::Result<(), TchError> {
    gradients.iter_mut().flatten().try_for_each(|gradient| gradient.f_clamp_(-largest, largest).map(drop))
}
