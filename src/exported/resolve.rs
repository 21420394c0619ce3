//! Makes a [`Program`] of the file's form: names become places, and each must be defined once and
//! before its use.

use std::collections::HashMap;

use super::dtype;
use super::problem::{Problem, Result, shown};
use super::program::{
    Argument, Bind, Bounds, Device, Graph, Input, Item, Kind, Node, Output, Program, Size, TensorInfo, Value, ValueId,
};
use super::schema;
use super::trace::Trace;
use super::tree::Tree;
use crate::tensor_file::Dtype;

/// The program in an entry of the archive.
pub(super) fn program(file: schema::ExportedProgram, entry: &str) -> Result<Program> {
    let module = file.graph_module;
    let entry = shown(entry);
    let at = |place: &str| format!("{entry} at graph_module.{place}");
    let root = module.module_call_graph.iter().find(|module| module.fqn.is_empty());
    let signature = root.and_then(|module| module.signature.as_ref()).ok_or_else(|| {
        Problem::damaged(at("module_call_graph"), "it does not tell how the module is called, nor what it returns")
    })?;
    let returns = Tree::read(&signature.out_spec, &at("module_call_graph[0].signature.out_spec"))?;
    let inputs = inputs(&module.graph, &module.signature.input_specs, &at("signature.input_specs"))?;
    let (graph, names) = graph(module.graph, &at("graph"))?;
    let inputs = inputs.into_iter().map(|input| input.resolve(&names)).collect();
    let outputs: Vec<_> = module.signature.output_specs.iter().map(output).collect();
    if outputs.len() != graph.outputs.len() {
        let what = format!("{} outputs, and the graph has {}", outputs.len(), graph.outputs.len());
        return Err(Problem::damaged(at("signature.output_specs"), what));
    }
    let from_user = outputs.iter().filter(|output| **output == Output::User).count();
    if returns.leaves() != from_user {
        let what = format!("{} values are returned, and the graph has {from_user}", returns.leaves());
        return Err(Problem::damaged(at("module_call_graph[0].signature.out_spec"), what));
    }
    let bounds = |range: schema::RangeConstraint| Bounds { least: range.min_val, most: range.max_val };
    Ok(Program {
        torch_version: shown(&file.torch_version),
        schema: (file.schema_version.major, file.schema_version.minor),
        dialects: file.verifiers,
        graph,
        inputs,
        outputs,
        returns,
        symbols: file.range_constraints.0.into_iter().map(|(name, range)| (name, bounds(range))).collect(),
    })
}

/// An input whose value is still a name.
enum NamedInput {
    Parameter { name: String, value: String },
    Buffer { name: String, value: String, is_persistent: bool },
    Constant { name: String, value: String },
    User { value: String },
    Fixed { name: String },
}

impl NamedInput {
    fn resolve(self, names: &HashMap<String, ValueId>) -> Input {
        // Every name is one of the graph's inputs: `inputs` has compared them.
        let of = |name: &str| names.get(name).copied().unwrap_or(ValueId(0));
        match self {
            Self::Parameter { name, value } => Input::Parameter { value: of(&value), name },
            Self::Buffer { name, value, is_persistent } => Input::Buffer { value: of(&value), name, is_persistent },
            Self::Constant { name, value } => Input::Constant { value: of(&value), name },
            Self::User { value } => Input::User { value: of(&value), name: value },
            Self::Fixed { name } => Input::Fixed { name },
        }
    }
}

/// The inputs by the signature, which has to agree with the graph.
fn inputs(graph: &schema::Graph, specs: &[schema::InputSpec], place: &str) -> Result<Vec<NamedInput>> {
    use schema::InputSpec;
    if specs.len() != graph.inputs.len() {
        let what = format!("{} inputs, and the graph has {}", specs.len(), graph.inputs.len());
        return Err(Problem::damaged(place, what));
    }
    let mut inputs = Vec::with_capacity(specs.len());
    for (index, (spec, argument)) in specs.iter().zip(&graph.inputs).enumerate() {
        let place = || format!("{place}[{index}]");
        let expected = match argument {
            schema::Argument::AsTensor(named) => Some(named.name.as_str()),
            _ => None,
        };
        let (said, input) = match spec {
            InputSpec::Parameter { arg, parameter_name: name } => {
                (&arg.name, NamedInput::Parameter { name: name.clone(), value: arg.name.clone() })
            }
            InputSpec::Buffer { arg, buffer_name: name, persistent } => {
                let (name, value) = (name.clone(), arg.name.clone());
                (&arg.name, NamedInput::Buffer { name, value, is_persistent: *persistent })
            }
            InputSpec::TensorConstant { arg, tensor_constant_name: name } => {
                (&arg.name, NamedInput::Constant { name: name.clone(), value: arg.name.clone() })
            }
            InputSpec::UserInput { arg: schema::Argument::AsTensor(named) } => {
                (&named.name, NamedInput::User { value: named.name.clone() })
            }
            InputSpec::UserInput { arg: schema::Argument::AsNone(_) } => {
                inputs.push(NamedInput::Fixed { name: String::new() });
                continue;
            }
            InputSpec::ConstantInput { name, .. } => {
                inputs.push(NamedInput::Fixed { name: name.clone() });
                continue;
            }
            InputSpec::UserInput { arg } => {
                let what = format!("an input of the kind {}; the inputs of a module must be tensors", arg.kind());
                return Err(Problem::unsupported(place(), what));
            }
            InputSpec::CustomObj { arg, custom_obj_name: name } => {
                let what =
                    format!("{} is an object of the class {}; tensors are taken", shown(name), shown(&arg.class_fqn));
                return Err(Problem::unsupported(place(), what));
            }
            InputSpec::Token { .. } => {
                let what = "a token, which orders calls with effects; models are taken that have none";
                return Err(Problem::unsupported(place(), what));
            }
        };
        if expected != Some(said.as_str()) {
            let what = format!("{} is not the input that the graph has there", shown(said));
            return Err(Problem::damaged(place(), what));
        }
        inputs.push(input);
    }
    Ok(inputs)
}

fn output(spec: &schema::OutputSpec) -> Output {
    use schema::OutputSpec;
    match spec {
        OutputSpec::UserOutput { .. } => Output::User,
        OutputSpec::LossOutput { .. } => Output::Other("loss_output"),
        OutputSpec::BufferMutation { .. } => Output::Other("buffer_mutation"),
        OutputSpec::GradientToParameter { .. } => Output::Other("gradient_to_parameter"),
        OutputSpec::GradientToUserInput { .. } => Output::Other("gradient_to_user_input"),
        OutputSpec::UserInputMutation { .. } => Output::Other("user_input_mutation"),
        OutputSpec::ParameterMutation { .. } => Output::Other("parameter_mutation"),
        OutputSpec::Token { .. } => Output::Other("token"),
    }
}

/// The names of a graph, which are its own: one inside another sees none from outside.
struct Names {
    kinds: HashMap<String, Kind>,
    defined: HashMap<String, ValueId>,
    values: Vec<Value>,
}

impl Names {
    fn define(&mut self, name: String, place: &str) -> Result<ValueId> {
        let Some(kind) = self.kinds.remove(&name) else {
            let what = match self.defined.contains_key(&name) {
                true => format!("{} is defined a second time", shown(&name)),
                false => format!("the file does not tell what {} is", shown(&name)),
            };
            return Err(Problem::damaged(place, what));
        };
        // No file has that many values: each takes some bytes of it.
        let id = ValueId(u32::try_from(self.values.len()).unwrap_or(u32::MAX));
        self.values.push(Value { name: name.clone(), kind });
        self.defined.insert(name, id);
        Ok(id)
    }

    fn used(&self, name: &str, place: &str) -> Result<ValueId> {
        self.defined
            .get(name)
            .copied()
            .ok_or_else(|| Problem::damaged(place, format!("{} is used and not defined before", shown(name))))
    }

    fn tensor(&self, named: &schema::Named, place: &str) -> Result<ValueId> {
        let id = self.used(&named.name, place)?;
        match self.values[id.place()].kind {
            Kind::Tensor(_) => Ok(id),
            Kind::Int(_) | Kind::Float | Kind::Bool => {
                Err(Problem::damaged(place, format!("{} is no tensor", shown(&named.name))))
            }
        }
    }

    fn symbol(&self, name: &str, place: &str) -> Result<ValueId> {
        let id = self.used(name, place)?;
        match self.values[id.place()].kind {
            Kind::Tensor(_) => Err(Problem::damaged(place, format!("{} is a tensor, and no number", shown(name)))),
            Kind::Int(_) | Kind::Float | Kind::Bool => Ok(id),
        }
    }

    fn optional(&self, item: &schema::OptionalTensor, place: &str) -> Result<Option<ValueId>> {
        match item {
            schema::OptionalTensor::AsTensor(named) => self.tensor(named, place).map(Some),
            schema::OptionalTensor::AsNone(_) => Ok(None),
        }
    }
}

fn graph(file: schema::Graph, place: &str) -> Result<(Graph, HashMap<String, ValueId>)> {
    if let Some((name, object)) = file.custom_obj_values.first_key_value() {
        let what = format!("{} is an object of the class {}; tensors are taken", shown(name), shown(&object.class_fqn));
        return Err(Problem::unsupported(format!("{place}.custom_obj_values"), what));
    }
    let mut names = Names { kinds: kinds(&file, place)?, defined: HashMap::new(), values: Vec::new() };
    let mut inputs = Vec::with_capacity(file.inputs.len());
    for (index, input) in file.inputs.into_iter().enumerate() {
        use schema::{Argument as A, SymBoolArgument, SymFloatArgument, SymIntArgument};
        let place = format!("{place}.inputs[{index}]");
        inputs.push(match input {
            A::AsTensor(named) => Some(names.define(named.name, &place)?),
            A::AsSymInt(SymIntArgument::AsName(name))
            | A::AsSymFloat(SymFloatArgument::AsName(name))
            | A::AsSymBool(SymBoolArgument::AsName(name)) => Some(names.define(name, &place)?),
            // Fixed when the program was exported.
            A::AsNone(_) | A::AsInt(_) | A::AsFloat(_) | A::AsBool(_) | A::AsString(_) => None,
            other => {
                let what = format!("an input of the kind {}; tensors and numbers are taken", other.kind());
                return Err(Problem::unsupported(place, what));
            }
        });
    }
    let mut nodes = Vec::with_capacity(file.nodes.len());
    for (index, node) in file.nodes.into_iter().enumerate() {
        let place = format!("{place}.nodes[{index}] ({})", shown(&node.target));
        let mut arguments = Vec::with_capacity(node.inputs.len());
        for input in node.inputs {
            arguments.push((input.name, argument(input.arg, &names, &place)?));
        }
        let mut results = Vec::with_capacity(node.outputs.len());
        for output in node.outputs {
            results.push(bind(output, &mut names, &place)?);
        }
        let trace = node.metadata.get("stack_trace").and_then(|stack| Trace::read(stack));
        let name = shown(&node.name.unwrap_or_default());
        nodes.push(Node { name, target: node.target, arguments, results, trace });
    }
    let place = format!("{place}.outputs");
    let outputs = file.outputs.into_iter().map(|output| argument(output, &names, &place)).collect::<Result<_>>()?;
    Ok((Graph { values: names.values, inputs, nodes, outputs }, names.defined))
}

/// The kinds of all values, by name.
fn kinds(file: &schema::Graph, place: &str) -> Result<HashMap<String, Kind>> {
    let mut kinds = HashMap::new();
    for (name, meta) in &file.tensor_values.0 {
        kinds.insert(name.clone(), Kind::Tensor(tensor(meta, &format!("{place}.tensor_values.{}", shown(name)))?));
    }
    let ints = file.sym_int_values.0.iter().map(|(name, value)| (name, Kind::Int(size(value))));
    let floats = file.sym_float_values.0.iter().map(|(name, _)| (name, Kind::Float));
    let bools = file.sym_bool_values.0.iter().map(|(name, _)| (name, Kind::Bool));
    for (name, kind) in ints.chain(floats).chain(bools) {
        if kinds.insert(name.clone(), kind).is_some() {
            return Err(Problem::damaged(place, format!("{} has two kinds", shown(name))));
        }
    }
    Ok(kinds)
}

/// The type and the sizes of a tensor.
pub(super) fn tensor(meta: &schema::TensorMeta, place: &str) -> Result<TensorInfo> {
    if dtype::layout(meta.layout).is_none() {
        let what = format!("a tensor of the layout {}; dense ones (strided, 7) are taken", meta.layout);
        return Err(Problem::unsupported(place, what));
    }
    let sizes = meta.sizes.iter().map(size).collect();
    Ok(TensorInfo {
        dtype: scalar_type(meta.dtype, place)?,
        sizes,
        requires_grad: meta.requires_grad,
        device: device(&meta.device),
    })
}

pub(super) fn size(size: &schema::SymInt) -> Size {
    match size {
        schema::SymInt::AsInt(size) => Size::Fixed(*size),
        schema::SymInt::AsExpr(expression) => symbol(&expression.expr_str),
    }
}

/// PyTorch writes the constructors of SymPy's expressions: `Symbol('s17', integer=True)`.
fn symbol(text: &str) -> Size {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let inside = text.strip_prefix("Symbol('").and_then(|rest| rest.strip_suffix(')'));
    if let Some((name, rest)) = inside.and_then(|inside| inside.split_once('\''))
        && is_name(name)
        && !rest.contains(['(', ')'])
    {
        return Size::Symbol(name.into());
    }
    let number = text.strip_prefix("Integer(").and_then(|rest| rest.strip_suffix(')')).unwrap_or(text);
    match number.parse() {
        Ok(number) => Size::Fixed(number),
        Err(_) if is_name(text) => Size::Symbol(text.into()),
        Err(_) => Size::Expression(shown(text)),
    }
}

fn scalar_type(number: i64, place: &str) -> Result<Dtype> {
    dtype::dtype(number).ok_or_else(|| Problem::unsupported(place, format!("a data type of the number {number}")))
}

fn device(device: &schema::Device) -> Device {
    Device { kind: shown(&device.kind), index: device.index }
}

fn argument(argument: schema::Argument, names: &Names, place: &str) -> Result<Argument> {
    use schema::{Argument as A, OptionalTensor, SymBoolArgument, SymFloatArgument, SymIntArgument};
    let kind = argument.kind();
    Ok(match argument {
        A::AsNone(_) | A::AsOptionalTensor(OptionalTensor::AsNone(_)) => Argument::None,
        A::AsTensor(named) | A::AsOptionalTensor(OptionalTensor::AsTensor(named)) => {
            Argument::Tensor(names.tensor(&named, place)?)
        }
        A::AsTensors(items) => {
            Argument::Tensors(items.iter().map(|item| names.tensor(item, place)).collect::<Result<_>>()?)
        }
        A::AsOptionalTensors(items) => {
            Argument::OptionalTensors(items.iter().map(|item| names.optional(item, place)).collect::<Result<_>>()?)
        }
        A::AsInt(number) | A::AsSymInt(SymIntArgument::AsInt(number)) => Argument::Int(number),
        A::AsFloat(number) | A::AsSymFloat(SymFloatArgument::AsFloat(number)) => Argument::Float(number.0),
        A::AsBool(is) | A::AsSymBool(SymBoolArgument::AsBool(is)) => Argument::Bool(is),
        A::AsSymInt(SymIntArgument::AsName(name))
        | A::AsSymFloat(SymFloatArgument::AsName(name))
        | A::AsSymBool(SymBoolArgument::AsName(name)) => Argument::Symbol(names.symbol(&name, place)?),
        A::AsInts(items) => Argument::Ints(items.into_iter().map(Item::Fixed).collect()),
        A::AsSymInts(items) => {
            let item = |item: SymIntArgument| match item {
                SymIntArgument::AsInt(number) => Ok(Item::Fixed(number)),
                SymIntArgument::AsName(name) => names.symbol(&name, place).map(Item::Symbol),
            };
            Argument::Ints(items.into_iter().map(item).collect::<Result<_>>()?)
        }
        A::AsFloats(items) => Argument::Floats(items.into_iter().map(|item| item.0).collect()),
        A::AsBools(items) => Argument::Bools(items),
        A::AsString(text) => Argument::Text(text),
        A::AsScalarType(number) => Argument::Dtype(scalar_type(number, place)?),
        A::AsLayout(number) => Argument::Layout(dtype::layout(number).ok_or_else(|| {
            Problem::unsupported(place, format!("the layout {number}; dense tensors (strided, 7) are taken"))
        })?),
        A::AsMemoryFormat(number) => Argument::MemoryFormat(
            dtype::memory_format(number)
                .ok_or_else(|| Problem::unsupported(place, format!("a memory format of the number {number}")))?,
        ),
        A::AsDevice(found) => Argument::Device(device(&found)),
        A::AsGraph(found) => Argument::Graph(Box::new(graph(*found.graph, &format!("{place}.graph"))?.0)),
        A::AsStrings(_)
        | A::AsSymBools(_)
        | A::AsSymFloats(_)
        | A::AsCustomObj(_)
        | A::AsOperator(_)
        | A::AsComplex(_)
        | A::AsNestedTensors(_)
        | A::AsIntLists(_)
        | A::AsFloatLists(_)
        | A::AsStringToArgument(_) => Argument::Other(kind),
    })
}

fn bind(output: schema::Argument, names: &mut Names, place: &str) -> Result<Bind> {
    use schema::{Argument as A, OptionalTensor, SymBoolArgument, SymFloatArgument, SymIntArgument};
    Ok(match output {
        A::AsNone(_) | A::AsOptionalTensor(OptionalTensor::AsNone(_)) => Bind::Nothing,
        A::AsTensor(named) | A::AsOptionalTensor(OptionalTensor::AsTensor(named)) => {
            Bind::One(names.define(named.name, place)?)
        }
        A::AsSymInt(SymIntArgument::AsName(name))
        | A::AsSymFloat(SymFloatArgument::AsName(name))
        | A::AsSymBool(SymBoolArgument::AsName(name)) => Bind::One(names.define(name, place)?),
        A::AsTensors(items) => {
            Bind::Many(items.into_iter().map(|item| names.define(item.name, place)).collect::<Result<_>>()?)
        }
        other => {
            let what = format!("a result of the kind {}; tensors and numbers are taken", other.kind());
            return Err(Problem::unsupported(place, what));
        }
    })
}
