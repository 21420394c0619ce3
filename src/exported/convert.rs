//! Gives an argument of the file the type that the operator takes, as Python's binding of PyTorch
//! does. (PyTorch, torch/csrc/utils/python_arg_parser.cpp)

use super::arithmetic::Number;
use super::dtype::c10;
use super::operators::Type;
use super::plan::{Constant, Form, Given, Operand};
use super::program::{Argument, Graph, Item, Kind, ValueId};

/// The argument in the form of this type.
///
/// # Errors
/// The kind of the argument, if it has no such form.
pub(super) fn convert(argument: &Argument, wanted: &Type, graph: &Graph) -> Result<Given, String> {
    if let Type::Optional(inner) = wanted {
        return match argument {
            Argument::None => Ok(Given::Constant(Constant::None)),
            _ => convert(argument, inner, graph),
        };
    }
    let constant = match argument {
        Argument::Tensor(value) if *wanted == Type::Tensor => return Ok(Given::Tensor(value.place())),
        Argument::Tensors(values) => return tensors(values.iter().copied().map(Some).collect(), wanted),
        Argument::OptionalTensors(values) => return tensors(values.clone(), wanted),
        Argument::Symbol(value) => return symbol(*value, wanted, graph),
        Argument::Int(number) => number_as(Number::Int(*number), wanted),
        Argument::Float(number) => number_as(Number::Float(*number), wanted),
        Argument::Bool(is) => number_as(Number::Bool(*is), wanted),
        Argument::Ints(items) => return ints(items, wanted),
        Argument::Floats(items) => is_list(wanted, &Type::Float).then(|| Constant::Floats(items.clone())),
        Argument::Bools(items) => is_list(wanted, &Type::Bool).then(|| Constant::Bools(items.clone())),
        Argument::Text(text) => (*wanted == Type::Text).then(|| Constant::Text(text.clone())),
        Argument::Dtype(dtype) if *wanted == Type::Dtype => c10(*dtype).map(Constant::Int),
        Argument::Layout(number) => (*wanted == Type::Layout).then_some(Constant::Int(*number)),
        Argument::MemoryFormat(number) => (*wanted == Type::MemoryFormat).then_some(Constant::Int(*number)),
        // Which device that was is judged apart; the job's is used.
        Argument::Device(_) if *wanted == Type::Device => return Ok(Given::Device),
        Argument::None
        | Argument::Tensor(_)
        | Argument::Dtype(_)
        | Argument::Device(_)
        | Argument::Graph(_)
        | Argument::Other(_) => None,
    };
    constant.map(Given::Constant).ok_or_else(|| kind(argument).to_owned())
}

/// A number that is the same in each call.
fn number_as(number: Number, wanted: &Type) -> Option<Constant> {
    match (wanted, number) {
        (Type::Int | Type::Scalar, Number::Int(number)) => Some(Constant::Int(number)),
        (Type::Float | Type::Scalar, Number::Float(number)) => Some(Constant::Float(number)),
        (Type::Float, Number::Int(number)) => Some(Constant::Float(number as f64)),
        (Type::Bool | Type::Scalar, Number::Bool(is)) => Some(Constant::Bool(is)),
        (Type::Tensor, number) => Some(Constant::Wrapped(number)),
        // `int[2] stride` is given as one number, too.
        (Type::List(inner, Some(length)), Number::Int(number)) if **inner == Type::Int => {
            Some(Constant::Ints(vec![number; *length]))
        }
        (Type::List(inner, Some(length)), number) if **inner == Type::Float => {
            Some(Constant::Floats(vec![number.float(); *length]))
        }
        _ => None,
    }
}

/// A number that the graph computes.
fn symbol(value: ValueId, wanted: &Type, graph: &Graph) -> Result<Given, String> {
    let kind = graph.values.get(value.place()).map(|value| &value.kind);
    let form = match (wanted, kind) {
        (Type::Int | Type::Scalar, Some(Kind::Int(_)))
        | (Type::Float | Type::Scalar, Some(Kind::Float))
        | (Type::Bool | Type::Scalar, Some(Kind::Bool)) => Form::Same,
        (Type::Float, Some(Kind::Int(_))) => Form::Float,
        (Type::Tensor, Some(Kind::Int(_) | Kind::Float | Kind::Bool)) => Form::Wrapped,
        (Type::List(inner, Some(length)), Some(Kind::Int(_))) if **inner == Type::Int => Form::Repeated(*length),
        _ => return Err("a number that is computed".into()),
    };
    Ok(Given::Number(value.place(), form))
}

fn ints(items: &[Item], wanted: &Type) -> Result<Given, String> {
    let fixed: Option<Vec<_>> = items
        .iter()
        .map(|item| match item {
            Item::Fixed(number) => Some(*number),
            Item::Symbol(_) => None,
        })
        .collect();
    match (fixed, wanted) {
        (Some(fixed), _) if is_list(wanted, &Type::Int) => Ok(Given::Constant(Constant::Ints(fixed))),
        (Some(fixed), _) if is_list(wanted, &Type::Float) => {
            Ok(Given::Constant(Constant::Floats(fixed.into_iter().map(|number| number as f64).collect())))
        }
        (Some(fixed), Type::List(inner, _)) if fixed.is_empty() => empty(inner),
        (None, _) if is_list(wanted, &Type::Int) => {
            let operand = |item: &Item| match item {
                Item::Fixed(number) => Operand::Number(Number::Int(*number)),
                Item::Symbol(value) => Operand::Slot(value.place()),
            };
            Ok(Given::Ints(items.iter().map(operand).collect()))
        }
        _ => Err("a list of whole numbers".into()),
    }
}

fn tensors(values: Vec<Option<ValueId>>, wanted: &Type) -> Result<Given, String> {
    let Type::List(inner, _) = wanted else { return Err("a list of tensors".into()) };
    let slots = values.iter().map(|value| value.map(ValueId::place));
    match &**inner {
        Type::Optional(inner) if **inner == Type::Tensor => Ok(Given::OptionalTensors(slots.collect())),
        Type::Tensor => {
            let slots: Option<_> = slots.collect();
            slots.map(Given::Tensors).ok_or_else(|| "a list of tensors, some of which are None".into())
        }
        inner if values.is_empty() => empty(inner),
        _ => Err("a list of tensors".into()),
    }
}

/// An empty list has no type in the file.
fn empty(inner: &Type) -> Result<Given, String> {
    match inner {
        Type::Int => Ok(Given::Constant(Constant::Ints(Vec::new()))),
        Type::Float => Ok(Given::Constant(Constant::Floats(Vec::new()))),
        Type::Bool => Ok(Given::Constant(Constant::Bools(Vec::new()))),
        Type::Tensor => Ok(Given::Tensors(Vec::new())),
        Type::Optional(inner) if **inner == Type::Tensor => Ok(Given::OptionalTensors(Vec::new())),
        _ => Err("an empty list".into()),
    }
}

fn is_list(wanted: &Type, of: &Type) -> bool {
    matches!(wanted, Type::List(inner, _) if **inner == *of)
}

/// The kind of an argument, in a user's words.
pub(super) fn kind(argument: &Argument) -> &'static str {
    match argument {
        Argument::None => "None",
        Argument::Tensor(_) => "a tensor",
        Argument::Tensors(_) | Argument::OptionalTensors(_) => "a list of tensors",
        Argument::Symbol(_) => "a number that is computed",
        Argument::Ints(_) => "a list of whole numbers",
        Argument::Int(_) => "a whole number",
        Argument::Float(_) => "a number with a fraction",
        Argument::Floats(_) => "a list of numbers with fractions",
        Argument::Bool(_) => "a truth",
        Argument::Bools(_) => "a list of truths",
        Argument::Text(_) => "a text",
        Argument::Dtype(_) => "a data type",
        Argument::Layout(_) => "a layout",
        Argument::MemoryFormat(_) => "a memory format",
        Argument::Device(_) => "a device",
        Argument::Graph(_) => "a graph",
        Argument::Other(kind) => kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exported::operators::Operator;
    use crate::exported::program::{Size, Value};
    use crate::tensor_file::Dtype;

    fn wanted(text: &str) -> Type {
        Operator::read(&format!("aten::x({text} x) -> ()")).unwrap().1.parameters[0].kind.clone()
    }

    #[test]
    fn arguments_take_the_form_that_the_operator_wants() {
        let values = [Kind::Int(Size::Fixed(1)), Kind::Float, Kind::Bool];
        let values = values.map(|kind| Value { name: "n".into(), kind }).into();
        let graph = Graph { values, ..Graph::default() };
        let (int, float) = (ValueId(0), ValueId(1));
        let wrapped = |number| Given::Constant(Constant::Wrapped(number));
        for (argument, text, expected) in [
            (Argument::Int(2), "float", Given::Constant(Constant::Float(2.0))),
            (Argument::Int(2), "SymInt?", Given::Constant(Constant::Int(2))),
            (Argument::Int(2), "int[3]", Given::Constant(Constant::Ints(vec![2, 2, 2]))),
            (Argument::Int(2), "Tensor", wrapped(Number::Int(2))),
            (Argument::Float(0.5), "Tensor?", wrapped(Number::Float(0.5))),
            (Argument::Bool(true), "Scalar", Given::Constant(Constant::Bool(true))),
            (Argument::None, "int[1]?", Given::Constant(Constant::None)),
            (Argument::Dtype(Dtype::Bf16), "ScalarType?", Given::Constant(Constant::Int(15))),
            (Argument::Ints(vec![Item::Fixed(1)]), "float[]?", Given::Constant(Constant::Floats(vec![1.0]))),
            (
                Argument::Ints(vec![Item::Symbol(int), Item::Fixed(-1)]),
                "SymInt[]",
                Given::Ints(vec![Operand::Slot(0), Operand::Number(Number::Int(-1))]),
            ),
            (Argument::Tensors(vec![]), "float[]", Given::Constant(Constant::Floats(vec![]))),
            (Argument::Tensors(vec![int]), "Tensor?[]", Given::OptionalTensors(vec![Some(0)])),
            (Argument::OptionalTensors(vec![Some(int)]), "Tensor[]", Given::Tensors(vec![0])),
            (Argument::Symbol(int), "Scalar", Given::Number(0, Form::Same)),
            (Argument::Symbol(int), "float", Given::Number(0, Form::Float)),
            (Argument::Symbol(float), "Tensor", Given::Number(1, Form::Wrapped)),
            (Argument::Symbol(int), "SymInt[2]", Given::Number(0, Form::Repeated(2))),
        ] {
            assert_eq!(convert(&argument, &wanted(text), &graph), Ok(expected), "{argument:?} as {text}");
        }
        for (argument, text) in [
            (Argument::Float(0.5), "int"),
            (Argument::Int(1), "bool"),
            (Argument::Int(1), "int[]"),
            (Argument::None, "Tensor"),
            (Argument::Tensor(int), "Scalar"),
            (Argument::Tensor(int), "Tensor[]"),
            (Argument::OptionalTensors(vec![None]), "Tensor[]"),
            (Argument::Symbol(float), "int"),
            (Argument::Text("x".into()), "ScalarType"),
            (Argument::Other("as_complex"), "Scalar"),
            (Argument::Int(1), "Generator?"),
        ] {
            assert!(convert(&argument, &wanted(text), &graph).is_err(), "{argument:?} as {text}");
        }
    }
}
