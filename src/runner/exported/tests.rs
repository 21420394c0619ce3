//! Models that PyTorch exported, trained here and there: the numbers have to be the same, bit for
//! bit on a processor like PyTorch's. `tests/data/exported/README.md` tells how PyTorch trained
//! them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use tch::{Device, Reduction, Tensor};
use torchd::exported::arithmetic::Number;
use torchd::exported::bundle::{Source, Verdict};
use torchd::exported::operators::Operators;
use torchd::exported::{Archive, Bundle, SeededStep};

use super::{Exported, Part};
use crate::dispatcher::{self, Argument, Call};
use crate::graph::Value;
use crate::model::Mode;
use crate::seed::tests::generator;
use crate::seed::{Stream, derive};
use torchd::dataset::draw::shuffle;

#[path = "../../../tests/system/processor.rs"]
mod processor;

const EXAMPLES: u64 = 28;
const SEED: u64 = 7;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/exported").join(name)
}

fn operators() -> Operators {
    let schemas = dispatcher::schemas("aten").unwrap();
    Operators::new(schemas.iter().map(String::as_str))
}

/// A model out of one archive with both graphs, or of two files.
fn load(name: &str, operators: &Operators) -> (Exported, Vec<String>) {
    let open = |file: &str| fs::read(folder(name).join(file)).unwrap();
    let files = match folder(name).join("net.pt2").exists() {
        true => vec![open("net.pt2")],
        false => vec![open("train.pt2"), open("eval.pt2")],
    };
    let [first, rest @ ..] = &files[..] else { unreachable!() };
    let bundle = Bundle::read(source(first), rest.first().map(source)).unwrap();
    let Verdict { train, eval, summary } =
        bundle.judge(operators).unwrap_or_else(|refused| panic!("{name}: {refused:?}"));
    let inputs = summary.inputs.iter().map(|input| input.name.clone()).collect();
    let (_, eval_model) = bundle.eval().unwrap();
    let train = Part { source: first, model: bundle.train(), judged: &train };
    let eval = Part { source: rest.first().unwrap_or(first), model: eval_model, judged: eval.as_ref().unwrap() };
    (Exported::load(train, Some(eval), &summary.tensors, Device::Cpu).unwrap(), inputs)
}

fn source(bytes: &Vec<u8>) -> Source<'_> {
    Source { bytes, size_bytes: bytes.len() as u64 }
}

fn tensors(path: &Path) -> Vec<(String, Tensor)> {
    Tensor::read_safetensors(path).unwrap()
}

fn find<'a>(tensors: &'a [(String, Tensor)], name: &str) -> &'a Tensor {
    &tensors.iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("{name} is missing")).1
}

/// The loss of what a graph returned: those of torch.nn.functional, with their defaults.
fn loss_of(returned: &[Value], kind: Option<&str>, target: &Tensor) -> Tensor {
    let Some(Value::Tensor(first)) = returned.first() else { panic!("{returned:?}") };
    match kind {
        None => first.shallow_clone(),
        Some("cross_entropy") => first.cross_entropy_loss::<Tensor>(target, None, Reduction::Mean, -100, 0.0),
        Some("mse") => first.mse_loss(target, Reduction::Mean),
        Some(other) => panic!("{other}"),
    }
}

/// Trains as the reference was trained, and compares every loss, the state and the evaluation.
fn compare(name: &str) {
    let reference: Json = serde_json::from_slice(&fs::read(folder(name).join("reference.json")).unwrap()).unwrap();
    let run = &reference["runs"]["sgd"];
    let _turn = generator();
    tch::set_num_threads(1);
    let (model, inputs) = load(name, &operators());
    let data = tensors(&folder(name).join("data.safetensors"));
    let kind = reference["loss"].as_str();
    let (rate, momentum) = (run["arguments"]["lr"].as_f64().unwrap(), run["arguments"]["momentum"].as_f64().unwrap());
    let add = Call::prepare("aten::add_", "Tensor", &[Argument::None, Argument::None, Argument::None]).unwrap();
    let mut velocities: Vec<Option<Tensor>> = model.parameters.iter().map(|_| None).collect();
    let mut losses: Vec<f64> = Vec::new();
    let batches = (0..).flat_map(|epoch| {
        let mut order: Vec<u64> = (0..EXAMPLES).collect();
        shuffle(&mut order, derive(SEED, Stream::Order { epoch, window: 0 }));
        order.chunks(8).map(<[_]>::to_vec).collect::<Vec<_>>()
    });
    for (batch, step) in batches.zip(0..20u64) {
        tch::manual_seed(derive(SEED, Stream::Step(step)) as i64);
        let places = Tensor::from_slice(&batch.iter().map(|&place| place as i64).collect::<Vec<_>>());
        let take = |name: &str| find(&data, name).index_select(0, &places);
        let given: Vec<_> = inputs.iter().map(|name| take(name)).collect();
        let given: Vec<_> = given.iter().collect();
        let loss = loss_of(&model.forward(&given, Mode::Train).unwrap(), kind, &take("y"));
        losses.push(f64::try_from(&loss).unwrap());
        let parameters: Vec<_> = model.parameters.iter().map(|named| &named.tensor).collect();
        let gradients = Tensor::run_backward(&[loss], &parameters, false, false);
        tch::no_grad(|| {
            for (place, (parameter, gradient)) in parameters.iter().zip(&gradients).enumerate() {
                if !gradient.defined() {
                    continue;
                }
                let velocity = match &mut velocities[place] {
                    Some(velocity) => velocity.g_mul_scalar_(momentum).g_add_(gradient),
                    first => first.insert(gradient.copy()).shallow_clone(),
                };
                let rate = Argument::Number(Number::Float(-rate));
                let arguments = [Argument::Tensor(parameter), Argument::Tensor(&velocity), rate];
                drop(add.run(&[0, 1, 2], &arguments).unwrap());
            }
        });
    }
    let expected: Vec<f64> = run["losses"].as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap()).collect();
    let is_same = processor::is_that_of(&reference);
    let assert_right = |found: &[f64], expected: &[f64]| {
        let are_close = found.iter().zip(expected).all(|(one, other)| processor::is_close(*one, *other));
        let are_right = found.len() == expected.len() && if is_same { found == expected } else { are_close };
        assert!(are_right, "{name}: {found:?} {expected:?}");
    };
    assert_right(&losses, &expected);
    let saved = tensors(&folder(name).join("sgd.safetensors"));
    let mut compared = 0;
    for (key, right) in &saved {
        let Some(key) = key.strip_prefix("state.") else { continue };
        let found = model.tensor(key).unwrap_or_else(|| panic!("{name}: {key} is missing"));
        assert_eq!(found.kind(), right.kind(), "{name}: {key}");
        let is_right = if is_same { found.equal(right) } else { found.allclose(right, 1e-3, 1e-5, false) };
        assert!(is_right, "{name}: {key} differs by {}", (found - right).abs().max());
        compared += 1;
    }
    assert!(compared >= model.parameters.len() + model.ties.len(), "{name}: {compared}");
    let all: Vec<_> = inputs.iter().map(|name| find(&data, name)).collect();
    let returned = tch::no_grad(|| model.forward(&all, Mode::Evaluate)).unwrap();
    let loss = f64::try_from(loss_of(&returned, kind, find(&data, "y"))).unwrap();
    assert_right(&[loss], &[run["eval_loss"].as_f64().unwrap()]);
}

/// One test for each model, so that they are told apart and run side by side.
macro_rules! models {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            compare(stringify!($name));
        })*
    };
}

models! { mlp cnn gpt encoder lstm tied step_loss step_metrics two_inputs branch masks }

#[test]
fn the_step_that_pytorch_recorded_comes_out_the_same_and_leaves_nothing_behind() {
    let _turn = generator();
    tch::set_num_threads(1);
    for name in
        ["mlp", "cnn", "gpt", "encoder", "lstm", "tied", "step_loss", "step_metrics", "two_inputs", "branch", "masks"]
    {
        let (model, _) = load(name, &operators());
        let bytes = fs::read(folder(name).join("net.pt2")).unwrap();
        let archive = Archive::read(&bytes, bytes.len() as u64).unwrap();
        let mut step = SeededStep::read(&archive, &bytes).unwrap().unwrap();
        let before: Vec<_> = model.buffers.iter().map(|named| named.tensor.copy()).collect();
        model.rehearse(&step, &bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (named, old) in model.buffers.iter().zip(&before) {
            assert!(named.tensor.equal(old), "{name}: {}", named.name);
        }
        assert!(model.parameters.iter().all(|named| !named.tensor.grad().defined()), "{name}");
        step.gradient_norm *= 1.01;
        let told = model.rehearse(&step, &bytes).unwrap_err().to_string();
        assert!(told.contains("the norm of its gradients is ") && told.contains("in PyTorch"), "{name}: {told}");
        step.eval_loss += 1.0;
        let told = model.rehearse(&step, &bytes).unwrap_err().to_string();
        assert!(told.contains("the loss of the graph for evaluation"), "{name}: {told}");
    }
}
