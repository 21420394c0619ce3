//! The gradients of a branch that was not taken. PyTorch's `cond` gives zeros to what only the
//! other branch uses, where a plain graph would give nothing: an optimizer with momentum goes on
//! moving such a parameter.

use tch::Tensor;
use torchd::exported::plan::Operand;

use super::values::{Input, Value, Values};
use super::{Graph, Result, Step};

/// Runs a branch as a step of the graph of `values`, so that every input which it does not use has
/// a gradient of zeros. No number of the results changes.
pub(super) fn with_all_inputs(taken: &Graph, step: &Step, inputs: &[Operand], values: &mut Values<'_>) -> Result<()> {
    let mut unused = Vec::new();
    for (slot, operand) in taken.inputs.iter().zip(inputs) {
        if let (None, Value::Tensor(tensor)) = (slot, values.operand(*operand)?)
            && tensor.requires_grad()
        {
            unused.push(tensor);
        }
    }
    taken.within(step, inputs, values)?;
    if unused.is_empty() {
        return Ok(());
    }
    for slot in step.slots().flatten() {
        if let Value::Tensor(tensor) = values.value(slot)?
            && tensor.is_floating_point()
        {
            values.set(slot, Input::Tensor(&join(&tensor, &unused)?))?;
        }
    }
    Ok(())
}

/// The tensor, behind which nothing of the others is appended: their gradients are zeros.
fn join(tensor: &Tensor, others: &[Tensor]) -> Result<Tensor> {
    let mut parts = vec![tensor.f_reshape([-1])?];
    for other in others {
        parts.push(other.f_reshape([-1])?.f_narrow(0, 0, 0)?.f_to_kind(tensor.kind())?);
    }
    Tensor::f_cat(&parts, 0)?.f_reshape(tensor.size())
}
