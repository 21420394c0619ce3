//! A learning rate that falls along a power to the end of the job.

use super::Curve;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Polynomial {
    /// Steps in which the rate grows evenly from 0.
    pub warmup_steps: u64,
    /// The power of the share of steps that are left.
    pub power: f64,
    /// Share of the rate that it falls to.
    pub final_ratio: f64,
}

impl Section for Polynomial {
    type Message = v1::Polynomial;
    const NAME: &str = "polynomial";
    const EDITABLE: &[&str] = &["warmup_steps", "power", "final_ratio"];

    fn read(message: &v1::Polynomial, mut fields: Fields<'_>) -> Option<Self> {
        let v1::Polynomial { warmup_steps, power, final_ratio } = *message;
        let power = fields.positive("power", power.unwrap_or(1.0));
        let final_ratio = fields.ratio("final_ratio", final_ratio);
        fields.done(Self { warmup_steps, power, final_ratio })
    }

    fn to_proto(&self) -> v1::Polynomial {
        let Self { warmup_steps, power, final_ratio } = *self;
        v1::Polynomial { warmup_steps, power: Some(power), final_ratio }
    }
}

impl Curve for Polynomial {
    fn warmup_steps(&self) -> u64 {
        self.warmup_steps
    }

    fn ratio(&self, step: u64, total: u64) -> f64 {
        let left = 1.0 - step.min(total) as f64 / total.max(1) as f64;
        self.final_ratio + (1.0 - self.final_ratio) * left.powf(self.power)
    }
}
