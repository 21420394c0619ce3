//! Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms").

use super::Rule;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lion {
    /// Step size.
    pub learning_rate: f64,
    /// Share of the mean of gradients in the direction of a step.
    pub beta1: f64,
    /// Decay of the mean of gradients.
    pub beta2: f64,
    /// Share of the weights that each step takes off, times the learning rate.
    pub weight_decay: f64,
}

impl Section for Lion {
    type Message = v1::Lion;
    const NAME: &str = "lion";
    const EDITABLE: &[&str] = &["learning_rate", "beta1", "beta2", "weight_decay"];

    fn read(message: &v1::Lion, mut fields: Fields<'_>) -> Option<Self> {
        let v1::Lion { learning_rate, beta1, beta2, weight_decay } = *message;
        // The defaults are those of the authors' code (github.com/google/automl, lion).
        let learning_rate = fields.positive("learning_rate", learning_rate.unwrap_or(1e-4));
        let beta1 = fields.share("beta1", beta1.unwrap_or(0.9));
        let beta2 = fields.share("beta2", beta2.unwrap_or(0.99));
        let weight_decay = fields.not_negative("weight_decay", weight_decay);
        fields.done(Self { learning_rate, beta1, beta2, weight_decay })
    }

    fn to_proto(&self) -> v1::Lion {
        let Self { learning_rate, beta1, beta2, weight_decay } = *self;
        v1::Lion { learning_rate: Some(learning_rate), beta1: Some(beta1), beta2: Some(beta2), weight_decay }
    }
}

impl Rule for Lion {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn set_weight_decay(&mut self, decay: f64) {
        self.weight_decay = decay;
    }

    fn slots(&self) -> &'static [&'static str] {
        &["exp_avg"]
    }
}
