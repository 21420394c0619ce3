//! A graph that is ready to be run: every value has a slot, every argument the type that its
//! operator takes, and every slot is emptied after its last use.
//!
//! Made by [`compile`](super::compile), without libtorch. The runner carries it out.

use super::arithmetic::{Arithmetic, Number};
use super::trace::Trace;

/// The steps of a graph.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Slots that hold values while it runs.
    pub slots: usize,
    /// The slot of each input; None for one that is not used, or fixed.
    pub inputs: Vec<Option<usize>>,
    /// Its steps, in their order.
    pub steps: Vec<Step>,
    /// Its outputs.
    pub outputs: Vec<Returned>,
}

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    /// The action.
    pub action: Action,
    /// The places of its results.
    pub results: Vec<Place>,
    /// Slots whose last use this is.
    pub last_uses: Vec<usize>,
    /// Its origin, for messages.
    pub origin: Origin,
}

/// The node of a step, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The name of the node in its graph.
    pub node: String,
    /// The target of the call.
    pub target: String,
    /// The user's line.
    pub trace: Option<Trace>,
}

/// The action of a step.
#[derive(Debug, Clone)]
pub enum Action {
    /// Calls an operator.
    Call {
        /// Its name, such as `aten::add`.
        name: String,
        /// Its overload, empty for the default one.
        overload: String,
        /// One for each argument of its schema.
        arguments: Vec<Given>,
    },
    /// Computes a number of numbers.
    Compute(Arithmetic, Operand, Operand),
    /// Runs a graph with gradients recorded or not.
    SetGrad {
        /// Whether they are.
        is_enabled: bool,
        /// The graph.
        plan: Box<Plan>,
        /// The values for its inputs.
        inputs: Vec<Operand>,
    },
    /// Runs a graph under autocast.
    Autocast {
        /// The settings.
        autocast: Autocast,
        /// The graph.
        plan: Box<Plan>,
        /// The values for its inputs.
        inputs: Vec<Operand>,
    },
    /// Runs one of two graphs.
    Cond {
        /// A truth, or a tensor of one number.
        condition: Operand,
        /// The graph for a truth that holds.
        yes: Box<Plan>,
        /// The other graph.
        no: Box<Plan>,
        /// The values for the inputs of either.
        inputs: Vec<Operand>,
    },
}

/// A region in which operators compute in another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Autocast {
    /// Whether it is for the device of the job; else for CUDA, wherever the job is.
    pub is_for_job: bool,
    /// Whether it is on.
    pub is_enabled: bool,
    /// The type, by c10's number; None for the device's own choice.
    pub dtype: Option<i64>,
    /// Whether casts of weights are kept for the region; None for what holds outside.
    pub is_cached: Option<bool>,
}

/// A value that a step takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Operand {
    /// The value in a slot.
    Slot(usize),
    /// A number.
    Number(Number),
}

/// An argument of an operator.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// The default of the schema.
    Default,
    /// The same in each call.
    Constant(Constant),
    /// The device of the job.
    Device,
    /// A tensor in a slot.
    Tensor(usize),
    /// Tensors in slots.
    Tensors(Vec<usize>),
    /// Tensors in slots, or None.
    OptionalTensors(Vec<Option<usize>>),
    /// A number in a slot, in this form.
    Number(usize, Form),
    /// Whole numbers, some of which are in slots.
    Ints(Vec<Operand>),
}

/// An argument that is the same in each call.
#[derive(Debug, Clone, PartialEq)]
pub enum Constant {
    /// Python's None.
    None,
    /// A whole number, or a data type, layout or memory format by c10's number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// Whole numbers.
    Ints(Vec<i64>),
    /// Numbers with fractions.
    Floats(Vec<f64>),
    /// Truths.
    Bools(Vec<bool>),
    /// A text.
    Text(String),
    /// A number where the operator takes a tensor.
    Wrapped(Number),
}

/// The form in which an operator takes a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Same,
    /// With a fraction.
    Float,
    /// As a tensor of no dimension that promotes like a number.
    Wrapped,
    /// So many times in a list of whole numbers.
    Repeated(usize),
}

/// The place of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nowhere.
    Nothing,
    /// Into a slot.
    One(usize),
    /// The tensors of a list, each into its slot.
    Many(Vec<usize>),
}

/// An output of a graph.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Returned {
    /// The value in a slot.
    Slot(usize),
    /// A number.
    Number(Number),
    /// None.
    Nothing,
}

impl Plan {
    /// Its steps, with those of graphs within it.
    pub fn all_steps(&self) -> usize {
        self.steps.iter().map(|step| 1 + step.action.plans().map(Self::all_steps).sum::<usize>()).sum()
    }
}

impl Action {
    /// The graphs that it runs.
    pub fn plans(&self) -> impl Iterator<Item = &Plan> {
        let (one, other) = match self {
            Self::Call { .. } | Self::Compute(..) => (None, None),
            Self::SetGrad { plan, .. } | Self::Autocast { plan, .. } => (Some(plan), None),
            Self::Cond { yes, no, .. } => (Some(yes), Some(no)),
        };
        one.into_iter().chain(other).map(|plan| &**plan)
    }
}
