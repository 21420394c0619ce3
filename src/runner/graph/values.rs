//! The values of a run, each in its slot until its last use.

use tch::{TchError, Tensor};
use torchd::exported::arithmetic::Number;
use torchd::exported::plan::Operand;

use super::Result;

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

impl Value {
    /// Another handle on the same tensor, or the same number.
    pub(crate) fn share(&self) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Tensor(tensor) => Self::Tensor(tensor.shallow_clone()),
            Self::Number(number) => Self::Number(*number),
        }
    }
}

/// Slots with values.
pub(super) struct Values(Vec<Option<Value>>);

impl Values {
    pub(super) fn new(slots: usize) -> Self {
        Self(std::iter::repeat_with(|| None).take(slots).collect())
    }

    pub(super) fn set(&mut self, slot: usize, value: Value) {
        if let Some(place) = self.0.get_mut(slot) {
            *place = Some(value);
        }
    }

    pub(super) fn free(&mut self, slot: usize) {
        if let Some(place) = self.0.get_mut(slot) {
            *place = None;
        }
    }

    pub(super) fn get(&self, slot: usize) -> Result<&Value> {
        let value = self.0.get(slot).and_then(Option::as_ref);
        value.ok_or_else(|| TchError::Torch(format!("the value {slot} is used, and not there")))
    }

    pub(super) fn tensor(&self, slot: usize) -> Result<&Tensor> {
        match self.get(slot)? {
            Value::Tensor(tensor) => Ok(tensor),
            other => Err(TchError::Torch(format!("{other:?} is used as a tensor"))),
        }
    }

    pub(super) fn number(&self, operand: Operand) -> Result<Number> {
        match operand {
            Operand::Number(number) => Ok(number),
            Operand::Slot(slot) => match self.get(slot)? {
                Value::Number(number) => Ok(*number),
                other => Err(TchError::Torch(format!("{other:?} is used as a number"))),
            },
        }
    }

    pub(super) fn operand(&self, operand: Operand) -> Result<Value> {
        match operand {
            Operand::Number(number) => Ok(Value::Number(number)),
            Operand::Slot(slot) => self.get(slot).map(Value::share),
        }
    }

    /// Whether a truth, or the only number of a tensor, holds.
    pub(super) fn truth(&self, operand: Operand) -> Result<bool> {
        if let Operand::Slot(slot) = operand
            && let Value::Tensor(tensor) = self.get(slot)?
        {
            return f64::try_from(tensor).map(|number| number != 0.0);
        }
        self.number(operand).map(|number| number.float() != 0.0)
    }
}
