//! RMSprop (Hinton 2012), as PyTorch has it.

use super::Rule;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmsProp {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the mean of squared gradients.
    pub alpha: f64,
    /// Added to the root of the mean of squares.
    pub epsilon: f64,
    /// Share of the weights that is added to their gradients.
    pub weight_decay: f64,
    /// Share of the direction before.
    pub momentum: f64,
    /// The square of the mean of gradients is taken off the mean of squares.
    pub centered: bool,
}

impl Section for RmsProp {
    type Message = v1::RmsProp;
    const NAME: &str = "rmsprop";
    const EDITABLE: &[&str] = &["learning_rate", "alpha", "epsilon", "weight_decay", "momentum"];

    fn read(message: &v1::RmsProp, mut fields: Fields<'_>) -> Option<Self> {
        let v1::RmsProp { learning_rate, alpha, epsilon, weight_decay, momentum, centered } = *message;
        // The defaults are PyTorch's.
        let learning_rate = fields.positive("learning_rate", learning_rate.unwrap_or(0.01));
        let alpha = fields.share("alpha", alpha.unwrap_or(0.99));
        let epsilon = fields.not_negative("epsilon", epsilon.unwrap_or(1e-8));
        let weight_decay = fields.not_negative("weight_decay", weight_decay);
        let momentum = fields.share("momentum", momentum);
        fields.done(Self { learning_rate, alpha, epsilon, weight_decay, momentum, centered })
    }

    fn to_proto(&self) -> v1::RmsProp {
        let Self { learning_rate, alpha, epsilon, weight_decay, momentum, centered } = *self;
        v1::RmsProp {
            learning_rate: Some(learning_rate),
            alpha: Some(alpha),
            epsilon: Some(epsilon),
            weight_decay,
            momentum,
            centered,
        }
    }
}

impl Rule for RmsProp {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn set_weight_decay(&mut self, decay: f64) {
        self.weight_decay = decay;
    }

    /// The mean of squares, then the mean of gradients and the directions, where they are needed.
    fn slots(&self) -> &'static [&'static str] {
        match (self.centered, self.momentum != 0.0) {
            (false, false) => &["square_avg"],
            (false, true) => &["square_avg", "momentum_buffer"],
            (true, false) => &["square_avg", "grad_avg"],
            (true, true) => &["square_avg", "grad_avg", "momentum_buffer"],
        }
    }
}
