//! The losses: each is a file in `loss/`, one in `src/job/spec/loss/`, and a line in each registry.

mod cross_entropy;
mod mse;
mod nll;
mod own;

use tch::{Device, Kind, TchError, Tensor};
use torchd::dataset::Field;
use torchd::job::spec::loss::Classes;
use torchd::job::spec::{Loss as Settings, loss};

use crate::failure::Result;

/// A loss.
pub(crate) trait Loss {
    /// The mean over a batch, a number with a gradient.
    fn mean(&self, output: &Tensor, targets: &Tensor) -> Result<Tensor>;

    /// The sum over a batch, and what it has to be divided by to give the mean: both can be added up
    /// over the batches of a set.
    fn total(&self, output: &Tensor, targets: &Tensor) -> Result<(Tensor, Tensor)>;
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
    fn arrange(&self, output: &Tensor, targets: &Tensor) -> std::result::Result<(Tensor, Tensor), TchError> {
        match self.classes {
            Classes::Last if output.dim() > 2 => Ok((output.f_flatten(0, -2)?, targets.f_flatten(0, -1)?)),
            Classes::Last | Classes::First => Ok((output.shallow_clone(), targets.shallow_clone())),
        }
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
