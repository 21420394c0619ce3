//! Small plans made by hand: what the fixtures of `crate::exported` do not reach.

use tch::{Device, Kind, Tensor};
use torchd::exported::arithmetic::{Arithmetic, Number};
use torchd::exported::plan::{Action, Constant, Form, Given, Operand, Origin, Place, Plan, Returned, Step};

use super::{Graph, Input, Value};

fn step(action: Action, results: Vec<Place>, last_uses: Vec<usize>) -> Step {
    let origin = Origin { node: "node".into(), target: "torch.ops.aten.x.default".into(), trace: None };
    Step { action, results, last_uses, origin }
}

fn call(name: &str, overload: &str, arguments: Vec<Given>) -> Action {
    Action::Call { name: name.into(), overload: overload.into(), arguments }
}

fn run(plan: &Plan, inputs: Vec<Value>) -> Result<Vec<Value>, String> {
    let graph = Graph::prepare(plan, Device::Cpu).map_err(|error| error.to_string())?;
    graph.run(inputs.iter().map(Input::from)).map_err(|error| error.to_string())
}

/// `x.view(-1, x.size(0) * 2)`: sizes are computed outside of tensors.
#[test]
fn numbers_are_computed_and_given_in_the_form_that_is_wanted() {
    let plan = Plan {
        slots: 4,
        inputs: vec![Some(0)],
        steps: vec![
            step(
                call("aten::sym_size", "int", vec![Given::Tensor(0), Given::Constant(Constant::Int(0))]),
                vec![Place::One(1)],
                vec![],
            ),
            step(
                Action::Compute(Arithmetic::Mul, Operand::Slot(1), Operand::Number(Number::Int(2))),
                vec![Place::One(2)],
                vec![1],
            ),
            step(
                call(
                    "aten::view",
                    "",
                    vec![Given::Tensor(0), Given::Ints(vec![Operand::Number(Number::Int(-1)), Operand::Slot(2)])],
                ),
                vec![Place::One(3)],
                vec![0],
            ),
            step(
                call("aten::mul", "Tensor", vec![Given::Tensor(3), Given::Number(2, Form::Wrapped)]),
                vec![Place::One(3)],
                vec![2],
            ),
        ],
        outputs: vec![Returned::Slot(3), Returned::Number(Number::Bool(true)), Returned::Nothing],
    };
    let x = Tensor::ones([3, 4], (Kind::Float, Device::Cpu));
    let returned = run(&plan, vec![Value::Tensor(x)]).unwrap();
    let [Value::Tensor(found), Value::Number(Number::Bool(true)), Value::Nothing] = &returned[..] else {
        panic!("{returned:?}");
    };
    assert_eq!((found.size(), found.kind(), f64::try_from(found.max()).unwrap()), (vec![2, 6], Kind::Float, 6.0));
}

#[test]
fn an_error_of_an_operator_names_its_node() {
    let adding = call("aten::add", "Tensor", vec![Given::Tensor(0), Given::Tensor(1), Given::Default]);
    let plan = Plan {
        slots: 3,
        inputs: vec![Some(0), Some(1)],
        steps: vec![step(adding, vec![Place::One(2)], vec![0, 1])],
        outputs: vec![Returned::Slot(2)],
    };
    let tensor = |size| Value::Tensor(Tensor::ones([size], (Kind::Float, Device::Cpu)));
    let told = run(&plan, vec![tensor(2), tensor(3)]).unwrap_err();
    assert!(told.contains("node node (torch.ops.aten.x.default): The size of tensor a (2)"), "{told}");
    let told = run(&plan, vec![tensor(2)]).unwrap_err();
    assert!(told.contains("is used, and not there"), "{told}");
    let told = run(&plan, vec![tensor(2), Value::Number(Number::Int(1))]).unwrap_err();
    assert!(told.contains("is used as a tensor"), "{told}");
}

/// Under `no_grad` nothing is recorded, and behind it again.
#[test]
fn a_region_without_gradients_ends_where_it_ends() {
    let inner = Plan {
        slots: 2,
        inputs: vec![Some(0)],
        steps: vec![step(call("aten::abs", "", vec![Given::Tensor(0)]), vec![Place::One(1)], vec![0])],
        outputs: vec![Returned::Slot(1)],
    };
    let plan = Plan {
        slots: 3,
        inputs: vec![Some(0)],
        steps: vec![
            step(
                Action::SetGrad { is_enabled: false, plan: Box::new(inner), inputs: vec![Operand::Slot(0)] },
                vec![Place::One(1)],
                vec![],
            ),
            step(call("aten::mul", "Tensor", vec![Given::Tensor(0), Given::Tensor(1)]), vec![Place::One(2)], vec![0]),
        ],
        outputs: vec![Returned::Slot(1), Returned::Slot(2)],
    };
    let x = Tensor::from_slice(&[-3f32]).set_requires_grad(true);
    let returned = run(&plan, vec![Value::Tensor(x.shallow_clone())]).unwrap();
    let [Value::Tensor(without), Value::Tensor(with)] = &returned[..] else { panic!("{returned:?}") };
    assert!(!without.requires_grad() && with.requires_grad());
    with.backward();
    assert_eq!(f64::try_from(x.grad()).unwrap(), 3.0);
}

/// Slots and lists are kept from run to run, and what was in them is not.
#[test]
fn a_run_finds_nothing_of_the_one_before() {
    let joined = call("aten::cat", "", vec![Given::Tensors(vec![0, 1, 0]), Given::Default]);
    let row = Given::Ints(vec![Operand::Number(Number::Int(1)), Operand::Slot(3)]);
    let plan = Plan {
        slots: 5,
        inputs: vec![Some(0), Some(1), Some(3)],
        steps: vec![
            step(joined, vec![Place::One(2)], vec![0, 1]),
            step(call("aten::view", "", vec![Given::Tensor(2), row]), vec![Place::One(4)], vec![2, 3]),
        ],
        outputs: vec![Returned::Slot(4)],
    };
    let graph = Graph::prepare(&plan, Device::Cpu).unwrap();
    let tensor = |size| Value::Tensor(Tensor::ones([size], (Kind::Float, Device::Cpu)));
    let run = |values: &[Value]| graph.run(values.iter().map(Input::from)).map_err(|error| error.to_string());
    let length = |number| Value::Number(Number::Int(number));
    for size in [2, 2, 3] {
        let returned = run(&[tensor(size), tensor(1), length(2 * size + 1)]).unwrap();
        let [Value::Tensor(found)] = &returned[..] else { panic!("{returned:?}") };
        assert_eq!(found.size(), [1, 2 * size + 1]);
    }
    let told = run(&[tensor(2), tensor(1), length(7)]).unwrap_err();
    assert!(told.contains("shape '[1, 7]' is invalid"), "{told}");
    let told = run(&[tensor(2)]).unwrap_err();
    assert!(told.contains("the value 1 is used, and not there"), "{told}");
    assert!(run(&[tensor(2), tensor(1), length(5)]).is_ok());
    let told = run(&[tensor(2), tensor(1), Value::Number(Number::Float(5.0))]).unwrap_err();
    assert!(told.contains("is used as a whole number"), "{told}");
}

/// `x[:, places]`: a list in which None stands for a dimension that is taken whole.
#[test]
fn lists_have_places_without_a_tensor() {
    let columns = Given::OptionalTensors(vec![None, Some(1)]);
    let taking = call("aten::index", "Tensor", vec![Given::Tensor(0), columns]);
    let plan = Plan {
        slots: 3,
        inputs: vec![Some(0), Some(1)],
        steps: vec![step(taking, vec![Place::One(2)], vec![0, 1])],
        outputs: vec![Returned::Slot(2)],
    };
    let x = Tensor::arange(6, (Kind::Float, Device::Cpu)).view([2, 3]);
    let returned = run(&plan, vec![Value::Tensor(x), Value::Tensor(Tensor::from_slice(&[2i64]))]).unwrap();
    let [Value::Tensor(found)] = &returned[..] else { panic!("{returned:?}") };
    assert_eq!((found.size(), Vec::<f32>::try_from(found.view(-1)).unwrap()), (vec![2, 1], vec![2.0, 5.0]));
}
