//! An operator with its arguments: those that never change are handed over once, the others come
//! out of their slots in each call.

use tch::{Device, TchError};
use torchd::exported::arithmetic::Number;
use torchd::exported::plan::{self, Constant, Given, Operand};

use super::{Result, device_name};
use crate::dispatcher::{Argument, Bound, Call, Form, Item, Place, Source};

/// An operator, with the slots of its arguments and results.
pub(super) fn prepare(
    name: &str,
    overload: &str,
    arguments: &[Given],
    step: &plan::Step,
    device: Device,
) -> Result<Bound> {
    let device = device_name(device);
    let values: Vec<_> = arguments.iter().map(|given| fixed(given, &device)).collect();
    let call = Call::prepare(name, overload, &values)?;
    let sources = arguments.iter().enumerate();
    let sources = sources.filter_map(|(place, given)| {
        let form = changing(given).transpose()?;
        Some(form.map(|form| Source { place, form }))
    });
    let sources = sources.collect::<Result<Vec<_>>>()?;
    let places: Vec<_> = step.results.iter().map(place_of).collect();
    Bound::new(call, &sources, &places, &step.last_uses)
}

/// An argument that is the same in each call; None for one that changes.
fn fixed<'a>(given: &'a Given, device: &'a str) -> Argument<'a> {
    match given {
        Given::Default => Argument::Default,
        Given::Device => Argument::Device(device),
        Given::Constant(constant) => match constant {
            Constant::None => Argument::None,
            Constant::Int(number) => Argument::Number(Number::Int(*number)),
            Constant::Float(number) => Argument::Number(Number::Float(*number)),
            Constant::Bool(is) => Argument::Number(Number::Bool(*is)),
            Constant::Ints(items) => Argument::Ints(items),
            Constant::Floats(items) => Argument::Floats(items),
            Constant::Bools(items) => Argument::Bools(items),
            Constant::Text(text) => Argument::Text(text),
            Constant::Wrapped(number) => Argument::Wrapped(*number),
        },
        Given::Tensor(_) | Given::Tensors(_) | Given::OptionalTensors(_) | Given::Number(..) | Given::Ints(_) => {
            Argument::None
        }
    }
}

/// How an argument is made that changes from call to call; None for one that does not.
fn changing(given: &Given) -> Result<Option<Form>> {
    Ok(Some(match given {
        Given::Default | Given::Constant(_) | Given::Device => return Ok(None),
        Given::Tensor(slot) => Form::Tensor(*slot),
        Given::Tensors(slots) => Form::Tensors(slots.clone()),
        Given::OptionalTensors(slots) => Form::OptionalTensors(slots.clone()),
        Given::Number(slot, form) => match form {
            plan::Form::Same => Form::Number(*slot),
            plan::Form::Float => Form::Float(*slot),
            plan::Form::Wrapped => Form::Wrapped(*slot),
            plan::Form::Repeated(times) => Form::Repeated { slot: *slot, times: *times },
        },
        Given::Ints(items) => Form::Ints(items.iter().map(item).collect::<Result<_>>()?),
    }))
}

/// A whole number of a list, or its slot.
fn item(operand: &Operand) -> Result<Item> {
    match operand {
        Operand::Slot(slot) => Ok(Item::Slot(*slot)),
        Operand::Number(Number::Int(number)) => Ok(Item::Number(*number)),
        Operand::Number(other) => Err(TchError::Torch(format!("{other:?} is used as a whole number"))),
    }
}

fn place_of(place: &plan::Place) -> Place {
    match place {
        plan::Place::Nothing => Place::Nothing,
        plan::Place::One(slot) => Place::One(*slot),
        plan::Place::Many(slots) => Place::Many(slots.clone()),
    }
}
