//! Stochastic gradient descent.

use super::Rule;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Step size.
    pub learning_rate: f64,
    /// Share of the step before.
    pub momentum: f64,
    /// Share of the gradient that the momentum leaves out.
    pub dampening: f64,
    /// The step looks ahead by the momentum.
    pub nesterov: bool,
    /// Share of the weights that is added to their gradients.
    pub weight_decay: f64,
}

impl Section for Sgd {
    type Message = v1::Sgd;
    const NAME: &str = "sgd";
    const EDITABLE: &[&str] = &["learning_rate", "momentum", "dampening", "nesterov", "weight_decay"];

    fn read(message: &v1::Sgd, mut fields: Fields<'_>) -> Option<Self> {
        let v1::Sgd { learning_rate, momentum, dampening, nesterov, weight_decay } = *message;
        let learning_rate = match learning_rate {
            Some(rate) => fields.positive("learning_rate", rate),
            None => {
                fields.wrong("learning_rate", "is missing; a finite number above 0 is needed, for example 0.01");
                0.0
            }
        };
        let momentum = fields.share("momentum", momentum);
        let dampening = fields.ratio("dampening", dampening);
        let weight_decay = fields.not_negative("weight_decay", weight_decay);
        if nesterov && (momentum <= 0.0 || dampening != 0.0) {
            fields.wrong("nesterov", "is true; it needs a momentum above 0, and no dampening");
        }
        fields.done(Self { learning_rate, momentum, dampening, nesterov, weight_decay })
    }

    fn to_proto(&self) -> v1::Sgd {
        let Self { learning_rate, momentum, dampening, nesterov, weight_decay } = *self;
        v1::Sgd { learning_rate: Some(learning_rate), momentum, dampening, nesterov, weight_decay }
    }
}

impl Rule for Sgd {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn set_weight_decay(&mut self, decay: f64) {
        self.weight_decay = decay;
    }

    fn slots(&self) -> &'static [&'static str] {
        if self.momentum == 0.0 { &[] } else { &["velocity"] }
    }
}
