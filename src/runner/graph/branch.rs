//! The gradients of a branch that was not taken. PyTorch's `cond` gives zeros to what only the
//! other branch uses, where a plain graph would give nothing: an optimizer with momentum goes on
//! moving such a parameter.

use tch::Tensor;

use super::values::Value;
use super::{Graph, Result};

/// The results of a branch, so that every input which it does not use has a gradient of zeros. No
/// number of the results changes.
pub(super) fn with_all_inputs(taken: &Graph, inputs: Vec<Value>) -> Result<Vec<Value>> {
    let is_unused = |place: usize| taken.inputs.get(place).is_some_and(Option::is_none);
    let unused: Vec<_> = inputs
        .iter()
        .enumerate()
        .filter_map(|(place, value)| match value {
            Value::Tensor(tensor) if is_unused(place) && tensor.requires_grad() => Some(tensor.shallow_clone()),
            Value::Tensor(_) | Value::Number(_) | Value::Nothing => None,
        })
        .collect();
    let results = taken.run(inputs)?;
    if unused.is_empty() {
        return Ok(results);
    }
    let joined = |result| match result {
        Value::Tensor(tensor) if tensor.is_floating_point() => join(&tensor, &unused).map(Value::Tensor),
        other => Ok(other),
    };
    results.into_iter().map(joined).collect()
}

/// The tensor, behind which nothing of the others is appended: their gradients are zeros.
fn join(tensor: &Tensor, others: &[Tensor]) -> Result<Tensor> {
    let mut parts = vec![tensor.f_reshape([-1])?];
    for other in others {
        parts.push(other.f_reshape([-1])?.f_narrow(0, 0, 0)?.f_to_kind(tensor.kind())?);
    }
    Tensor::f_cat(&parts, 0)?.f_reshape(tensor.size())
}
