//! Binary cross-entropy of scores, one for each label.

use super::{Answer, Misfit, Objective, fits_labels, read_weights};
use crate::dataset::Field;
use crate::job::spec::metric::{Accuracy, Metric};
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BinaryCrossEntropy {
    /// A weight of what holds, for each label or for all; empty where it counts as what does not.
    pub positive_weights: Vec<f64>,
}

impl Section for BinaryCrossEntropy {
    type Message = v1::BinaryCrossEntropy;
    const NAME: &str = "binary_cross_entropy";

    fn read(message: &v1::BinaryCrossEntropy, mut fields: Fields<'_>) -> Option<Self> {
        let positive_weights = read_weights("positive_weights", &message.positive_weights, &mut fields);
        fields.done(Self { positive_weights })
    }

    fn to_proto(&self) -> v1::BinaryCrossEntropy {
        v1::BinaryCrossEntropy { positive_weights: self.positive_weights.clone() }
    }
}

impl Objective for BinaryCrossEntropy {
    fn outputs(&self, target: &Field) -> Option<u64> {
        Some(target.values())
    }

    fn metric(&self) -> Option<Metric> {
        Some(Metric::Accuracy(Accuracy))
    }

    fn fits(&self, output: &[u64], target: &Field, model: &str) -> Result<Answer, Misfit> {
        let labels = fits_labels(output, target, model)?;
        let weights = self.positive_weights.len();
        if weights > 1 && weights as u64 != labels {
            let found = format!("has {weights} entries, and {:?} has {labels} labels", target.name);
            return Err(Misfit::Setting("positive_weights", found));
        }
        Ok(Answer::Labels(labels))
    }
}
