//! Facts about a program, found in its graph: the mode of the export, the inputs, the results, and
//! the sizes of batches that it takes.

use serde::{Deserialize, Serialize};

use super::dtype;
use super::program::{Argument, Graph, Output, Program, Size, TensorInfo};
use super::refusal::Refusal;
use super::tree::Tree;
use crate::tensor_file::Dtype;

/// Inputs, results, batches and mode of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The arguments of the module.
    pub inputs: Vec<Field>,
    /// The batches that it takes.
    pub batch: Batch,
    /// The result of the module.
    pub returns: Returns,
    /// The mode that its layers are in.
    pub mode: Mode,
}

/// An input, by the name of the argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The name.
    pub name: String,
    /// The type of its numbers.
    pub dtype: Dtype,
    /// The sizes of one example: those behind the batch.
    pub sizes: Vec<Size>,
}

/// The sizes of a batch that a program takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The least.
    pub least: i64,
    /// The largest; None where that is open.
    pub most: Option<i64>,
}

/// The result of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Returns {
    /// One tensor, to which a loss is applied.
    Output(TensorInfo),
    /// The loss itself, and metrics by name.
    Loss(Vec<String>),
    /// Something else: the words say what.
    Other(String),
}

/// The mode that a module was exported in, by the flags of its layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `train()`: a layer drops out, or normalises by the batch.
    Training,
    /// `eval()`: none of the layers that differ does.
    Evaluation,
    /// It has no layer that differs.
    Either,
}

impl Facts {
    /// Finds the facts of a program.
    ///
    /// # Errors
    /// Everything in it that cannot be trained, apart from its operators.
    pub fn of(program: &Program) -> Result<Self, Vec<Refusal>> {
        let mut refusals = Vec::new();
        if let Some(Output::Other(kind)) = program.outputs.iter().find(|output| **output != Output::User) {
            refusals.push(Refusal::whole(format!(
                "its graph returns a {kind}, as run_decompositions() makes it: export it without"
            )));
        }
        if let Some(device) = other_device(&program.graph) {
            refusals.push(Refusal::whole(format!(
                "it was exported on {device}: move the module and the examples to the CPU and export it again; torchd \
                 moves it to the device of the job"
            )));
        }
        let batch = batch(program, &mut refusals);
        let returns = returns(program);
        if let Returns::Other(what) = &returns {
            refusals.push(Refusal::whole(format!(
                "it returns {what}; one tensor, a loss, or a loss and a dictionary of metrics would be right"
            )));
        }
        let inputs = fields(program);
        if refusals.is_empty() {
            Ok(Self { inputs, batch, returns, mode: mode(&program.graph) })
        } else {
            Err(refusals)
        }
    }
}

/// A device of the graph that is no CPU.
fn other_device(graph: &Graph) -> Option<String> {
    let of_values = (0..graph.values.len()).find_map(|place| {
        let info = graph.tensor(super::program::ValueId(place as u32))?;
        (info.device.kind != "cpu").then(|| info.device.to_string())
    });
    of_values.or_else(|| {
        graph.nodes.iter().flat_map(|node| &node.arguments).find_map(|(_, argument)| match argument {
            Argument::Device(device) => (device.kind != "cpu").then(|| device.to_string()),
            Argument::Graph(inner) => other_device(inner),
            _ => None,
        })
    })
}

fn fields(program: &Program) -> Vec<Field> {
    let field = |(name, value): (&str, _)| {
        let info = program.tensor(value)?;
        Some(Field {
            name: name.to_owned(),
            dtype: info.dtype,
            sizes: info.sizes.get(1..).unwrap_or_default().to_vec(),
        })
    };
    program.user_inputs().filter_map(field).collect()
}

/// The first dimension of every input is the batch, and one symbol stands for it.
fn batch(program: &Program, refusals: &mut Vec<Refusal>) -> Batch {
    const REMEDY: &str = "give the first dimension of every input the same torch.export.Dim(\"batch\", min=1) in \
                          dynamic_shapes";
    let mut symbol: Option<(&str, &str)> = None;
    for (name, value) in program.user_inputs() {
        let sizes = program.tensor(value).map(|info| &info.sizes[..]).unwrap_or_default();
        match (sizes.first(), symbol) {
            (None, _) => refusals.push(Refusal::whole(format!(
                "its input {name} is a single number; every input must have the batch as its first dimension"
            ))),
            (Some(Size::Symbol(found)), Some((first, known))) if found != known => {
                refusals.push(Refusal::whole(format!(
                    "its inputs {first} and {name} have batches of their own, {known} and {found}: {REMEDY}"
                )));
            }
            (Some(Size::Symbol(found)), _) => symbol = Some((name, found)),
            (Some(size), _) => {
                refusals.push(Refusal::whole(format!("its input {name} takes batches of {size} alone: {REMEDY}")))
            }
        }
    }
    let Some((_, symbol)) = symbol else {
        if program.user_inputs().next().is_none() {
            refusals.push(Refusal::whole("it takes no tensor, and so no batch"));
        }
        return Batch { least: 0, most: None };
    };
    let bounds = program.symbols.get(symbol);
    Batch { least: bounds.and_then(|bounds| bounds.least).unwrap_or(0), most: bounds.and_then(|bounds| bounds.most) }
}

fn returns(program: &Program) -> Returns {
    let tensor = |place: usize| match program.graph.outputs.get(place) {
        Some(Argument::Tensor(value)) => program.tensor(*value),
        _ => None,
    };
    let is_number = |place: usize| tensor(place).is_some_and(|info| info.sizes.is_empty());
    let is_loss = |place: usize| is_number(place) && tensor(place).is_some_and(|info| dtype::is_float(info.dtype));
    match &program.returns {
        Tree::Leaf => match tensor(0) {
            Some(_) if is_loss(0) => Returns::Loss(Vec::new()),
            Some(info) => Returns::Output(info.clone()),
            None => Returns::Other("no tensor".into()),
        },
        // `return x,` gives one tensor as well.
        Tree::Sequence(items) => match &items[..] {
            [Tree::Leaf] => match tensor(0) {
                Some(_) if is_loss(0) => Returns::Loss(Vec::new()),
                Some(info) => Returns::Output(info.clone()),
                None => Returns::Other("no tensor".into()),
            },
            [Tree::Leaf, Tree::Dict(metrics)] => {
                let is_single = metrics.iter().all(|(_, metric)| *metric == Tree::Leaf);
                match (1..program.graph.outputs.len()).find(|&place| !is_number(place)) {
                    None if is_loss(0) && is_single => {
                        Returns::Loss(metrics.iter().map(|(name, _)| name.clone()).collect())
                    }
                    Some(place) if is_loss(0) && is_single => {
                        let name = metrics.get(place - 1).map_or("", |(name, _)| name.as_str());
                        Returns::Other(format!("a loss and the metric {name}, which is no single number"))
                    }
                    _ => Returns::Other("a tensor that is no loss, and a dictionary".into()),
                }
            }
            items => Returns::Other(format!("a tuple of {}", items.len())),
        },
        Tree::Dict(items) => {
            let names: Vec<_> = items.iter().take(8).map(|(name, _)| name.as_str()).collect();
            Returns::Other(format!("a dictionary of {}", names.join(", ")))
        }
        Tree::Other(name, _) => Returns::Other(format!("a {name}")),
    }
}

fn mode(graph: &Graph) -> Mode {
    let mut found = Mode::Either;
    for (name, argument) in graph.nodes.iter().flat_map(|node| &node.arguments) {
        let is_training = match argument {
            Argument::Bool(is) if name == "training" || name == "train" => *is,
            Argument::Float(p) if name == "dropout_p" && *p > 0.0 => true,
            Argument::Graph(inner) => match mode(inner) {
                Mode::Training => true,
                Mode::Evaluation => false,
                Mode::Either => continue,
            },
            _ => continue,
        };
        if is_training {
            return Mode::Training;
        }
        found = Mode::Evaluation;
    }
    found
}
