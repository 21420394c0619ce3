//! The losses: each is a file in `loss/`, one in `src/job/spec/loss/`, and a line in each registry.

mod binary_cross_entropy;
mod cross_entropy;
mod huber;
mod kl_divergence;
mod l1;
mod mse;
mod next_token;
mod nll;
mod own;

use tch::{Device, Kind, Reduction, TchError, Tensor};
use torchd::dataset::Field;
use torchd::job::spec::loss::{Answer, Classes};
use torchd::job::spec::{Loss as Settings, loss};

use crate::failure::Result;

/// A loss.
pub(crate) trait Loss {
    /// The outputs for a batch and its targets, as they are compared.
    fn arrange(&self, output: &Tensor, targets: &Tensor) -> Result<Pair>;

    /// The mean or the sum over a batch, a number with a gradient.
    fn reduced(&self, pair: &Pair, reduction: Reduction) -> Result<Tensor>;

    /// How much the targets of a batch count together, as the set has them: sums over batches,
    /// divided by their weights, are a mean.
    fn weight(&self, targets: &Tensor) -> Result<Tensor>;

    /// Whether all examples weigh the same, as long as no label is ignored.
    fn weighs_alike(&self) -> bool {
        true
    }
}

/// Outputs and targets as losses and metrics compare them: scores `[cases, classes, ...]` and
/// classes `[cases, ...]`, or two tensors of the same shape.
pub(crate) struct Pair {
    pub(crate) output: Tensor,
    pub(crate) targets: Tensor,
}

impl Pair {
    /// The same without gradients, the outputs as 32-bit floats where they have fewer bits.
    pub(crate) fn detach(&self) -> Self {
        let output = self.output.detach();
        let is_short = matches!(output.kind(), Kind::BFloat16 | Kind::Half);
        let output = if is_short { output.to_kind(Kind::Float) } else { output };
        Self { output, targets: self.targets.shallow_clone() }
    }

    /// Outputs in the shape of the targets: `[n, 1]` and `[n]` are the same numbers, which PyTorch
    /// would broadcast.
    fn alike(output: &Tensor, targets: &Tensor) -> Result<Self> {
        Ok(Self { output: output.f_view_as(targets)?, targets: targets.shallow_clone() })
    }

    /// The class with the highest score, the first of them where several have it, or whether each
    /// label holds by its score; in the shape of the targets.
    pub(crate) fn decided(&self, answer: Answer) -> std::result::Result<Tensor, TchError> {
        match answer {
            Answer::Labels(_) => self.output.f_gt(0.0),
            Answer::Class(_) | Answer::Numbers(_) | Answer::Shares => self.output.f_argmax(1, false),
        }
    }

    /// The right classes, or whether each label holds: a target of more than one half does.
    pub(crate) fn right(&self, answer: Answer) -> std::result::Result<Tensor, TchError> {
        match answer {
            Answer::Labels(_) => self.targets.f_gt(0.5),
            Answer::Class(_) | Answer::Numbers(_) | Answer::Shares => Ok(self.targets.shallow_clone()),
        }
    }
}

/// The loss of a spec for outputs of that shape an example and that target; without one that of the
/// network itself.
pub(crate) fn build(
    settings: Option<&Settings>,
    output: &[u64],
    target: &Field,
    device: Device,
) -> Result<Box<dyn Loss>> {
    let Some(settings) = settings else { return Ok(Box::new(own::Own)) };
    let labels = |weights: &[f64], ignored: i64| Labels::new(output, target, weights, ignored, device);
    Ok(match settings {
        Settings::CrossEntropy(loss::CrossEntropy { label_smoothing, class_weights, ignored_label }) => {
            let labels = labels(class_weights, *ignored_label)?;
            Box::new(cross_entropy::CrossEntropy { labels, label_smoothing: *label_smoothing })
        }
        Settings::Nll(loss::Nll { class_weights, ignored_label }) => {
            Box::new(nll::Nll { labels: labels(class_weights, *ignored_label)? })
        }
        Settings::Mse(loss::Mse) => Box::new(mse::Mse),
        Settings::BinaryCrossEntropy(loss::BinaryCrossEntropy { positive_weights }) => {
            let positive_weights = match &positive_weights[..] {
                [] => None,
                [one] => Some(numbers(&[*one], device)?),
                each => {
                    let shape: Vec<_> = target.shape.iter().map(|&size| size as i64).collect();
                    Some(numbers(each, device)?.f_view(shape.as_slice())?)
                }
            };
            Box::new(binary_cross_entropy::BinaryCrossEntropy { positive_weights })
        }
        Settings::L1(loss::L1) => Box::new(l1::L1),
        Settings::Huber(loss::Huber { delta }) => Box::new(huber::Huber { delta: *delta }),
        Settings::KlDivergence(loss::KlDivergence) => Box::new(kl_divergence::KlDivergence),
        Settings::NextToken(loss::NextToken { ignored_label }) => {
            Box::new(next_token::NextToken { labels: labels(&[], *ignored_label)? })
        }
    })
}

/// Settings of a loss as a tensor.
fn numbers(settings: &[f64], device: Device) -> std::result::Result<Tensor, TchError> {
    Tensor::f_from_slice(settings)?.f_to_kind(Kind::Float)?.f_to_device(device)
}

/// The values of targets, each of which counts as one.
fn count(targets: &Tensor) -> Result<Tensor> {
    beside(targets, targets.numel() as f64)
}

/// A number on the device of targets. It is filled in there: a copy from the host would be waited
/// for.
fn beside(targets: &Tensor, number: f64) -> Result<Tensor> {
    Ok(Tensor::f_full([], number, (Kind::Double, targets.device()))?)
}

/// The examples of a batch.
fn examples(targets: &Tensor) -> i64 {
    targets.size().first().copied().unwrap_or(1)
}

/// Targets that are classes: where the scores stand, and what counts how much.
struct Labels {
    classes: Classes,
    /// A weight a class.
    weights: Option<Tensor>,
    ignored: i64,
}

impl Labels {
    fn new(output: &[u64], target: &Field, weights: &[f64], ignored: i64, device: Device) -> Result<Self> {
        let classes = Classes::of(output, &target.shape).map_or(Classes::First, |(classes, _)| classes);
        let weights = (!weights.is_empty()).then(|| numbers(weights, device)).transpose()?;
        Ok(Self { classes, weights, ignored })
    }

    /// Scores and labels with the classes in the second dimension, as libtorch takes them.
    fn arrange(&self, output: &Tensor, targets: &Tensor) -> Result<Pair> {
        let (output, targets) = match self.classes {
            Classes::Last if output.dim() > 2 => (output.f_flatten(0, -2)?, targets.f_flatten(0, -1)?),
            Classes::Last | Classes::First => (output.shallow_clone(), targets.shallow_clone()),
        };
        Ok(Pair { output, targets })
    }

    /// Whether all labels that are not ignored weigh the same.
    fn weighs_alike(&self) -> bool {
        self.weights.is_none()
    }

    /// How much the labels of a batch count together.
    fn weight(&self, targets: &Tensor) -> std::result::Result<Tensor, TchError> {
        let counts = targets.f_ne(self.ignored)?;
        match &self.weights {
            None => counts.f_sum(Kind::Double),
            Some(weights) => {
                // An ignored label has no weight of its own.
                let known = targets.f_where_self(&counts, &targets.f_zeros_like()?)?;
                let each = weights.f_index_select(0, &known.f_flatten(0, -1)?)?;
                each.f_mul(&counts.f_flatten(0, -1)?)?.f_sum(Kind::Double)
            }
        }
    }
}
