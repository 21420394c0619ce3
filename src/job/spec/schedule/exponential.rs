//! A learning rate that falls by a factor with each step.

use super::Curve;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exponential {
    /// Steps in which the rate grows evenly from 0.
    pub warmup_steps: u64,
    /// The share of the rate that remains after each step.
    pub factor: f64,
}

impl Section for Exponential {
    type Message = v1::Exponential;
    const NAME: &str = "exponential";
    const EDITABLE: &[&str] = &["warmup_steps", "factor"];

    fn read(message: &v1::Exponential, mut fields: Fields<'_>) -> Option<Self> {
        let v1::Exponential { warmup_steps, factor } = *message;
        let factor = fields.factor("factor", factor);
        fields.done(Self { warmup_steps, factor })
    }

    fn to_proto(&self) -> v1::Exponential {
        v1::Exponential { warmup_steps: self.warmup_steps, factor: self.factor }
    }
}

impl Curve for Exponential {
    fn warmup_steps(&self) -> u64 {
        self.warmup_steps
    }

    fn ratio(&self, step: u64, _: u64) -> f64 {
        self.factor.powf(step as f64)
    }
}
