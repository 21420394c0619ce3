//! Cross-entropy of scores.

use super::{Answer, IGNORED_LABEL, Misfit, Objective, classes, fits_classes, read_class_weights, takes_classes};
use crate::dataset::Field;
use crate::job::spec::metric::{Accuracy, Metric};
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, PartialEq)]
pub struct CrossEntropy {
    /// Share of the target that all classes get alike.
    pub label_smoothing: f64,
    /// A weight for each class; empty where all count alike.
    pub class_weights: Vec<f64>,
    /// Targets of this value do not count.
    pub ignored_label: i64,
}

impl Default for CrossEntropy {
    fn default() -> Self {
        Self { label_smoothing: 0.0, class_weights: Vec::new(), ignored_label: IGNORED_LABEL }
    }
}

impl Section for CrossEntropy {
    type Message = v1::CrossEntropy;
    const NAME: &str = "cross_entropy";

    fn read(message: &v1::CrossEntropy, mut fields: Fields<'_>) -> Option<Self> {
        let label_smoothing = fields.ratio("label_smoothing", message.label_smoothing);
        let class_weights = read_class_weights(&message.class_weights, &mut fields);
        let ignored_label = message.ignored_label.unwrap_or(IGNORED_LABEL);
        fields.done(Self { label_smoothing, class_weights, ignored_label })
    }

    fn to_proto(&self) -> v1::CrossEntropy {
        let Self { label_smoothing, class_weights, ignored_label } = self.clone();
        v1::CrossEntropy { label_smoothing, class_weights, ignored_label: Some(ignored_label) }
    }
}

impl Objective for CrossEntropy {
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
