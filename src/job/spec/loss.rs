//! The losses: each is a file in `loss/`, one in `src/runner/loss/`, and a line in each registry.

mod binary_cross_entropy;
mod cross_entropy;
mod huber;
mod kl_divergence;
mod l1;
mod mse;
mod next_token;
mod nll;

use super::Metric;
use super::section::{Fields, registry};
use crate::dataset::{Dtype, Field, Range};
use crate::job::Violations;
use crate::proto::v1::{self, loss::Kind};
pub use binary_cross_entropy::BinaryCrossEntropy;
pub use cross_entropy::CrossEntropy;
pub use huber::Huber;
pub use kl_divergence::KlDivergence;
pub use l1::L1;
pub use mse::Mse;
pub use next_token::NextToken;
pub use nll::Nll;

registry! {
    /// The number that training makes small.
    Loss as Objective, from Kind, {
        /// Of scores.
        CrossEntropy(CrossEntropy),
        /// Of log-probabilities.
        Nll(Nll),
        /// Of numbers, squared.
        Mse(Mse),
        /// Of scores of labels.
        BinaryCrossEntropy(BinaryCrossEntropy),
        /// Of numbers, absolute.
        L1(L1),
        /// Of numbers, squared where they are small and absolute where they are large.
        Huber(Huber),
        /// Of log-probabilities and distributions.
        KlDivergence(KlDivergence),
        /// Of scores of the tokens that follow.
        NextToken(NextToken),
    }
}

/// The rules of a loss, known before anything is computed.
pub trait Objective {
    /// The outputs that a network has for such a target where the spec leaves them open; None where
    /// the data do not tell yet.
    fn outputs(&self, target: &Field) -> Option<u64>;

    /// Whether it takes such a target at all, whatever the model gives. [`Objective::fits`] finds
    /// the rest, which needs an output: a model may get the number of its outputs from the target.
    ///
    /// # Errors
    /// The reason why it does not.
    fn takes(&self, _target: &Field) -> Result<(), Misfit> {
        Ok(())
    }

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
    /// Scores of so many labels, each of which holds or not: one above 0 says that it does.
    Labels(u64),
    /// So many numbers.
    Numbers(u64),
    /// Log-probabilities, for the shares of a distribution.
    Shares,
}

impl Answer {
    /// The targets that it is about, in words.
    pub fn targets(self) -> &'static str {
        match self {
            Self::Class(_) => "classes",
            Self::Labels(_) => "labels",
            Self::Numbers(_) => "numbers",
            Self::Shares => "distributions",
        }
    }
}

/// Why an output, a target and a loss do not fit, and which of them is to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misfit {
    /// The values of the target.
    Target(String),
    /// The shape of the output.
    Output(String),
    /// The shape of the output, for a single number that may be meant as a class.
    Single(String),
    /// The loss: another one is needed.
    Loss(String),
    /// The loss, or the type of the target: the one that it takes.
    Type(String, Dtype),
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

/// Whether a target has classes.
fn takes_classes(target: &Field) -> Result<(), Misfit> {
    if target.dtype == Dtype::I64 {
        return Ok(());
    }
    let (name, dtype) = (&target.name, target.dtype.name());
    Err(Misfit::Type(format!("needs classes, and {name:?} has {dtype}; mse takes those"), Dtype::I64))
}

/// Whether an output of that shape has scores of the classes of a target, for a loss with these
/// weights of classes.
fn fits_classes(output: &[u64], target: &Field, model: &str, weights: &[f64], ignored: i64) -> Result<Answer, Misfit> {
    takes_classes(target)?;
    let Some((_, classes)) = Classes::of(output, &target.shape) else {
        let scores = ["classes".to_owned()].into_iter().chain(target.shape.iter().map(u64::to_string));
        let scores: Vec<_> = scores.collect();
        let name = &target.name;
        let squeezed = match target.shape.split_last() {
            Some((1, rest)) if Classes::of(output, rest).is_some() => {
                format!(" of the shape {:?}; save {name}.squeeze(-1)", target.shape)
            }
            _ => String::new(),
        };
        return Err(Misfit::Output(format!(
            "gives {output:?} for an example, and the loss needs [{}] for the target {name:?}{squeezed}",
            scores.join(", "),
        )));
    };
    if !weights.is_empty() && weights.len() as u64 != classes {
        let found = format!("has {} entries, and {model} tells {classes} classes apart", weights.len());
        return Err(Misfit::Setting("class_weights", found));
    }
    fits_range(target, model, classes, ignored)?;
    Ok(Answer::Class(classes))
}

/// Whether the classes of a target are among so many.
fn fits_range(target: &Field, model: &str, classes: u64, ignored: i64) -> Result<(), Misfit> {
    let Some(range) = target.range else { return Ok(()) };
    let last = i64::try_from(classes).map_or(i64::MAX, |classes| classes - 1);
    if range.highest > last && range.highest != ignored {
        let from_one = if range.lowest == 1 {
            "; the lowest is 1: labels count from 0, so subtract 1 where yours count from 1"
        } else {
            ""
        };
        let (label, place) = (range.highest, range.highest_at);
        return Err(Misfit::Target(format!(
            "holds the label {label} at place {place}, counted from 0; {model} has scores for 0 to {last}{from_one}"
        )));
    }
    if range.lowest < 0 && range.lowest != ignored {
        let found = range.lowest;
        return Err(Misfit::Target(format!(
            "holds the label {found}; labels count from 0, and {ignored} stands for what does not count"
        )));
    }
    Ok(())
}

/// Whether an output of that shape has a score for each label of a target; how many there are.
fn fits_labels(output: &[u64], target: &Field, model: &str) -> Result<u64, Misfit> {
    let labels = as_many(output, target, "labels")?;
    let Some(Range { lowest, highest, highest_at }) = target.range else { return Ok(labels) };
    let is_whole = target.dtype == Dtype::I64;
    let found = if highest > 1 {
        let value = if is_whole { highest.to_string() } else { format!("a number above {}", highest - 1) };
        format!("{value} at place {highest_at}, counted from 0")
    } else if lowest < 0 {
        if is_whole { lowest.to_string() } else { format!("a number below {}", lowest + 1) }
    } else {
        return Ok(labels);
    };
    let right = if is_whole { "each is 0 or 1, and cross_entropy takes classes" } else { "each is 0 to 1" };
    Err(Misfit::Target(format!("holds {found} among the labels; for {model} {right}")))
}

/// How many values a target has, where an output of that shape has as many.
fn as_many(output: &[u64], target: &Field, what: &str) -> Result<u64, Misfit> {
    // `[n]` and `[n, 1]` are the same values. Shapes that PyTorch would broadcast are refused.
    let (has, wanted): (u64, u64) = (output.iter().product(), target.values());
    if has == wanted {
        return Ok(wanted);
    }
    let name = &target.name;
    Err(Misfit::Output(format!("gives {output:?} for an example, and the target {name:?} has {wanted} {what}")))
}

/// Whether an output of that shape is as many numbers as a target.
fn fits_numbers(output: &[u64], target: &Field) -> Result<Answer, Misfit> {
    if target.dtype == Dtype::I64 {
        let what = format!("needs numbers, and {:?} has classes; cross_entropy and nll take those", target.name);
        return Err(Misfit::Type(what, Dtype::F32));
    }
    let numbers = as_many(output, target, "numbers").map_err(|misfit| match misfit {
        Misfit::Output(what) if target.values() == 1 => Misfit::Single(what),
        other => other,
    })?;
    Ok(Answer::Numbers(numbers))
}

/// Reads weights of classes.
fn read_class_weights(weights: &[f64], fields: &mut Fields<'_>) -> Vec<f64> {
    let weights = read_weights("class_weights", weights, fields);
    if !weights.is_empty() && weights.iter().all(|weight| *weight == 0.0) {
        fields.wrong("class_weights", "are all 0, so that nothing counts; one above 0 is needed");
    }
    weights
}

/// Reads a list of weights, each at least 0.
fn read_weights(field: &str, weights: &[f64], fields: &mut Fields<'_>) -> Vec<f64> {
    for (place, &weight) in weights.iter().enumerate() {
        fields.not_negative(&format!("{field}[{place}]"), weight);
    }
    weights.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(dtype: Dtype, shape: &[u64], lowest: i64, highest: i64) -> Field {
        let range = Some(Range { lowest, highest, highest_at: 5 });
        Field { name: "y".into(), file: "path".into(), dtype, shape: shape.into(), range }
    }

    #[test]
    fn an_output_and_a_target_that_a_loss_does_not_take_are_told_with_what_is_to_be_changed() {
        let binary =
            |weights: usize| Loss::BinaryCrossEntropy(BinaryCrossEntropy { positive_weights: vec![1.0; weights] });
        let next = || Loss::NextToken(NextToken { ignored_label: -100 });
        let numbers = |shape: &[u64]| target(Dtype::F32, shape, 0, 0);
        let whole = |shape: &[u64], lowest, highest| target(Dtype::I64, shape, lowest, highest);
        for (loss, output, target) in [
            (binary(0), &[1][..], whole(&[], 0, 1)),
            (binary(3), &[3], numbers(&[3])),
            (binary(1), &[3, 4], whole(&[12], 0, 1)),
            (Loss::KlDivergence(KlDivergence), &[3], numbers(&[3])),
            (next(), &[5, 5], whole(&[5], -100, 4)),
            (next(), &[5, 9], whole(&[5], 0, 8)),
            (next(), &[9, 5], whole(&[5], 0, 8)),
        ] {
            assert!(loss.fits(output, &target, "mlp").is_ok(), "{loss:?}");
        }
        for (loss, output, target, wrong) in [
            (
                binary(0),
                &[1][..],
                whole(&[], 0, 2),
                "Target: holds 2 at place 5, counted from 0 among the labels; for mlp each is 0 or 1",
            ),
            (binary(0), &[1], whole(&[], -1, 1), "Target: holds -1 among the labels; for mlp each is 0 or 1"),
            (
                binary(0),
                &[1],
                target(Dtype::F32, &[], 0, 3),
                "Target: holds a number above 2 at place 5, counted from 0 am",
            ),
            (binary(0), &[1], target(Dtype::F32, &[], -2, 0), "Target: holds a number below -1 among the labels"),
            (binary(0), &[2], whole(&[], 0, 1), r#"Output: gives [2] for an example, and the target "y" has 1 labels"#),
            (binary(2), &[3], whole(&[3], 0, 1), r#"positive_weights: has 2 entries, and "y" has 3 labels"#),
            (Loss::L1(L1), &[1], whole(&[], 0, 1), "Loss: needs numbers"),
            (Loss::Huber(Huber { delta: 1.0 }), &[2], numbers(&[3]), "Output: gives [2]"),
            (Loss::KlDivergence(KlDivergence), &[3], whole(&[], 0, 2), "Loss: needs numbers"),
            (Loss::KlDivergence(KlDivergence), &[3], target(Dtype::F32, &[3], -1, 1), "Target: holds a number below 0"),
            (
                next(),
                &[9],
                whole(&[5], 0, 4),
                "Output: gives [9] for an example, and the loss needs scores at each token",
            ),
            (next(), &[6, 9], whole(&[5], 0, 4), "Output: gives [6, 9]"),
            (next(), &[5, 4], whole(&[5], 0, 4), "Target: holds the label 4"),
            (next(), &[3], whole(&[], 0, 2), r#"Loss: needs the tokens of a text as [tokens], and "y" is []"#),
            (next(), &[1, 3], whole(&[1], 0, 2), "Loss: needs texts of 2 tokens at least"),
            (next(), &[5, 9], numbers(&[5]), "Loss: needs tokens"),
        ] {
            let told = match loss.fits(output, &target, "mlp").unwrap_err() {
                Misfit::Target(what) => format!("Target: {what}"),
                Misfit::Output(what) | Misfit::Single(what) => format!("Output: {what}"),
                Misfit::Loss(what) | Misfit::Type(what, _) => format!("Loss: {what}"),
                Misfit::Setting(field, what) => format!("{field}: {what}"),
            };
            assert!(told.starts_with(wrong), "{wrong}: {told}");
        }
    }

    #[test]
    fn settings_are_judged_and_written_again_with_their_defaults() {
        let read = |kind| {
            let mut wrong = Violations::default();
            let loss = Loss::read(Some(&v1::Loss { kind: Some(kind) }), &mut wrong);
            (
                loss,
                wrong.0.into_iter().map(|wrong| format!("{}: {}", wrong.field, wrong.description)).collect::<Vec<_>>(),
            )
        };
        for (kind, whole) in [
            (Kind::Huber(v1::Huber { delta: None }), Kind::Huber(v1::Huber { delta: Some(1.0) })),
            (
                Kind::NextToken(v1::NextToken { ignored_label: None }),
                Kind::NextToken(v1::NextToken { ignored_label: Some(-100) }),
            ),
            (Kind::L1(v1::L1 {}), Kind::L1(v1::L1 {})),
        ] {
            assert_eq!(read(kind).0.unwrap().to_kind(), whole);
        }
        for (kind, told) in [
            (Kind::Huber(v1::Huber { delta: Some(0.0) }), "loss.huber.delta: is 0; a finite number above 0 is needed"),
            (
                Kind::BinaryCrossEntropy(v1::BinaryCrossEntropy { positive_weights: vec![1.0, f64::NAN] }),
                "loss.binary_cross_entropy.positive_weights[1]: is NaN; a finite number of at least 0 is needed",
            ),
        ] {
            assert_eq!(read(kind), (None, vec![told.to_owned()]));
        }
    }
}
