//! A summary of a model that was judged: everything that a job has to know of it, without its
//! graphs.

use serde::{Deserialize, Serialize};

use super::archive::Model;
use super::extent::Extent;
use super::facts::{Batch, Facts, Returns};
use super::plan::Origin;
use super::program::{Argument, Bind, Graph, Input, Program, Size};
use super::refusal::Refusal;
use crate::tensor_file::Dtype;

/// A model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The arguments of the module, in their order.
    pub inputs: Vec<Taken>,
    /// Its result.
    pub returns: Returned,
    /// The batches that it trains on.
    pub batch: Batch,
    /// The batches that it is evaluated on; None without a graph for evaluation.
    pub eval_batch: Option<Batch>,
    /// The line that cannot train on a batch of one example; None where there is none.
    pub needs_two: Option<String>,
    /// Its tensors, by every name that they have.
    pub tensors: Vec<Held>,
}

/// An argument of the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Its name.
    pub name: String,
    /// The type of its values.
    pub dtype: Dtype,
    /// The sizes of one example.
    pub sizes: Vec<Extent>,
}

/// The result of the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Returned {
    /// One tensor, to which a loss is applied.
    Output {
        /// The type of its values.
        dtype: Dtype,
        /// The sizes for one example.
        sizes: Vec<Extent>,
    },
    /// The loss itself, and metrics by name.
    Loss(Vec<String>),
}

/// A tensor of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its name.
    pub name: String,
    /// The type of its values.
    pub dtype: Dtype,
    /// Its sizes, outermost first.
    pub shape: Vec<u64>,
    /// Its use.
    pub role: Role,
    /// The name of the same tensor that stands before it, as with tied weights.
    pub same_as: Option<String>,
}

/// The use of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A parameter that training changes.
    Learned,
    /// A buffer, or a parameter that does not want a gradient; `state_dict()` has it.
    Kept,
    /// A buffer that `state_dict()` does not have.
    Hidden,
}

impl Summary {
    /// The summary of a model with these facts of its graphs.
    ///
    /// # Errors
    /// Everything in it that a job cannot use.
    pub fn of(model: &Model, facts: &Facts, eval: Option<&Facts>) -> Result<Self, Vec<Refusal>> {
        let program = &model.program;
        let mut refusals = Vec::new();
        let inputs = facts.inputs.iter().map(|field| Taken {
            name: field.name.clone(),
            dtype: field.dtype,
            sizes: extents(&field.sizes, program),
        });
        let inputs: Vec<_> = inputs.collect();
        for input in &inputs {
            if !matches!(input.dtype, Dtype::F32 | Dtype::I64) {
                let (name, dtype) = (&input.name, super::dtype::name(input.dtype));
                refusals.push(Refusal::whole(format!(
                    "its input {name} is {dtype}; data are given as float32 and int64, so convert it in forward()"
                )));
            }
        }
        let returns = returned(program, facts, &mut refusals);
        let tensors = tensors(model);
        refusals.extend(other_numbers(&tensors));
        for stored in model.weights.iter().filter(|stored| stored.is_parameter && !stored.tensor.is_dense()) {
            let name = &stored.tensor.name;
            refusals.push(Refusal::whole(format!(
                "its parameter {name} is a part of a larger tensor, with gaps between its values: make it with clone() \
                 in the module"
            )));
        }
        match returns {
            Some(returns) if refusals.is_empty() => Ok(Self {
                inputs,
                returns,
                batch: facts.batch,
                eval_batch: eval.map(|eval| eval.batch),
                needs_two: needs_two(&program.graph),
                tensors,
            }),
            _ => Err(refusals),
        }
    }

    /// Whether it returns its loss.
    pub fn brings_loss(&self) -> bool {
        matches!(self.returns, Returned::Loss(_))
    }

    /// The names of the metrics that it returns.
    pub fn metrics(&self) -> &[String] {
        match &self.returns {
            Returned::Loss(metrics) => metrics,
            Returned::Output { .. } => &[],
        }
    }
}

fn extents(sizes: &[Size], program: &Program) -> Vec<Extent> {
    sizes.iter().map(|size| Extent::of(size, program)).collect()
}

/// The symbol of the batch.
fn batch_symbol(program: &Program) -> Option<&Size> {
    let (_, first) = program.user_inputs().next()?;
    program.tensor(first)?.sizes.first()
}

fn returned(program: &Program, facts: &Facts, refusals: &mut Vec<Refusal>) -> Option<Returned> {
    match &facts.returns {
        Returns::Output(info) => {
            if !super::dtype::is_float(info.dtype) {
                refusals.push(Refusal::whole(format!("its output is {info}; a loss is of floats")));
            }
            let batch = batch_symbol(program);
            if info.sizes.first() != batch {
                let batch = batch.map_or_else(String::new, ToString::to_string);
                refusals.push(Refusal::whole(format!(
                    "its output is {info}; its first dimension has to be the batch, {batch}, as that of the inputs is"
                )));
            }
            let sizes = extents(info.sizes.get(1..).unwrap_or_default(), program);
            Some(Returned::Output { dtype: info.dtype, sizes })
        }
        Returns::Loss(metrics) => {
            for (place, name) in metrics.iter().enumerate() {
                if let Some(what) = wrong_name(name).or(metrics[..place].contains(name).then_some("stands there twice"))
                {
                    let name = super::problem::shown(name);
                    refusals.push(Refusal::whole(format!("it returns the metric {name}, which {what}")));
                }
            }
            Some(Returned::Loss(metrics.clone()))
        }
        // Told where the facts were found.
        Returns::Other(_) => None,
    }
}

/// Characters of a metric's name, at most.
const MOST_NAME: usize = 64;

/// The reason for which scalars cannot have this name.
pub fn wrong_name(name: &str) -> Option<&'static str> {
    let is_right = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if name == "loss" {
        return Some("is the name of the loss itself");
    }
    if name.is_empty() || name.len() > MOST_NAME || !name.bytes().all(is_right) {
        return Some("is no name of 1 to 64 letters, digits, `_`, `-` and `.`");
    }
    None
}

/// Every tensor that `state_dict()` has, then the buffers that it has not.
fn tensors(model: &Model) -> Vec<Held> {
    let inputs = &model.program.inputs;
    let is_input =
        |name: &str| inputs.iter().any(|input| matches!(input, Input::Parameter { name: known, .. } if known == name));
    let hidden = inputs.iter().filter_map(|input| match input {
        Input::Buffer { is_persistent: false, .. } => model.stored(input),
        _ => None,
    });
    let kept = model.weights.iter().map(|stored| {
        let is_learned = stored.is_parameter && stored.requires_grad && is_input(&stored.tensor.name);
        (stored, if is_learned { Role::Learned } else { Role::Kept })
    });
    let all: Vec<_> = kept.chain(hidden.map(|stored| (stored, Role::Hidden))).collect();
    let mut held: Vec<Held> = Vec::with_capacity(all.len());
    let mut firsts = std::collections::HashMap::new();
    for (stored, role) in all {
        let layout = &stored.tensor.layout;
        // An empty tensor has no place that it could share.
        let place = (layout.offset, layout.storage_bytes, layout.first, &layout.strides, &stored.tensor.shape);
        let same_as = match firsts.entry((place, stored.tensor.dtype)) {
            _ if stored.tensor.size_bytes() == 0 => None,
            std::collections::hash_map::Entry::Occupied(first) => Some(String::clone(first.get())),
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(stored.tensor.name.clone());
                None
            }
        };
        let (name, dtype, shape) = (stored.tensor.name.clone(), stored.tensor.dtype, stored.tensor.shape.clone());
        held.push(Held { name, dtype, shape, role, same_as });
    }
    held
}

/// The line that normalises over its batch alone, by PyTorch's own rule: the module refuses such a
/// batch of one, and the operator would divide by zero. (torch/nn/functional.py,
/// `_verify_batch_size`)
fn needs_two(graph: &Graph) -> Option<String> {
    for node in &graph.nodes {
        let argument = |name: &str| node.arguments.iter().find(|(known, _)| known == name).map(|(_, found)| found);
        for inner in node.arguments.iter().filter_map(|(_, argument)| argument.graph()) {
            if let Some(found) = needs_two(inner) {
                return Some(found);
            }
        }
        let (Some(Argument::Tensor(input)), Some(Argument::Bool(true))) = (argument("input"), argument("training"))
        else {
            continue;
        };
        let is_norm = node.target == "torch.ops.aten.batch_norm.default";
        let has_one_value = graph
            .tensor(*input)
            .is_some_and(|info| info.sizes.get(2..).unwrap_or_default().iter().all(|size| *size == Size::Fixed(1)));
        if is_norm && has_one_value && node.results.iter().any(|bind| matches!(bind, Bind::One(_))) {
            let origin = Origin { node: node.name.clone(), target: node.target.clone(), trace: node.trace.clone() };
            return Some(origin.to_string());
        }
    }
    None
}

/// One refusal for all parameters that are of another type than float32: mostly the whole model is.
fn other_numbers(tensors: &[Held]) -> Option<Refusal> {
    let learned: Vec<_> = tensors.iter().filter(|held| held.role == Role::Learned).collect();
    let mut odd = learned.iter().filter(|held| held.dtype != Dtype::F32);
    let (first, more) = (odd.next()?, odd.count());
    let (name, dtype) = (&first.name, super::dtype::name(first.dtype));
    let more = match more {
        0 => String::new(),
        _ => format!(", and {more} more of {} parameters are not float32 either", learned.len()),
    };
    Some(Refusal::whole(format!(
        "its parameter {name} is {dtype}{more}; float32 is trained: call model.float() before the export, and give \
         float32 inputs in the example"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exported::Archive;
    use crate::exported::tests::file;

    fn summary(name: &str) -> Summary {
        let bytes = file(&format!("{name}/net.pt2"));
        let archive = Archive::read(&bytes, bytes.len() as u64).unwrap();
        let model = &archive.models["train"];
        Summary::of(model, &Facts::of(&model.program).unwrap(), None).unwrap()
    }

    fn roles(summary: &Summary, role: Role) -> Vec<&str> {
        summary.tensors.iter().filter(|held| held.role == role).map(|held| held.name.as_str()).collect()
    }

    #[test]
    fn tensors_are_told_by_every_name_with_their_use() {
        let gpt = summary("gpt");
        let tied: Vec<_> = gpt.tensors.iter().filter(|held| held.same_as.is_some()).collect();
        assert_eq!(tied.iter().map(|held| &*held.name).collect::<Vec<_>>(), ["head.weight"]);
        assert_eq!(tied[0].same_as.as_deref(), Some("token.weight"));
        let cnn = summary("cnn");
        assert!(roles(&cnn, Role::Kept).iter().any(|name| name.ends_with("num_batches_tracked")));
        assert!(!roles(&summary("tied"), Role::Hidden).is_empty());
    }

    #[test]
    fn a_line_that_normalises_over_its_batch_alone_is_named() {
        let line = summary("mlp").needs_two.unwrap();
        assert!(line.contains("batch_norm") && line.contains("models.py, line "), "{line}");
        // Over the pixels as well.
        assert_eq!(summary("cnn").needs_two, None);
    }

    #[test]
    fn what_a_module_takes_and_returns_is_told_for_one_example() {
        let two = summary("two_inputs");
        let inputs: Vec<_> = two.inputs.iter().map(|input| (&*input.name, input.sizes.clone())).collect();
        let fixed = |sizes: &[u64]| sizes.iter().map(|&size| Extent::Fixed(size)).collect::<Vec<_>>();
        assert_eq!(inputs, [("image", fixed(&[1, 8, 8])), ("numbers", fixed(&[3]))]);
        assert!(matches!(&two.returns, Returned::Output { sizes, .. } if sizes.len() == 1));
        let own = summary("step_metrics");
        assert_eq!((own.brings_loss(), own.metrics().join(" ")), (true, "accuracy score_norm".into()));
        let text = serde_json::to_string(&own).unwrap();
        assert_eq!(serde_json::from_str::<Summary>(&text).unwrap(), own);
    }
}
