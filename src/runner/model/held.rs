//! The tensors of a network that torchd builds: parameters and buffers, by PyTorch's names and in
//! the order of its `state_dict`. They are drawn here, and every part of the network shares them.

use tch::{Device, Kind, TchError, Tensor};
use torchd::exported::arithmetic::Number;
use torchd::exported::summary::Role;
use torchd::job::spec::Weight;
use torchd::job::spec::model::Initial;
use torchd::proto::v1::JobEndReason;
use torchd::tensor_file::Dtype;

use super::Parameters;
use crate::dispatcher::{Argument, Call, Output};
use crate::failure::{Failure, Result};
use crate::seed::{Stream, derive};
use crate::stateful::{Stateful, Tensors};

/// The tensors of a network.
pub(crate) struct Held {
    tensors: Vec<Named>,
    parameters: Parameters,
}

struct Named {
    name: String,
    tensor: Tensor,
    /// It stands under another name before.
    is_tied: bool,
}

impl Held {
    /// Initial tensors, drawn in the order of the list. They are drawn on the CPU, so that every
    /// device begins with the same. With `channels_last` those of four dimensions lie in memory
    /// with the second one last.
    pub(crate) fn draw(wanted: &[Weight], seed: u64, device: Device, channels_last: bool) -> Result<Self> {
        tch::manual_seed(derive(seed, Stream::Weights) as i64);
        let mut tensors: Vec<Named> = Vec::new();
        let mut learned = Vec::new();
        for weight in wanted {
            let tensor = match &weight.same_as {
                Some(first) => find(&tensors, first)?,
                None => {
                    let mut tensor = drawn(weight)?.f_to_device(device)?;
                    if channels_last && tensor.dim() == 4 {
                        tensor = with_channels_last(&tensor)?;
                    }
                    tensor.f_set_requires_grad(weight.role == Role::Learned)?
                }
            };
            if weight.is_learned() {
                learned.push((weight.name.clone(), tensor.shallow_clone()));
            }
            tensors.push(Named { name: weight.name.clone(), tensor, is_tied: weight.same_as.is_some() });
        }
        Ok(Self { tensors, parameters: Parameters::of(learned.into_iter()) })
    }

    /// The parameters.
    pub(crate) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The tensor of that name.
    pub(crate) fn at(&self, name: &str) -> Result<Tensor> {
        find(&self.tensors, name)
    }

    /// The tensors of the module of that name, in their order. All where it is empty.
    pub(crate) fn of(&self, module: &str) -> Vec<Tensor> {
        let is_in =
            |name: &str| module.is_empty() || name.strip_prefix(module).is_some_and(|rest| rest.starts_with('.'));
        self.tensors.iter().filter(|named| is_in(&named.name)).map(|named| named.tensor.shallow_clone()).collect()
    }

    /// Hands out every tensor by every name.
    pub(crate) fn all(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.tensors.iter().try_for_each(|named| put(&named.name, &named.tensor))
    }

    fn once(&self) -> impl Iterator<Item = &Named> {
        self.tensors.iter().filter(|named| !named.is_tied)
    }
}

impl Stateful for Held {
    /// Tied tensors once.
    fn save(&self, put: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<()> {
        self.once().try_for_each(|named| put(&named.name, &named.tensor))
    }

    fn load(&mut self, tensors: &mut Tensors) -> std::result::Result<(), String> {
        self.once().try_for_each(|named| tensors.copy_to(&named.name, &named.tensor))
    }
}

/// The same numbers with the channels last in memory. A copy, as the strides are then those of the
/// format also where a kernel has a single place.
fn with_channels_last(tensor: &Tensor) -> Result<Tensor> {
    /// c10's number of the memory format.
    const CHANNELS_LAST: i64 = 2;
    let format = Argument::Number(Number::Int(CHANNELS_LAST));
    match Call::prepare("aten::clone", "", &[Argument::Tensor(tensor), format])?.run(&[], &[])?.next() {
        Some(Output::Tensor(copy)) => Ok(copy),
        other => Err(Failure::new(JobEndReason::Internal, format!("aten::clone returned {other:?}"))),
    }
}

fn find(tensors: &[Named], name: &str) -> Result<Tensor> {
    let found = tensors.iter().find(|named| named.name == name);
    let missing = || Failure::new(JobEndReason::Internal, format!("the model has no tensor {name}"));
    Ok(found.ok_or_else(missing)?.tensor.shallow_clone())
}

/// Initial values, on the CPU.
fn drawn(weight: &Weight) -> std::result::Result<Tensor, TchError> {
    let empty = |kind| Tensor::f_empty(&weight.shape, (kind, Device::Cpu));
    let kind = if weight.dtype == Dtype::I64 { Kind::Int64 } else { Kind::Float };
    match weight.initial {
        Initial::Uniform(bound) => empty(kind)?.f_uniform_(-bound, bound),
        Initial::Normal(deviation) => empty(kind)?.f_normal_(0.0, deviation),
        Initial::TruncatedNormal(deviation) => {
            // The inverse of the distribution, of even numbers between its values at both ends. Of
            // 24 bits some are the end itself, whose inverse is infinite.
            let root = deviation * std::f64::consts::SQRT_2;
            let end = Tensor::from(2.0 / root).f_erf()?.f_double_value(&[])?;
            let mut even = empty(Kind::Double)?.f_uniform_(-end, end)?;
            even.f_erfinv_()?.f_mul_scalar_(root)?.f_clamp_(-2.0, 2.0)?.f_to_kind(kind)
        }
        Initial::Constant(value) => empty(kind)?.f_fill_(value),
        // Those come with the file.
        Initial::Given => empty(kind)?.f_zero_(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::tests::generator;

    #[test]
    fn initial_values_have_their_distribution() {
        let _alone = generator();
        let drawn = |initial| {
            let held = Held::draw(&[Weight::learned("weight", &[500, 400], initial)], 3, Device::Cpu, false).unwrap();
            held.at("weight").unwrap().detach().to_kind(Kind::Double)
        };
        // Deviation, largest value.
        for (initial, deviation, largest) in [
            (Initial::Uniform(0.3), 0.3 / 3f64.sqrt(), 0.3),
            (Initial::Normal(0.02), 0.02, 0.12),
            // Where the ends are far away it is the normal distribution ...
            (Initial::TruncatedNormal(0.1), 0.1, 0.6),
            // ... and where they are one deviation away, 0.54 of it.
            (Initial::TruncatedNormal(2.0), 2.0 * 0.5396, 2.0),
            (Initial::Constant(1.0), 0.0, 1.0),
        ] {
            let values = drawn(initial);
            let [mean, found, most] =
                [values.mean(Kind::Double), values.std(false), values.abs().max()].map(|value| value.double_value(&[]));
            assert!((found - deviation).abs() <= 0.01 * deviation, "{initial:?}: {found}");
            assert!(most <= largest && most > 0.5 * largest, "{initial:?}: {most}");
            assert!(initial == Initial::Constant(1.0) || mean.abs() < 0.02 * deviation, "{initial:?}: {mean}");
        }
    }

    #[test]
    fn a_tied_tensor_is_one_under_two_names_and_buffers_are_no_parameters() {
        let _alone = generator();
        let first = Weight::learned("first", &[2], Initial::Normal(1.0));
        let second = Weight { name: "second".into(), same_as: Some("first".into()), ..first.clone() };
        let counter = Weight::kept("counter", Dtype::I64, &[], 0.0);
        let held = Held::draw(&[first, counter, second], 3, Device::Cpu, false).unwrap();
        type Put<'a> = &'a mut dyn FnMut(&str, &Tensor) -> Result<()>;
        let names = |tensors: &dyn Fn(Put<'_>) -> Result<()>| {
            let mut names = Vec::new();
            tensors(&mut |name, _| {
                names.push(name.to_owned());
                Ok(())
            })
            .unwrap();
            names
        };
        assert_eq!(names(&|put| held.save(put)), ["first", "counter"]);
        assert_eq!(names(&|put| held.all(put)), ["first", "counter", "second"]);
        assert_eq!(held.parameters().named().map(|(name, _)| name).collect::<Vec<_>>(), ["first"]);
        assert_eq!(held.at("first").unwrap().data_ptr(), held.at("second").unwrap().data_ptr());
        assert_eq!(held.at("counter").unwrap().kind(), Kind::Int64);
    }
}
