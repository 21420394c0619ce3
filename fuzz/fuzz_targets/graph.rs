//! Graphs of operators: a plan keeps to its rules, whatever operators are called with.
//! Graphs are made up whose names fit together, so that the inputs get beyond the reader.

#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use torchd::exported::Archive;
use torchd::exported::compile::compile;
use torchd::exported::operators::Operators;
use torchd_fuzz::exported::{archive, follow, operators};
use torchd_fuzz::memory::bounded;

static OPERATORS: LazyLock<Operators> = LazyLock::new(operators);
static NAMES: LazyLock<Vec<&str>> = LazyLock::new(|| {
    include_str!("../../tests/data/exported/operators.txt")
        .lines()
        .filter_map(|schema| schema.split('(').next())
        .collect()
});

/// The target of a call.
#[derive(Arbitrary, Debug)]
enum Target {
    Operator(u16),
    Compute(u8),
    SetGrad(bool, Made),
    Autocast(bool, Made),
    Cond(Made, Made),
}

/// An argument; numbers choose among the values that there are.
#[derive(Arbitrary, Debug)]
enum Argument {
    None,
    Tensor(u8),
    Tensors(Vec<u8>),
    Optional(Vec<Option<u8>>),
    Int(i64),
    Ints(Vec<i64>),
    Float(f64),
    Bool(bool),
    Text(String),
    Symbol(u8),
    Symbols(Vec<(bool, u8)>),
    Dtype(u8),
    Device,
}

#[derive(Arbitrary, Debug)]
enum Result {
    Tensor,
    Tensors(u8),
    Number,
    Nothing,
}

#[derive(Arbitrary, Debug)]
struct Node {
    target: Target,
    arguments: Vec<(u8, Argument)>,
    results: Vec<Result>,
}

#[derive(Arbitrary, Debug)]
struct Made {
    inputs: u8,
    nodes: Vec<Node>,
    outputs: Vec<Argument>,
}

/// An object of these values, which `json!` would copy anew at each level of graphs in graphs.
fn object<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Object(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A graph in the making.
#[derive(Default)]
struct Writer {
    tensors: Vec<String>,
    numbers: Vec<String>,
}

impl Writer {
    fn tensor(&self, choice: u8) -> Value {
        json!({"name": self.tensors.get(usize::from(choice) % self.tensors.len().max(1)).map_or("x", String::as_str)})
    }

    fn number(&self, choice: u8) -> Value {
        match self.numbers.get(usize::from(choice) % self.numbers.len().max(1)) {
            Some(name) => json!({"as_name": name}),
            None => json!({"as_int": choice}),
        }
    }

    fn argument(&self, argument: &Argument) -> Value {
        match argument {
            Argument::None => json!({"as_none": true}),
            Argument::Tensor(choice) => json!({"as_tensor": self.tensor(*choice)}),
            Argument::Tensors(choices) => {
                json!({"as_tensors": choices.iter().map(|choice| self.tensor(*choice)).collect::<Vec<_>>()})
            }
            Argument::Optional(choices) => {
                let item = |choice: &Option<u8>| match choice {
                    Some(choice) => json!({"as_tensor": self.tensor(*choice)}),
                    None => json!({"as_none": true}),
                };
                json!({"as_optional_tensors": choices.iter().map(item).collect::<Vec<_>>()})
            }
            Argument::Int(number) => json!({"as_int": number}),
            Argument::Ints(numbers) => json!({"as_ints": numbers}),
            Argument::Float(number) if number.is_finite() => json!({"as_float": number}),
            Argument::Float(_) => json!({"as_float": "Infinity"}),
            Argument::Bool(is) => json!({"as_bool": is}),
            Argument::Text(text) => json!({"as_string": text}),
            Argument::Symbol(choice) => json!({"as_sym_int": self.number(*choice)}),
            Argument::Symbols(choices) => {
                let item = |(is_fixed, choice): &(bool, u8)| match is_fixed {
                    true => json!({"as_int": choice}),
                    false => self.number(*choice),
                };
                json!({"as_sym_ints": choices.iter().map(item).collect::<Vec<_>>()})
            }
            Argument::Dtype(number) => json!({"as_scalar_type": number % 14}),
            Argument::Device => json!({"as_device": {"type": "cpu", "index": null}}),
        }
    }

    fn define(&mut self, is_tensor: bool) -> String {
        let name = format!("v{}", self.tensors.len() + self.numbers.len());
        if is_tensor { &mut self.tensors } else { &mut self.numbers }.push(name.clone());
        name
    }

    fn node(&mut self, node: &Node) -> Value {
        let graph = |made: &Made| object([("as_graph", object([("name", "inner".into()), ("graph", graph(made))]))]);
        let (target, mut inputs) = match &node.target {
            Target::Operator(choice) => {
                let name = NAMES[usize::from(*choice) % NAMES.len()].replace("aten::", "torch.ops.aten.");
                (if name.matches('.').count() == 3 { name } else { name + ".default" }, Vec::new())
            }
            Target::Compute(choice) => {
                let names = ["mul", "floordiv", "neg", "eq", "getitem"];
                (format!("_operator.{}", names[usize::from(*choice) % names.len()]), Vec::new())
            }
            Target::SetGrad(is_enabled, made) => {
                let target = "torch.ops.higher_order.wrap_with_set_grad_enabled";
                (target.into(), vec![json!({"as_bool": is_enabled}), graph(made)])
            }
            Target::Autocast(is_enabled, made) => {
                let settings =
                    [json!({"as_string": "cpu"}), json!({"as_scalar_type": 13}), json!({"as_bool": is_enabled})];
                let rest = [json!({"as_none": true}), graph(made)];
                ("torch.ops.higher_order.wrap_with_autocast".into(), settings.into_iter().chain(rest).collect())
            }
            Target::Cond(yes, no) => {
                ("torch.ops.higher_order.cond".into(), vec![json!({"as_bool": true}), graph(yes), graph(no)])
            }
        };
        inputs.extend(node.arguments.iter().map(|(_, argument)| self.argument(argument)));
        let operator = target.strip_prefix("torch.ops.aten.").map(|name| format!("aten::{name}"));
        let operator = operator.and_then(|name| {
            let (name, overload) = name.split_once('.')?;
            OPERATORS.find(name, if overload == "default" { "" } else { overload })
        });
        let named = |(place, argument): (usize, Value)| {
            let choice = node.arguments.get(place).map_or(0, |(choice, _)| usize::from(*choice));
            // Half of them stand where they belong.
            let choice = if choice % 2 == 0 { place } else { choice };
            let parameter =
                operator.and_then(|operator| operator.parameters.get(choice % operator.parameters.len().max(1)));
            let name = parameter.map_or("", |parameter| parameter.name.as_str());
            object([("name", name.into()), ("arg", argument), ("kind", 1.into())])
        };
        let inputs: Vec<_> = inputs.into_iter().enumerate().map(named).collect();
        let result = |result: &Result, writer: &mut Self| match result {
            Result::Tensor => json!({"as_tensor": {"name": writer.define(true)}}),
            Result::Tensors(count) => {
                let names: Vec<_> = (0..count % 4).map(|_| json!({"name": writer.define(true)})).collect();
                json!({"as_tensors": names})
            }
            Result::Number => json!({"as_sym_int": {"as_name": writer.define(false)}}),
            Result::Nothing => json!({"as_none": true}),
        };
        let outputs: Vec<_> = node.results.iter().map(|wanted| result(wanted, self)).collect();
        object([
            ("target", target.into()),
            ("inputs", inputs.into()),
            ("outputs", outputs.into()),
            ("metadata", object([])),
        ])
    }
}

fn graph(made: &Made) -> Value {
    let mut writer = Writer::default();
    let inputs: Vec<_> = (0..=made.inputs % 4).map(|_| json!({"as_tensor": {"name": writer.define(true)}})).collect();
    let nodes: Vec<_> = made.nodes.iter().map(|node| writer.node(node)).collect();
    let outputs: Vec<_> = made.outputs.iter().map(|output| writer.argument(output)).collect();
    let meta = json!({"dtype": 7, "sizes": [], "requires_grad": false, "device": {"type": "cpu", "index": null},
                      "strides": [], "storage_offset": {"as_int": 0}, "layout": 7});
    let tensors: Map<_, _> = writer.tensors.iter().map(|name| (name.clone(), meta.clone())).collect();
    let numbers: Map<_, _> = writer.numbers.iter().map(|name| (name.clone(), json!({"as_int": 1}))).collect();
    object([
        ("inputs", inputs.into()),
        ("outputs", outputs.into()),
        ("nodes", nodes.into()),
        ("tensor_values", tensors.into()),
        ("sym_int_values", numbers.into()),
        ("sym_bool_values", object([])),
    ])
}

fn program(made: &Made) -> Value {
    let graph = graph(made);
    let user = |kind: &str, arguments: &Value| {
        let specs = arguments.as_array().unwrap().iter().map(|argument| json!({kind: {"arg": argument}}));
        specs.collect::<Vec<_>>()
    };
    let signature = json!({"input_specs": user("user_input", &graph["inputs"]),
                           "output_specs": user("user_output", &graph["outputs"])});
    let leaf = r#"{"type": null, "context": null, "children_spec": []}"#;
    let leaves = vec![leaf; made.outputs.len()].join(", ");
    let out = format!(r#"[1, {{"type": "builtins.tuple", "context": "null", "children_spec": [{leaves}]}}]"#);
    let call = json!({"inputs": [], "outputs": [], "in_spec": "", "out_spec": out});
    let calls = json!([{"fqn": "", "signature": call}]);
    object([
        ("graph_module", object([("graph", graph), ("signature", signature), ("module_call_graph", calls)])),
        ("opset_version", object([])),
        ("range_constraints", object([])),
        ("schema_version", json!({"major": 8, "minor": 17})),
    ])
}

fuzz_target!(|made: Made| {
    LazyLock::force(&OPERATORS);
    let json = serde_json::to_vec(&program(&made)).unwrap();
    let bytes = archive(&json, br#"{"config": {}}"#, 0);
    let most = (1 << 20) + 1024 * bytes.len();
    let file = match bounded(most, || Archive::read(&bytes, bytes.len() as u64)) {
        Ok(file) => file,
        Err(problem) => return assert!(!problem.to_string().is_empty()),
    };
    match bounded(most, || compile(&file.models["model"].program.graph, &OPERATORS)) {
        Ok(plan) => follow(&plan),
        Err(refusals) => {
            assert!(!refusals.is_empty() && refusals.iter().all(|refusal| !refusal.to_string().is_empty()))
        }
    }
});
