//! An operator with its arguments: those that never change are handed over once, the others are
//! taken out of their slots in each call.

use tch::{Device, TchError};
use torchd::exported::arithmetic::Number;
use torchd::exported::plan::{Constant, Form, Given, Operand};

use super::values::Values;
use super::{Result, device_name};
use crate::dispatcher::{Argument, Call, Handle, Outputs};

/// A call of an operator.
#[derive(Debug)]
pub(super) struct Prepared {
    call: Call,
    /// The places of the arguments that change, in the operator's schema.
    places: Vec<usize>,
    /// The source of each.
    changing: Vec<Given>,
}

/// An argument with the lists that have to live as long as the call.
enum Held<'a> {
    Argument(Argument<'a>),
    Ints(Vec<i64>),
    Tensors(Vec<Handle<'a>>),
    OptionalTensors(Vec<Handle<'a>>),
}

impl Prepared {
    pub(super) fn new(name: &str, overload: &str, arguments: &[Given], device: Device) -> Result<Self> {
        let device = device_name(device);
        let fixed: Vec<_> = arguments.iter().map(|given| fixed(given, &device)).collect();
        let values: Vec<_> = fixed.iter().map(|argument| argument.unwrap_or(Argument::None)).collect();
        let call = Call::prepare(name, overload, &values)?;
        let changing = fixed.iter().zip(arguments).enumerate().filter(|(_, (argument, _))| argument.is_none());
        let (places, changing) = changing.map(|(place, (_, given))| (place, given.clone())).unzip();
        Ok(Self { call, places, changing })
    }

    pub(super) fn run(&self, values: &Values) -> Result<Outputs> {
        let held = self.changing.iter().map(|given| held(given, values)).collect::<Result<Vec<_>>>()?;
        let arguments: Vec<_> = held
            .iter()
            .map(|held| match held {
                Held::Argument(argument) => *argument,
                Held::Ints(items) => Argument::Ints(items),
                Held::Tensors(items) => Argument::Tensors(items),
                Held::OptionalTensors(items) => Argument::OptionalTensors(items),
            })
            .collect();
        self.call.run(&self.places, &arguments)
    }
}

/// An argument that is the same in each call; None for one that changes.
fn fixed<'a>(given: &'a Given, device: &'a str) -> Option<Argument<'a>> {
    Some(match given {
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
            return None;
        }
    })
}

/// An argument that changes, out of its slots.
fn held<'a>(given: &'a Given, values: &'a Values) -> Result<Held<'a>> {
    let whole = |number: Number| match number {
        Number::Int(number) => Ok(number),
        other => Err(TchError::Torch(format!("{other:?} is used as a whole number"))),
    };
    Ok(match given {
        Given::Tensor(slot) => Held::Argument(Argument::Tensor(values.tensor(*slot)?)),
        Given::Tensors(slots) => {
            Held::Tensors(slots.iter().map(|slot| values.tensor(*slot).map(Handle::from)).collect::<Result<_>>()?)
        }
        Given::OptionalTensors(slots) => {
            let handle = |slot: &Option<usize>| match slot {
                Some(slot) => values.tensor(*slot).map(Handle::from),
                None => Ok(Handle::NONE),
            };
            Held::OptionalTensors(slots.iter().map(handle).collect::<Result<_>>()?)
        }
        Given::Number(slot, form) => {
            let number = values.number(Operand::Slot(*slot))?;
            match form {
                Form::Same => Held::Argument(Argument::Number(number)),
                Form::Float => Held::Argument(Argument::Number(Number::Float(number.float()))),
                Form::Wrapped => Held::Argument(Argument::Wrapped(number)),
                Form::Repeated(times) => Held::Ints(vec![whole(number)?; *times]),
            }
        }
        Given::Ints(items) => {
            Held::Ints(items.iter().map(|item| values.number(*item).and_then(whole)).collect::<Result<_>>()?)
        }
        Given::Default | Given::Constant(_) | Given::Device => Held::Argument(Argument::None),
    })
}
