//! Whether a job can train the programs of its archives with the libtorch that is there.

use super::archive::Model;
use super::compile::compile;
use super::dtype;
use super::facts::{Facts, Field, Mode, Returns};
use super::operators::Operators;
use super::plan::Plan;
use super::program::{Input, Program, Size};
use super::refusal::Refusal;
use crate::tensor_file::Tensor;

/// A program that can be trained or evaluated.
#[derive(Debug)]
pub struct Judged {
    /// Its inputs, results and mode.
    pub facts: Facts,
    /// The steps by which it is run.
    pub plan: Plan,
}

/// Judges a program that is to be trained.
///
/// # Errors
/// Everything that stands in the way.
pub fn train(model: &Model, operators: &Operators) -> Result<Judged, Vec<Refusal>> {
    let (judged, mut refusals) = program(&model.program, operators);
    if judged.as_ref().is_some_and(|judged| judged.facts.mode == Mode::Evaluation) {
        refusals.push(Refusal::whole(
            "it was exported in evaluation mode: no layer drops out, none normalises by its batch; call train() before \
             the export, and give a graph of eval() as the one for evaluation",
        ));
    }
    if !model.weights.iter().any(|stored| stored.is_parameter && stored.requires_grad) {
        refusals.push(Refusal::whole("it has no parameter that requires a gradient, so nothing can be trained"));
    }
    for stored in model.weights.iter().filter(|stored| stored.requires_grad && !dtype::is_float(stored.tensor.dtype)) {
        let Tensor { name, dtype, .. } = &stored.tensor;
        let what = format!("the parameter {name} is {}; gradients are of floats", dtype::name(*dtype));
        refusals.push(Refusal::whole(what));
    }
    judged.filter(|_| refusals.is_empty()).ok_or(refusals)
}

/// Judges a program that is to be evaluated with the weights that `trained` has.
///
/// # Errors
/// Everything that stands in the way.
pub fn eval(model: &Model, trained: &Model, facts: &Facts, operators: &Operators) -> Result<Judged, Vec<Refusal>> {
    let (judged, mut refusals) = program(&model.program, operators);
    if let Some(judged) = &judged {
        if judged.facts.mode == Mode::Training {
            refusals.push(Refusal::whole(
                "it was exported in training mode: a layer drops out, or normalises by its batch; call eval() before \
                 the export",
            ));
        }
        if inputs(&judged.facts) != inputs(facts) {
            let what = format!("it takes {}, and the graph for training {}", inputs(&judged.facts), inputs(facts));
            refusals.push(Refusal::whole(what));
        }
        if returns(&judged.facts) != returns(facts) {
            let what = format!("it returns {}, and the graph for training {}", returns(&judged.facts), returns(facts));
            refusals.push(Refusal::whole(what));
        }
    }
    for input in &model.program.inputs {
        let (Input::Parameter { name, .. } | Input::Buffer { name, is_persistent: true, .. }) = input else { continue };
        let Some(own) = model.stored(input) else { continue };
        let what = match trained.weights.get(name) {
            None => format!("it has {name}, which the graph for training has not"),
            Some(other) if !other.is_like(own) => {
                format!("its {name} is {own}, and that of the graph for training {other}")
            }
            Some(_) => continue,
        };
        refusals.push(Refusal::whole(what));
    }
    judged.filter(|_| refusals.is_empty()).ok_or(refusals)
}

/// Facts and operators, with all that is wrong with either.
fn program(program: &Program, operators: &Operators) -> (Option<Judged>, Vec<Refusal>) {
    let facts = Facts::of(program);
    let plan = compile(&program.graph, operators);
    match (facts, plan) {
        (Ok(facts), Ok(plan)) => (Some(Judged { facts, plan }), Vec::new()),
        (facts, plan) => {
            let refusals = facts.err().into_iter().chain(plan.err()).flatten().collect();
            (None, refusals)
        }
    }
}

/// The inputs of a program in words; a size that differs is a star.
fn inputs(facts: &Facts) -> String {
    let field = |field: &Field| format!("{} {} {}", field.name, dtype::name(field.dtype), sizes(&field.sizes));
    facts.inputs.iter().map(field).collect::<Vec<_>>().join("; ")
}

/// The result of a program in words, likewise.
fn returns(facts: &Facts) -> String {
    match &facts.returns {
        Returns::Output(info) => format!("{} {}", dtype::name(info.dtype), sizes(&info.sizes)),
        Returns::Loss(metrics) if metrics.is_empty() => "a loss".into(),
        Returns::Loss(metrics) => format!("a loss with the metrics {}", metrics.join(", ")),
        Returns::Other(what) => what.clone(),
    }
}

fn sizes(sizes: &[Size]) -> String {
    let sizes = sizes.iter().map(|size| match size {
        Size::Fixed(size) => size.to_string(),
        Size::Symbol(_) | Size::Expression(_) => "*".into(),
    });
    format!("[{}]", sizes.collect::<Vec<_>>().join(", "))
}
