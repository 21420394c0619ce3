//! The losses: each is a file in `loss/`, one in `src/runner/loss/`, and a line in each registry.

mod cross_entropy;
mod mse;
mod nll;

use super::Metric;
use super::section::{Fields, registry};
use crate::dataset::{Dtype, Field};
use crate::job::Violations;
use crate::proto::v1::{self, loss::Kind};
pub use cross_entropy::CrossEntropy;
pub use mse::Mse;
pub use nll::Nll;

registry! {
    /// The number that training makes small.
    Loss as Objective, from Kind, {
        /// Of scores.
        CrossEntropy(CrossEntropy),
        /// Of log-probabilities.
        Nll(Nll),
        /// Of numbers.
        Mse(Mse),
    }
}

/// The rules of a loss, known before anything is computed.
pub trait Objective {
    /// The outputs that a network has for such a target where the spec leaves them open; None where
    /// the data do not tell yet.
    fn outputs(&self, target: &Field) -> Option<u64>;

    /// How an output of that shape for an example answers a target. `model` is the name of what
    /// gives the output.
    ///
    /// # Errors
    /// The reason why it does not.
    fn fits(&self, output: &[u64], target: &Field, model: &str) -> Result<Answer, Misfit>;

    /// The metric that a job with this loss has by default.
    fn metric(&self) -> Option<Metric>;

    /// Targets of this value do not count, if there is one.
    fn ignored_label(&self) -> Option<i64> {
        None
    }
}

/// How outputs answer targets: metrics compare them accordingly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Scores of so many classes, one of which is right.
    Class(u64),
    /// Numbers.
    Numbers,
}

/// Why an output, a target and a loss do not fit, and which of them is to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misfit {
    /// The values of the target.
    Target(String),
    /// The shape of the output.
    Output(String),
    /// The loss: another one is needed.
    Loss(String),
    /// A setting of the loss.
    Setting(&'static str, String),
}

/// Where the classes stand in the output of an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classes {
    /// The first dimension, as in PyTorch: `[classes, ...]` for a target of `[...]`.
    First,
    /// The last one: `[..., classes]`.
    Last,
}

/// Labels that do not count, by PyTorch's default.
const IGNORED_LABEL: i64 = -100;

impl Classes {
    /// Where they stand in an output of that shape for a target of that shape, and how many they
    /// are; None where the two do not fit. Where both would do it is the first dimension.
    pub fn of(output: &[u64], target: &[u64]) -> Option<(Self, u64)> {
        match output {
            [classes, rest @ ..] if rest == target => Some((Self::First, *classes)),
            [rest @ .., classes] if rest == target => Some((Self::Last, *classes)),
            _ => None,
        }
    }
}

impl Loss {
    /// Reads the section of a spec; None also where it is left out.
    pub(super) fn read(message: Option<&v1::Loss>, wrong: &mut Violations) -> Option<Self> {
        Self::choose(message?.kind.as_ref(), Fields::new("loss", wrong), "names no loss; choose one")
    }

    /// The message that it was read from.
    pub(super) fn to_proto(&self) -> v1::Loss {
        v1::Loss { kind: Some(self.to_kind()) }
    }

    /// The one that a target calls for.
    pub(super) fn of(target: &Field) -> Self {
        match target.dtype {
            Dtype::I64 => Self::CrossEntropy(CrossEntropy::default()),
            Dtype::F32 | Dtype::Pixel => Self::Mse(Mse),
        }
    }
}

/// How many classes a target has; None where its values are no classes, or were not read.
fn classes(target: &Field) -> Option<u64> {
    let range = target.range.filter(|_| target.dtype == Dtype::I64)?;
    u64::try_from(range.highest).ok().map(|highest| highest.saturating_add(1))
}

/// Whether an output of that shape has scores of the classes of a target, for a loss with these
/// weights of classes.
fn fits_classes(output: &[u64], target: &Field, model: &str, weights: &[f64], ignored: i64) -> Result<Answer, Misfit> {
    if target.dtype != Dtype::I64 {
        let (name, dtype) = (&target.name, target.dtype.name());
        return Err(Misfit::Loss(format!("needs classes, and {name:?} has {dtype}; mse takes those")));
    }
    let Some((_, classes)) = Classes::of(output, &target.shape) else {
        let scores = ["classes".to_owned()].into_iter().chain(target.shape.iter().map(u64::to_string));
        let scores: Vec<_> = scores.collect();
        return Err(Misfit::Output(format!(
            "gives {output:?} for an example, and the loss needs [{}] for the target {:?}",
            scores.join(", "),
            target.name
        )));
    };
    if !weights.is_empty() && weights.len() as u64 != classes {
        let found = format!("has {} entries, and {model} tells {classes} classes apart", weights.len());
        return Err(Misfit::Setting("class_weights", found));
    }
    let Some(range) = target.range else { return Ok(Answer::Class(classes)) };
    let last = i64::try_from(classes).map_or(i64::MAX, |classes| classes - 1);
    if range.highest > last && range.highest != ignored {
        let from_one = if range.lowest == 1 {
            "; the lowest is 1: labels count from 0, so subtract 1 where yours count from 1"
        } else {
            ""
        };
        let (label, place) = (range.highest, range.highest_at);
        return Err(Misfit::Target(format!(
            "holds the label {label} at place {place}, counted from 0; {model} takes 0 to {last}{from_one}"
        )));
    }
    if range.lowest < 0 && range.lowest != ignored {
        let found = range.lowest;
        return Err(Misfit::Target(format!(
            "holds the label {found}; {model} takes 0 to {last}, and {ignored} for what does not count"
        )));
    }
    Ok(Answer::Class(classes))
}

/// Whether an output of that shape is as many numbers as a target.
fn fits_numbers(output: &[u64], target: &Field) -> Result<Answer, Misfit> {
    if target.dtype == Dtype::I64 {
        return Err(Misfit::Loss(format!(
            "needs numbers, and {:?} has classes; cross_entropy takes those, and F32 makes them numbers",
            target.name
        )));
    }
    // `[n]` and `[n, 1]` are the same numbers. Shapes that PyTorch would broadcast are refused.
    let (has, wanted): (u64, u64) = (output.iter().product(), target.values());
    if has != wanted {
        let name = &target.name;
        let what = format!("gives {output:?} for an example, and the target {name:?} has {wanted} numbers");
        return Err(Misfit::Output(what));
    }
    Ok(Answer::Numbers)
}

/// Reads weights of classes.
fn read_class_weights(weights: &[f64], fields: &mut Fields<'_>) -> Vec<f64> {
    for (place, &weight) in weights.iter().enumerate() {
        fields.not_negative(&format!("class_weights[{place}]"), weight);
    }
    if !weights.is_empty() && weights.iter().all(|weight| *weight == 0.0) {
        fields.wrong("class_weights", "are all 0, so that nothing counts; one above 0 is needed");
    }
    weights.to_vec()
}
