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

use std::cell::RefCell;

use tch::{Device, TchError};
use torchd::exported::plan::{self, Action, Operand, Place, Plan, Returned};

pub(crate) use self::values::{Input, Value};
use self::values::{Slots, Values};
use crate::dispatcher::{Autocast, Bound};

type Result<T> = std::result::Result<T, TchError>;

/// A graph that is ready to be run on a device.
#[derive(Debug)]
pub(crate) struct Graph {
    device: Device,
    slots: Slots,
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
    /// The call frees the slots whose last use it is by itself.
    Call(RefCell<Bound>),
    Compute(torchd::exported::arithmetic::Arithmetic, Operand, Operand),
    SetGrad {
        is_enabled: bool,
        graph: Box<Graph>,
        inputs: Vec<Operand>,
    },
    Autocast {
        autocast: plan::Autocast,
        graph: Box<Graph>,
        inputs: Vec<Operand>,
    },
    Cond {
        condition: Operand,
        yes: Box<Graph>,
        no: Box<Graph>,
        inputs: Vec<Operand>,
    },
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
                    let call = arguments::prepare(name, overload, arguments, step, device);
                    Ready::Call(RefCell::new(call.map_err(|error| at(&step.origin, error))?))
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
            slots: Slots::new(plan.slots)?,
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
    pub(crate) fn run<'a>(&self, inputs: impl Iterator<Item = Input<'a>>) -> Result<Vec<Value>> {
        let mut values = self.slots.begin()?;
        for (slot, input) in self.inputs.iter().zip(inputs) {
            if let Some(slot) = slot {
                values.set(*slot, input)?;
            }
        }
        self.compute(&mut values)?;
        self.outputs.iter().map(|output| values.returned(*output)).collect()
    }

    /// Carries all steps out.
    fn compute(&self, values: &mut Values<'_>) -> Result<()> {
        self.steps.iter().try_for_each(|step| self.step(step, values).map_err(|error| at(&step.origin, error)))
    }

    fn step(&self, step: &Step, values: &mut Values<'_>) -> Result<()> {
        match &step.action {
            Ready::Call(call) => {
                let mut call =
                    call.try_borrow_mut().map_err(|_| TchError::Torch("it is called within itself".into()))?;
                return call.run(values);
            }
            Ready::Compute(function, one, other) => {
                let number = function.of(values.number(*one)?, values.number(*other)?).map_err(TchError::Torch)?;
                for place in &step.results {
                    if let Place::One(slot) = place {
                        values.set_number(*slot, number)?;
                    }
                }
            }
            Ready::SetGrad { is_enabled: true, graph, inputs } => {
                tch::with_grad(|| graph.within(step, inputs, values))?;
            }
            Ready::SetGrad { is_enabled: false, graph, inputs } => {
                tch::no_grad(|| graph.within(step, inputs, values))?;
            }
            Ready::Autocast { autocast, graph, inputs } => {
                let is_cuda = if autocast.is_for_job { self.device.is_cuda() } else { true };
                let _region = Autocast::enter(is_cuda, autocast.is_enabled, autocast.dtype, autocast.is_cached)?;
                graph.within(step, inputs, values)?;
            }
            Ready::Cond { condition, yes, no, inputs } => {
                let taken = if values.truth(*condition)? { yes } else { no };
                branch::with_all_inputs(taken, step, inputs, values)?;
            }
        }
        step.last_uses.iter().for_each(|slot| values.free(*slot));
        Ok(())
    }

    /// Runs it as a step of the graph of `values`, with operands of that one, and puts its outputs
    /// there.
    fn within(&self, step: &Step, inputs: &[Operand], values: &mut Values<'_>) -> Result<()> {
        let mut inner = self.slots.begin()?;
        for (slot, operand) in self.inputs.iter().zip(inputs) {
            if let Some(slot) = slot {
                values.hand_over(*operand, &mut inner, *slot)?;
            }
        }
        // The inner graph frees the values that only it needs.
        step.last_uses.iter().for_each(|slot| values.free(*slot));
        self.compute(&mut inner)?;
        for (slot, output) in step.slots().zip(&self.outputs) {
            if let Some(slot) = slot {
                inner.hand_back(*output, values, slot)?;
            }
        }
        Ok(())
    }
}

impl Step {
    /// The slots of the outputs of an inner graph, in their order; None for one that goes nowhere.
    fn slots(&self) -> impl Iterator<Item = Option<usize>> {
        self.results.iter().flat_map(|place| {
            let (one, many) = match place {
                Place::Nothing => (Some(None), &[][..]),
                Place::One(slot) => (Some(Some(*slot)), &[][..]),
                Place::Many(slots) => (None, &slots[..]),
            };
            one.into_iter().chain(many.iter().copied().map(Some))
        })
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
