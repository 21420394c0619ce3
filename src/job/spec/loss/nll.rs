//! The negative log-likelihood of log-probabilities.

use super::{Answer, IGNORED_LABEL, Misfit, Objective, classes, fits_classes, read_class_weights, takes_classes};
use crate::dataset::Field;
use crate::job::spec::metric::{Accuracy, Metric};
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Nll {
    /// A weight for each class; empty where all count alike.
    pub class_weights: Vec<f64>,
    /// Targets of this value do not count.
    pub ignored_label: i64,
}

impl Default for Nll {
    fn default() -> Self {
        Self { class_weights: Vec::new(), ignored_label: IGNORED_LABEL }
    }
}

impl Section for Nll {
    type Message = v1::Nll;
    const NAME: &str = "nll";

    fn read(message: &v1::Nll, mut fields: Fields<'_>) -> Option<Self> {
        let class_weights = read_class_weights(&message.class_weights, &mut fields);
        fields.done(Self { class_weights, ignored_label: message.ignored_label.unwrap_or(IGNORED_LABEL) })
    }

    fn to_proto(&self) -> v1::Nll {
        v1::Nll { class_weights: self.class_weights.clone(), ignored_label: Some(self.ignored_label) }
    }
}

impl Objective for Nll {
    fn outputs(&self, target: &Field) -> Option<u64> {
        classes(target)
    }

    fn metric(&self) -> Option<Metric> {
        Some(Metric::Accuracy(Accuracy))
    }

    fn takes(&self, target: &Field) -> Result<(), Misfit> {
        takes_classes(target)
    }

    fn fits(&self, output: &[u64], target: &Field, model: &str) -> Result<Answer, Misfit> {
        fits_classes(output, target, model, &self.class_weights, self.ignored_label)
    }

    fn ignored_label(&self) -> Option<i64> {
        Some(self.ignored_label)
    }
}
