//! Values that go into a graph and come out of it. In between they stay in slots, on libtorch's
//! side.

use std::cell::{RefCell, RefMut};
use std::ops::{Deref, DerefMut};

use tch::{TchError, Tensor};
use torchd::exported::arithmetic::Number;
use torchd::exported::plan::{Operand, Returned};

use super::Result;
use crate::dispatcher::{Frame, Output};

/// A value.
#[derive(Debug)]
pub(crate) enum Value {
    /// Python's None.
    Nothing,
    /// A tensor.
    Tensor(Tensor),
    /// A number.
    Number(Number),
}

/// A value that a graph takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    /// Python's None.
    Nothing,
    /// A tensor.
    Tensor(&'a Tensor),
    /// A number.
    Number(Number),
}

impl<'a> From<&'a Value> for Input<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Nothing => Self::Nothing,
            Value::Tensor(tensor) => Self::Tensor(tensor),
            Value::Number(number) => Self::Number(*number),
        }
    }
}

/// The slots of a graph, kept from run to run. Between runs they are empty.
#[derive(Debug)]
pub(super) struct Slots(RefCell<Frame>);

/// The slots in a run. Dropping it empties them.
pub(super) struct Values<'a>(RefMut<'a, Frame>);

impl Slots {
    pub(super) fn new(slots: usize) -> Result<Self> {
        Frame::new(slots).map(|frame| Self(RefCell::new(frame)))
    }

    /// The slots for a run.
    pub(super) fn begin(&self) -> Result<Values<'_>> {
        let frame = self.0.try_borrow_mut();
        frame.map(Values).map_err(|_| TchError::Torch("a graph is run within its own run".into()))
    }
}

impl Drop for Values<'_> {
    fn drop(&mut self) {
        self.0.clear();
    }
}

impl Deref for Values<'_> {
    type Target = Frame;

    fn deref(&self) -> &Frame {
        &self.0
    }
}

impl DerefMut for Values<'_> {
    fn deref_mut(&mut self) -> &mut Frame {
        &mut self.0
    }
}

impl Values<'_> {
    pub(super) fn set(&mut self, slot: usize, input: Input<'_>) -> Result<()> {
        match input {
            Input::Nothing => self.set_none(slot),
            Input::Tensor(tensor) => self.set_tensor(slot, tensor),
            Input::Number(number) => self.set_number(slot, number),
        }
    }

    pub(super) fn value(&self, slot: usize) -> Result<Value> {
        Ok(match self.get(slot)? {
            Output::None => Value::Nothing,
            Output::Tensor(tensor) => Value::Tensor(tensor),
            Output::Number(number) => Value::Number(number),
            Output::Tensors(tensors) => {
                let what = format!("the value {slot} is a list of {} tensors", tensors.len());
                return Err(TchError::Torch(what));
            }
        })
    }

    pub(super) fn number(&self, operand: Operand) -> Result<Number> {
        match operand {
            Operand::Number(number) => Ok(number),
            Operand::Slot(slot) => match self.value(slot)? {
                Value::Number(number) => Ok(number),
                other => Err(TchError::Torch(format!("{other:?} is used as a number"))),
            },
        }
    }

    pub(super) fn operand(&self, operand: Operand) -> Result<Value> {
        match operand {
            Operand::Number(number) => Ok(Value::Number(number)),
            Operand::Slot(slot) => self.value(slot),
        }
    }

    /// Puts an operand into a slot of another graph.
    pub(super) fn hand_over(&self, operand: Operand, to: &mut Values<'_>, place: usize) -> Result<()> {
        match operand {
            Operand::Number(number) => to.set_number(place, number),
            Operand::Slot(slot) => self.pass(slot, to, place),
        }
    }

    /// Puts an output into a slot of another graph.
    pub(super) fn hand_back(&self, output: Returned, to: &mut Values<'_>, place: usize) -> Result<()> {
        match output {
            Returned::Slot(slot) => self.pass(slot, to, place),
            Returned::Number(number) => to.set_number(place, number),
            Returned::Nothing => to.set_none(place),
        }
    }

    /// An output.
    pub(super) fn returned(&self, output: Returned) -> Result<Value> {
        match output {
            Returned::Slot(slot) => self.value(slot),
            Returned::Number(number) => Ok(Value::Number(number)),
            Returned::Nothing => Ok(Value::Nothing),
        }
    }

    /// Whether a truth, or the only number of a tensor, holds.
    pub(super) fn truth(&self, operand: Operand) -> Result<bool> {
        match self.operand(operand)? {
            Value::Tensor(tensor) => f64::try_from(&tensor).map(|number| number != 0.0),
            Value::Number(number) => Ok(number.float() != 0.0),
            Value::Nothing => Err(TchError::Torch("Nothing is used as a number".into())),
        }
    }
}
