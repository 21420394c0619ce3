//! A learning rate that falls by a factor every so many steps.

use super::Curve;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Steps in which the rate grows evenly from 0.
    pub warmup_steps: u64,
    /// Steps from one fall to the next.
    pub every_steps: u64,
    /// The share of the rate that remains after a fall.
    pub factor: f64,
}

impl Section for Step {
    type Message = v1::StepSchedule;
    const NAME: &str = "step";
    const EDITABLE: &[&str] = &["warmup_steps", "every_steps", "factor"];

    fn read(message: &v1::StepSchedule, mut fields: Fields<'_>) -> Option<Self> {
        let v1::StepSchedule { warmup_steps, every_steps, factor } = *message;
        fields.demand_given("every_steps", every_steps > 0, every_steps, "at least 1");
        let factor = fields.factor("factor", factor.unwrap_or(0.1));
        fields.done(Self { warmup_steps, every_steps, factor })
    }

    fn to_proto(&self) -> v1::StepSchedule {
        let Self { warmup_steps, every_steps, factor } = *self;
        v1::StepSchedule { warmup_steps, every_steps, factor: Some(factor) }
    }
}

impl Curve for Step {
    fn warmup_steps(&self) -> u64 {
        self.warmup_steps
    }

    fn ratio(&self, step: u64, _: u64) -> f64 {
        self.factor.powf((step / self.every_steps) as f64)
    }

    fn judge(&self, steps: u64, mut fields: Fields<'_>) {
        if self.every_steps >= steps {
            fields.wrong("every_steps", format!("is {}, and {}", self.every_steps, super::left(steps, "fewer")));
        }
    }
}
