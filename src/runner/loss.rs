//! The losses: each is a file in `loss/`, one in `src/job/spec/loss/`, and a line in each registry.

mod cross_entropy;
mod mse;
mod nll;
mod own;

use tch::{Device, Kind, Reduction, TchError, Tensor};
use torchd::dataset::Field;
use torchd::job::spec::loss::Classes;
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
    })
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
        let tensor = |weights| Tensor::f_from_slice(weights)?.f_to_kind(Kind::Float)?.f_to_device(device);
        let weights = (!weights.is_empty()).then(|| tensor(weights)).transpose()?;
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
