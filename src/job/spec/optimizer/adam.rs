//! Adam (Kingma and Ba 2015), with the weight decay in the gradient.

use super::Rule;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the mean of squares.
    pub epsilon: f64,
    /// Share of the weights that is added to their gradients.
    pub weight_decay: f64,
    /// It divides by the root of the largest mean of squares so far.
    pub amsgrad: bool,
}

impl Section for Adam {
    type Message = v1::Adam;
    const NAME: &str = "adam";
    const EDITABLE: &[&str] = &["learning_rate", "beta1", "beta2", "epsilon", "weight_decay"];

    fn read(message: &v1::Adam, mut fields: Fields<'_>) -> Option<Self> {
        let v1::Adam { learning_rate, beta1, beta2, epsilon, weight_decay, amsgrad } = *message;
        // The defaults are PyTorch's.
        let learning_rate = fields.positive("learning_rate", learning_rate.unwrap_or(0.001));
        let beta1 = fields.share("beta1", beta1.unwrap_or(0.9));
        let beta2 = fields.share("beta2", beta2.unwrap_or(0.999));
        let epsilon = fields.not_negative("epsilon", epsilon.unwrap_or(1e-8));
        let weight_decay = fields.not_negative("weight_decay", weight_decay);
        fields.done(Self { learning_rate, beta1, beta2, epsilon, weight_decay, amsgrad })
    }

    fn to_proto(&self) -> v1::Adam {
        let Self { learning_rate, beta1, beta2, epsilon, weight_decay, amsgrad } = *self;
        v1::Adam {
            learning_rate: Some(learning_rate),
            beta1: Some(beta1),
            beta2: Some(beta2),
            epsilon: Some(epsilon),
            weight_decay,
            amsgrad,
        }
    }
}

impl Rule for Adam {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn set_weight_decay(&mut self, decay: f64) {
        self.weight_decay = decay;
    }

    fn slots(&self) -> &'static [&'static str] {
        moments(self.amsgrad)
    }

    fn counter(&self) -> Option<&'static str> {
        Some("adam.step")
    }
}

/// The state of Adam for each parameter: the mean of gradients, that of their squares, and the
/// largest of the latter.
pub(super) fn moments(amsgrad: bool) -> &'static [&'static str] {
    if amsgrad { &["exp_avg", "exp_avg_sq", "max_exp_avg_sq"] } else { &["exp_avg", "exp_avg_sq"] }
}
