//! An exported program whose names fit together: every value is defined once and before its use,
//! and what is not dense, or no tensor of numbers, is already refused.

use std::collections::BTreeMap;
use std::fmt;

use super::dtype;
use super::trace::Trace;
use super::tree::Tree;
use crate::tensor_file::Dtype;

/// A module in one mode, as PyTorch exported it.
#[derive(Debug, Clone)]
pub struct Program {
    /// The PyTorch that wrote it, in its own words.
    pub torch_version: String,
    /// The version of the schema: major, minor.
    pub schema: (u32, u32),
    /// The dialects that the program keeps to: `TRAINING` for one that was not decomposed.
    pub dialects: Vec<String>,
    /// The computation.
    pub graph: Graph,
    /// The source of each input of the graph, in their order.
    pub inputs: Vec<Input>,
    /// The kind of each output of the graph, in their order.
    pub outputs: Vec<Output>,
    /// The nesting of the outputs that the user gets.
    pub returns: Tree,
    /// The ranges of the symbols in sizes.
    pub symbols: BTreeMap<String, Bounds>,
}

/// The least and the largest that a symbol can be; None where that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The least.
    pub least: Option<i64>,
    /// The largest.
    pub most: Option<i64>,
}

/// An input of a program.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A tensor that training changes by its gradient.
    Parameter {
        /// As in `named_parameters()`.
        name: String,
        /// Its value in the graph.
        value: ValueId,
    },
    /// A tensor that the module keeps besides.
    Buffer {
        /// As in `named_buffers()`.
        name: String,
        /// Its value in the graph.
        value: ValueId,
        /// Whether `state_dict()` has it.
        is_persistent: bool,
    },
    /// A tensor that stood in the module's code.
    Constant {
        /// As the archive calls it.
        name: String,
        /// Its value in the graph.
        value: ValueId,
    },
    /// An argument of the module.
    User {
        /// The name of the argument.
        name: String,
        /// Its value in the graph.
        value: ValueId,
    },
    /// An argument that was fixed when the program was exported; the graph has it in it.
    Fixed {
        /// The name of the argument.
        name: String,
    },
}

/// The kind of an output of a program.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Part of what the module returns.
    User,
    /// A value that the caller has to put somewhere, which programs in the dialect `TRAINING` do
    /// not have: its kind, as the file calls it.
    Other(&'static str),
}

/// A computation.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// Every value in it.
    pub values: Vec<Value>,
    /// Its inputs; None for one that is fixed.
    pub inputs: Vec<Option<ValueId>>,
    /// Its operations, in their order.
    pub nodes: Vec<Node>,
    /// Its outputs.
    pub outputs: Vec<Argument>,
}

/// A value by its place in [`Graph::values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub(super) u32);

impl ValueId {
    /// Its place in [`Graph::values`].
    pub fn place(self) -> usize {
        self.0 as usize
    }
}

/// A value of a graph: a result of a node, or an input.
#[derive(Debug, Clone)]
pub struct Value {
    /// Its name in the file.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
}

/// The kind of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A tensor, as it was during the export. What it will be may differ: the file may lie.
    Tensor(TensorInfo),
    /// A whole number, such as a size.
    Int(Size),
    /// A number with a fraction.
    Float,
    /// True or false.
    Bool,
}

/// The description of a tensor in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The type of its numbers.
    pub dtype: Dtype,
    /// Its sizes, outermost first.
    pub sizes: Vec<Size>,
    /// Whether its gradient is wanted.
    pub requires_grad: bool,
    /// Its device during the export.
    pub device: Device,
}

/// A size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Size {
    /// The same in every call.
    Fixed(i64),
    /// A symbol of [`Program::symbols`].
    Symbol(String),
    /// Computed from symbols; the text is PyTorch's.
    Expression(String),
}

/// A device as the file names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// `cpu`, `cuda` and so on.
    pub kind: String,
    /// Which one of its kind.
    pub index: Option<u32>,
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name in the graph.
    pub name: String,
    /// The target of the call, such as `torch.ops.aten.add.Tensor`.
    pub target: String,
    /// Its arguments, by the names of the operator's schema; these are empty for operators of
    /// higher order.
    pub arguments: Vec<(String, Argument)>,
    /// The values of its results.
    pub results: Vec<Bind>,
    /// The user's line behind it.
    pub trace: Option<Trace>,
}

/// An argument of a node, or an output of a graph.
#[derive(Debug, Clone)]
pub enum Argument {
    /// Python's None.
    None,
    /// A tensor.
    Tensor(ValueId),
    /// A list of tensors.
    Tensors(Vec<ValueId>),
    /// A list of tensors, some of which are None.
    OptionalTensors(Vec<Option<ValueId>>),
    /// A size, or a number computed from sizes.
    Symbol(ValueId),
    /// A list of whole numbers, some of which are computed.
    Ints(Vec<Item>),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// Such numbers.
    Floats(Vec<f64>),
    /// True or false.
    Bool(bool),
    /// A list of those.
    Bools(Vec<bool>),
    /// A text.
    Text(String),
    /// A type of numbers.
    Dtype(Dtype),
    /// A layout, by c10's number.
    Layout(i64),
    /// A memory format, by c10's number.
    MemoryFormat(i64),
    /// A device.
    Device(Device),
    /// A graph that an operator of higher order runs.
    Graph(Box<Graph>),
    /// A kind that no operator takes which torchd calls.
    Other(&'static str),
}

/// A number in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// The same in every call.
    Fixed(i64),
    /// Computed by the graph.
    Symbol(ValueId),
}

/// The value or values of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// Nowhere: the operator returns None there.
    Nothing,
    /// A tensor or a number.
    One(ValueId),
    /// The tensors of a list, one by one.
    Many(Vec<ValueId>),
}

impl Argument {
    /// The graph that it is; None for another argument.
    pub fn graph(&self) -> Option<&Graph> {
        match self {
            Self::Graph(graph) => Some(graph),
            _ => None,
        }
    }
}

impl Program {
    /// The description of a tensor; None for a value that is no tensor.
    pub fn tensor(&self, value: ValueId) -> Option<&TensorInfo> {
        self.graph.tensor(value)
    }

    /// The inputs that the module is called with, by their names.
    pub fn user_inputs(&self) -> impl Iterator<Item = (&str, ValueId)> {
        self.inputs.iter().filter_map(|input| match input {
            Input::User { name, value } => Some((name.as_str(), *value)),
            Input::Parameter { .. } | Input::Buffer { .. } | Input::Constant { .. } | Input::Fixed { .. } => None,
        })
    }
}

impl Graph {
    /// The description of a tensor; None for a value that is no tensor.
    pub fn tensor(&self, value: ValueId) -> Option<&TensorInfo> {
        match &self.values.get(value.place())?.kind {
            Kind::Tensor(info) => Some(info),
            Kind::Int(_) | Kind::Float | Kind::Bool => None,
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => size.fmt(f),
            Self::Symbol(text) | Self::Expression(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "{}:{index}", self.kind),
            None => f.write_str(&self.kind),
        }
    }
}

impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<_> = self.sizes.iter().map(Size::to_string).collect();
        write!(f, "{} [{}]", dtype::name(self.dtype), sizes.join(", "))
    }
}
