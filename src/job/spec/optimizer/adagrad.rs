//! Adagrad (Duchi et al. 2011).

use super::Rule;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adagrad {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the step size: step n, counted from 1, has 1 / (1 + (n - 1) * decay) of it.
    pub lr_decay: f64,
    /// The sum of squared gradients begins with it.
    pub initial_accumulator_value: f64,
    /// Added to the root of the sum of squares.
    pub epsilon: f64,
    /// Share of the weights that is added to their gradients.
    pub weight_decay: f64,
}

impl Section for Adagrad {
    type Message = v1::Adagrad;
    const NAME: &str = "adagrad";
    const EDITABLE: &[&str] = &["learning_rate", "lr_decay", "epsilon", "weight_decay"];

    fn read(message: &v1::Adagrad, mut fields: Fields<'_>) -> Option<Self> {
        let v1::Adagrad { learning_rate, lr_decay, initial_accumulator_value, epsilon, weight_decay } = *message;
        // The defaults are PyTorch's.
        let learning_rate = fields.positive("learning_rate", learning_rate.unwrap_or(0.01));
        let lr_decay = fields.not_negative("lr_decay", lr_decay);
        let initial_accumulator_value = fields.not_negative("initial_accumulator_value", initial_accumulator_value);
        let epsilon = fields.not_negative("epsilon", epsilon.unwrap_or(1e-10));
        let weight_decay = fields.not_negative("weight_decay", weight_decay);
        fields.done(Self { learning_rate, lr_decay, initial_accumulator_value, epsilon, weight_decay })
    }

    fn to_proto(&self) -> v1::Adagrad {
        let Self { learning_rate, lr_decay, initial_accumulator_value, epsilon, weight_decay } = *self;
        v1::Adagrad {
            learning_rate: Some(learning_rate),
            lr_decay,
            initial_accumulator_value,
            epsilon: Some(epsilon),
            weight_decay,
        }
    }
}

impl Rule for Adagrad {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn set_weight_decay(&mut self, decay: f64) {
        self.weight_decay = decay;
    }

    fn slots(&self) -> &'static [&'static str] {
        &["sum"]
    }

    fn counter(&self) -> Option<&'static str> {
        Some("adagrad.step")
    }
}
