//! Runs a graph of operators that was exported from Python, step by step through the dispatcher, so
//! that autograd records it as it would record the module.
//!
//! Owns: the operators, found once, with the arguments that never change; the values of a run, each
//! freed after its last use. What a plan may hold has been judged before
//! ([`torchd::exported::compile`]); what the file says of shapes may be wrong, and shows here as an
//! error of an operator, told with the node and the user's line.

mod arguments;
mod branch;
mod values;

use tch::{Device, TchError};
use torchd::exported::plan::{self, Action, Operand, Place, Plan, Returned};

use self::arguments::Prepared;
pub(crate) use self::values::Value;
use self::values::Values;
use crate::dispatcher::{Autocast, Output};

type Result<T> = std::result::Result<T, TchError>;

/// A graph that is ready to be run on a device.
#[derive(Debug)]
pub(crate) struct Graph {
    device: Device,
    slots: usize,
    inputs: Vec<Option<usize>>,
    steps: Vec<Step>,
    outputs: Vec<Returned>,
}

#[derive(Debug)]
struct Step {
    action: Ready,
    results: Vec<Place>,
    last_uses: Vec<usize>,
    origin: plan::Origin,
}

/// An action with its operator.
#[derive(Debug)]
enum Ready {
    Call(Prepared),
    Compute(torchd::exported::arithmetic::Arithmetic, Operand, Operand),
    SetGrad { is_enabled: bool, graph: Box<Graph>, inputs: Vec<Operand> },
    Autocast { autocast: plan::Autocast, graph: Box<Graph>, inputs: Vec<Operand> },
    Cond { condition: Operand, yes: Box<Graph>, no: Box<Graph>, inputs: Vec<Operand> },
}

impl Graph {
    /// Finds the operators of a plan, which computes on this device wherever it was exported.
    ///
    /// # Errors
    /// If this libtorch lacks one, with its node.
    pub(crate) fn prepare(plan: &Plan, device: Device) -> Result<Self> {
        let inner = |plan: &Plan| Self::prepare(plan, device).map(Box::new);
        let step = |step: &plan::Step| {
            let action = match &step.action {
                Action::Call { name, overload, arguments } => {
                    let call = Prepared::new(name, overload, arguments, device);
                    Ready::Call(call.map_err(|error| at(&step.origin, error))?)
                }
                Action::Compute(function, one, other) => Ready::Compute(*function, *one, *other),
                Action::SetGrad { is_enabled, plan, inputs } => {
                    Ready::SetGrad { is_enabled: *is_enabled, graph: inner(plan)?, inputs: inputs.clone() }
                }
                Action::Autocast { autocast, plan, inputs } => {
                    Ready::Autocast { autocast: *autocast, graph: inner(plan)?, inputs: inputs.clone() }
                }
                Action::Cond { condition, yes, no, inputs } => {
                    let (yes, no, inputs) = (inner(yes)?, inner(no)?, inputs.clone());
                    Ready::Cond { condition: *condition, yes, no, inputs }
                }
            };
            let (results, last_uses) = (step.results.clone(), step.last_uses.clone());
            Ok(Step { action, results, last_uses, origin: step.origin.clone() })
        };
        Ok(Self {
            device,
            slots: plan.slots,
            inputs: plan.inputs.clone(),
            steps: plan.steps.iter().map(step).collect::<Result<_>>()?,
            outputs: plan.outputs.clone(),
        })
    }

    /// Computes the outputs of these inputs, one for each of the graph. Buffers among them are
    /// written in place.
    ///
    /// # Errors
    /// The error of an operator, with its node and the user's line.
    pub(crate) fn run(&self, inputs: Vec<Value>) -> Result<Vec<Value>> {
        let mut values = Values::new(self.slots);
        for (slot, value) in self.inputs.iter().zip(inputs) {
            if let Some(slot) = slot {
                values.set(*slot, value);
            }
        }
        for step in &self.steps {
            self.step(step, &mut values).map_err(|error| at(&step.origin, error))?;
            for slot in &step.last_uses {
                values.free(*slot);
            }
        }
        let returned = |output: &Returned| match output {
            Returned::Slot(slot) => values.get(*slot).map(Value::share),
            Returned::Number(number) => Ok(Value::Number(*number)),
            Returned::Nothing => Ok(Value::Nothing),
        };
        self.outputs.iter().map(returned).collect()
    }

    fn step(&self, step: &Step, values: &mut Values) -> Result<()> {
        let (inner, inputs) = match &step.action {
            Ready::Call(call) => return put(step, call.run(values)?, values),
            Ready::Compute(function, one, other) => {
                let number = function.of(values.number(*one)?, values.number(*other)?).map_err(TchError::Torch)?;
                return put(step, [Output::Number(number)].into_iter(), values);
            }
            Ready::SetGrad { graph, inputs, .. } | Ready::Autocast { graph, inputs, .. } => (graph, inputs),
            Ready::Cond { condition, yes, no, inputs } => (if values.truth(*condition)? { yes } else { no }, inputs),
        };
        let given = inputs.iter().map(|input| values.operand(*input)).collect::<Result<Vec<_>>>()?;
        // The inner graph frees the values that only it needs.
        step.last_uses.iter().for_each(|slot| values.free(*slot));
        let results = match &step.action {
            Ready::SetGrad { is_enabled: true, .. } => tch::with_grad(|| inner.run(given)),
            Ready::SetGrad { is_enabled: false, .. } => tch::no_grad(|| inner.run(given)),
            Ready::Autocast { autocast, .. } => {
                let is_cuda = if autocast.is_for_job { self.device.is_cuda() } else { true };
                let _region = Autocast::enter(is_cuda, autocast.is_enabled, autocast.dtype, autocast.is_cached)?;
                inner.run(given)
            }
            Ready::Cond { .. } => branch::with_all_inputs(inner, given),
            Ready::Call(_) | Ready::Compute(..) => inner.run(given),
        }?;
        let places = step.results.iter().flat_map(|place| match place {
            Place::Nothing => vec![None],
            Place::One(slot) => vec![Some(*slot)],
            Place::Many(slots) => slots.iter().copied().map(Some).collect(),
        });
        for (place, value) in places.zip(results) {
            if let Some(slot) = place {
                values.set(slot, value);
            }
        }
        Ok(())
    }
}

/// Puts the results of an operator where they go.
fn put(step: &Step, mut outputs: impl Iterator<Item = Output>, values: &mut Values) -> Result<()> {
    for place in &step.results {
        match (place, outputs.next()) {
            (Place::Nothing, _) => {}
            (Place::One(slot), Some(Output::Tensor(tensor))) => values.set(*slot, Value::Tensor(tensor)),
            (Place::One(slot), Some(Output::Number(number))) => values.set(*slot, Value::Number(number)),
            (Place::Many(slots), Some(Output::Tensors(tensors))) if tensors.len() == slots.len() => {
                for (slot, tensor) in slots.iter().zip(tensors) {
                    values.set(*slot, Value::Tensor(tensor));
                }
            }
            (Place::One(_) | Place::Many(_), found) => {
                let what = format!("it returned {}, and the graph wants {place:?}", described(found.as_ref()));
                return Err(TchError::Torch(what));
            }
        }
    }
    Ok(())
}

fn described(output: Option<&Output>) -> String {
    match output {
        None | Some(Output::None) => "nothing".into(),
        Some(Output::Tensor(tensor)) => format!("a tensor {:?}", tensor.size()),
        Some(Output::Number(number)) => format!("the number {number:?}"),
        Some(Output::Tensors(tensors)) => format!("a list of {} tensors", tensors.len()),
    }
}

/// The error, with the node where it came up.
fn at(origin: &plan::Origin, error: TchError) -> TchError {
    let text = match error {
        TchError::Torch(text) => text,
        other => other.to_string(),
    };
    // Behind the first line stands a trace of C++.
    let words = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("no message");
    TchError::Torch(format!("{origin}: {words}"))
}

/// The device, as libtorch reads it.
fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        Device::Cpu => "cpu".into(),
        Device::Mps => "mps".into(),
        Device::Vulkan => "vulkan".into(),
    }
}

#[cfg(test)]
mod tests;
