//! Makes a [`Plan`] of a graph, or tells everything in it that this libtorch cannot do.
//!
//! Pure: the operators come as a list of schemas, so that the daemon judges with the same code with
//! which the runner prepares.

use super::arithmetic::{Arithmetic, Number};
use super::dtype::c10;
use super::operators::{Operators, Type};
use super::plan::{Action, Autocast, Given, Operand, Origin, Place, Plan, Returned, Step};
use super::problem::shown;
use super::program::{Argument, Bind, Graph, Node};
use super::refusal::Refusal;
use super::{allowed, convert};

/// A graph beyond that is refused: a program with a hundred thousand operations would spend its
/// time on calling them.
pub const MOST_STEPS: usize = 1 << 20;
/// So many refusals are told, at most.
const MOST_REFUSALS: usize = 20;

/// The plan of a graph for a libtorch with these operators.
///
/// # Errors
/// Everything that stands in the way, up to a bound.
pub fn compile(graph: &Graph, operators: &Operators) -> Result<Plan, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let plan = plan(graph, operators, &mut refusals);
    if refusals.is_empty() && plan.all_steps() > MOST_STEPS {
        refusals
            .push(Refusal::whole(format!("it has {} operations; {MOST_STEPS} at most are taken", plan.all_steps())));
    }
    if refusals.is_empty() { Ok(plan) } else { Err(refusals) }
}

fn plan(graph: &Graph, operators: &Operators, refusals: &mut Vec<Refusal>) -> Plan {
    let mut steps = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let origin = Origin { node: node.name.clone(), target: shown(&node.target), trace: node.trace.clone() };
        match action(node, graph, operators, refusals) {
            Ok(action) => steps.push(Step {
                action,
                results: node.results.iter().map(place).collect(),
                last_uses: Vec::new(),
                origin,
            }),
            Err(Mistake { schema, what }) if refusals.len() < MOST_REFUSALS => {
                refusals.push(Refusal { origin: Some(origin), schema, what });
            }
            Err(_) => {}
        }
    }
    let mut outputs = Vec::with_capacity(graph.outputs.len());
    for output in &graph.outputs {
        outputs.push(match output {
            Argument::Tensor(value) | Argument::Symbol(value) => Returned::Slot(value.place()),
            Argument::Int(number) => Returned::Number(Number::Int(*number)),
            Argument::Float(number) => Returned::Number(Number::Float(*number)),
            Argument::Bool(is) => Returned::Number(Number::Bool(*is)),
            Argument::None => Returned::Nothing,
            other => {
                let what = format!("it returns {}; tensors, numbers and None are taken", convert::kind(other));
                if refusals.len() < MOST_REFUSALS {
                    refusals.push(Refusal::whole(what));
                }
                Returned::Nothing
            }
        });
    }
    let mut plan = Plan {
        slots: graph.values.len(),
        inputs: graph.inputs.iter().map(|input| input.map(|value| value.place())).collect(),
        steps,
        outputs,
    };
    free_after_last_use(&mut plan);
    plan
}

/// A node that cannot be done.
struct Mistake {
    schema: String,
    what: String,
}

impl From<String> for Mistake {
    fn from(what: String) -> Self {
        Self { schema: String::new(), what }
    }
}

impl From<&str> for Mistake {
    fn from(what: &str) -> Self {
        what.to_owned().into()
    }
}

fn action(node: &Node, graph: &Graph, operators: &Operators, refusals: &mut Vec<Refusal>) -> Result<Action, Mistake> {
    if let Some(name) = node.target.strip_prefix("torch.ops.higher_order.") {
        return higher_order(name, node, operators, refusals);
    }
    if node.target.starts_with("torch.ops.") {
        return call(node, graph, operators);
    }
    let function = Arithmetic::named(&node.target).ok_or_else(|| match node.target.starts_with("_operator.") {
        true => format!("of Python's functions on sizes these are taken: {}", Arithmetic::names()),
        false => "it is a function of Python; operators of aten are taken".to_owned(),
    })?;
    let operands = operands(node.arguments.iter().map(|(_, argument)| argument))?;
    match (&operands[..], &node.results[..]) {
        (&[only], [Bind::One(_)]) if function.arity() == 1 => {
            Ok(Action::Compute(function, only, Operand::Number(Number::Int(0))))
        }
        (&[one, other], [Bind::One(_)]) if function.arity() == 2 => Ok(Action::Compute(function, one, other)),
        _ => {
            Err(format!("it has {} arguments; {} and one result would be right", operands.len(), function.arity())
                .into())
        }
    }
}

fn call(node: &Node, graph: &Graph, operators: &Operators) -> Result<Action, Mistake> {
    let (name, overload, operator) = allowed::operator(&node.target, operators)?;
    let mistake = |what: String| Mistake { schema: operator.schema.clone(), what };
    let mut arguments = vec![None; operator.parameters.len()];
    for (name, argument) in &node.arguments {
        let place = operator.parameter(name).ok_or_else(|| mistake(format!("it has no argument {}", shown(name))))?;
        if arguments[place].is_some() {
            return Err(mistake(format!("the argument {name} is given twice")));
        }
        let given = convert::convert(argument, &operator.parameters[place].kind, graph);
        arguments[place] = Some(given.map_err(|is| mistake(format!("the argument {name} cannot be {is}")))?);
    }
    let given = |(argument, parameter): (Option<Given>, &super::operators::Parameter)| match argument {
        Some(given) => Ok(given),
        None if parameter.has_default => Ok(Given::Default),
        None => Err(mistake(format!("the argument {} is missing", parameter.name))),
    };
    let arguments = arguments.into_iter().zip(&operator.parameters).map(given).collect::<Result<_, _>>()?;
    let fits = node.results.len() == operator.returns.len()
        && node.results.iter().zip(&operator.returns).all(|(result, returned)| match result {
            Bind::Nothing => true,
            Bind::One(_) => !matches!(returned, Type::List(..)),
            Bind::Many(_) => matches!(returned, Type::List(..)),
        });
    if !fits && !node.results.iter().all(|result| *result == Bind::Nothing) {
        return Err(mistake(format!("{} results are wanted of it", node.results.len())));
    }
    Ok(Action::Call { name, overload, arguments })
}

/// The three operators that take graphs.
fn higher_order(
    name: &str,
    node: &Node,
    operators: &Operators,
    refusals: &mut Vec<Refusal>,
) -> Result<Action, Mistake> {
    let arguments: Vec<_> = node.arguments.iter().map(|(_, argument)| argument).collect();
    let mut inner = |graph: &Graph, inputs: &[Operand]| {
        if graph.inputs.len() != inputs.len() {
            return Err(format!("its graph takes {} inputs, {} are given", graph.inputs.len(), inputs.len()));
        }
        Ok(Box::new(plan(graph, operators, refusals)))
    };
    let action = match (name, &arguments[..]) {
        ("wrap_with_set_grad_enabled", [Argument::Bool(is_enabled), Argument::Graph(graph), rest @ ..]) => {
            let inputs = operands(rest.iter().copied())?;
            Action::SetGrad { is_enabled: *is_enabled, plan: inner(graph, &inputs)?, inputs }
        }
        (
            "wrap_with_autocast",
            [Argument::Text(device), dtype, Argument::Bool(is_enabled), cached, Argument::Graph(graph), rest @ ..],
        ) => {
            let dtype = match dtype {
                Argument::Dtype(dtype) => c10(*dtype),
                Argument::None => None,
                other => return Err(format!("its type is {}", convert::kind(other)).into()),
            };
            let is_cached = match cached {
                Argument::Bool(is) => Some(*is),
                Argument::None => None,
                other => return Err(format!("its cache is {}", convert::kind(other)).into()),
            };
            let is_for_job = match device.as_str() {
                "cpu" => true,
                "cuda" => false,
                other => return Err(format!("autocast for {}; cpu and cuda are taken", shown(other)).into()),
            };
            let autocast = Autocast { is_for_job, is_enabled: *is_enabled, dtype, is_cached };
            let inputs = operands(rest.iter().copied())?;
            Action::Autocast { autocast, plan: inner(graph, &inputs)?, inputs }
        }
        ("cond", [condition, Argument::Graph(yes), Argument::Graph(no), Argument::Tensors(values)]) => {
            let condition = operands([*condition].into_iter())?[0];
            let inputs: Vec<_> = values.iter().map(|value| Operand::Slot(value.place())).collect();
            Action::Cond { condition, yes: inner(yes, &inputs)?, no: inner(no, &inputs)?, inputs }
        }
        ("wrap_with_set_grad_enabled" | "wrap_with_autocast" | "cond", _) => {
            return Err("its arguments are not those that PyTorch gives it".into());
        }
        _ => {
            return Err(
                "of the operators that take graphs wrap_with_set_grad_enabled, wrap_with_autocast and cond are \
                        called"
                    .into(),
            );
        }
    };
    let wanted: usize = node
        .results
        .iter()
        .map(|result| match result {
            Bind::Nothing | Bind::One(_) => 1,
            Bind::Many(values) => values.len(),
        })
        .sum();
    if let Some(plan) = action.plans().find(|plan| plan.outputs.len() != wanted) {
        return Err(format!("its graph returns {} values, {wanted} are wanted", plan.outputs.len()).into());
    }
    Ok(action)
}

fn operands<'a>(arguments: impl Iterator<Item = &'a Argument>) -> Result<Vec<Operand>, String> {
    arguments
        .map(|argument| match argument {
            Argument::Tensor(value) | Argument::Symbol(value) => Ok(Operand::Slot(value.place())),
            Argument::Int(number) => Ok(Operand::Number(Number::Int(*number))),
            Argument::Float(number) => Ok(Operand::Number(Number::Float(*number))),
            Argument::Bool(is) => Ok(Operand::Number(Number::Bool(*is))),
            other => Err(format!("it gets {}; tensors and numbers are taken", convert::kind(other))),
        })
        .collect()
}

fn place(bind: &Bind) -> Place {
    match bind {
        Bind::Nothing => Place::Nothing,
        Bind::One(value) => Place::One(value.place()),
        Bind::Many(values) => Place::Many(values.iter().map(|value| value.place()).collect()),
    }
}

/// Notes in each step the slots that nothing needs behind it. Autograd keeps what it needs itself.
fn free_after_last_use(plan: &mut Plan) {
    let mut is_needed = vec![false; plan.slots];
    for output in &plan.outputs {
        if let Returned::Slot(slot) = output {
            is_needed[*slot] = true;
        }
    }
    for step in plan.steps.iter_mut().rev() {
        let (action, results, last_uses) = (&step.action, &step.results, &mut step.last_uses);
        let mut touch = |slot: usize| {
            if !std::mem::replace(&mut is_needed[slot], true) {
                last_uses.push(slot);
            }
        };
        for result in results {
            match result {
                Place::Nothing => {}
                Place::One(slot) => touch(*slot),
                Place::Many(slots) => slots.iter().copied().for_each(&mut touch),
            }
        }
        used(action, &mut touch);
    }
    // An input that nothing uses is not kept at all.
    for input in &mut plan.inputs {
        *input = input.filter(|&slot| is_needed[slot]);
    }
}

/// Visits every slot that an action reads.
fn used(action: &Action, visit: &mut impl FnMut(usize)) {
    let mut operand = |operand: &Operand| {
        if let Operand::Slot(slot) = operand {
            visit(*slot);
        }
    };
    match action {
        Action::Compute(_, one, other) => [one, other].into_iter().for_each(operand),
        Action::SetGrad { inputs, .. } | Action::Autocast { inputs, .. } => inputs.iter().for_each(operand),
        Action::Cond { condition, inputs, .. } => {
            operand(condition);
            inputs.iter().for_each(operand);
        }
        Action::Call { arguments, .. } => {
            for argument in arguments {
                match argument {
                    Given::Default | Given::Constant(_) | Given::Device => {}
                    Given::Tensor(slot) | Given::Number(slot, _) => operand(&Operand::Slot(*slot)),
                    Given::Tensors(slots) => slots.iter().for_each(|slot| operand(&Operand::Slot(*slot))),
                    Given::OptionalTensors(slots) => {
                        slots.iter().flatten().for_each(|slot| operand(&Operand::Slot(*slot)));
                    }
                    Given::Ints(items) => items.iter().for_each(&mut operand),
                }
            }
        }
    }
}
