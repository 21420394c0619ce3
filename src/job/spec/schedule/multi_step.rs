//! A learning rate that falls by a factor at certain steps.

use super::Curve;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, PartialEq)]
pub struct MultiStep {
    /// Steps in which the rate grows evenly from 0.
    pub warmup_steps: u64,
    /// The steps, rising, counted from the end of the warm-up.
    pub at_steps: Vec<u64>,
    /// The share of the rate that remains after a fall.
    pub factor: f64,
}

impl Section for MultiStep {
    type Message = v1::MultiStep;
    const NAME: &str = "multi_step";
    const EDITABLE: &[&str] = &["warmup_steps", "at_steps", "factor"];

    fn read(message: &v1::MultiStep, mut fields: Fields<'_>) -> Option<Self> {
        let v1::MultiStep { warmup_steps, at_steps, factor } = message;
        if at_steps.is_empty() {
            fields.wrong("at_steps", "is empty; steps at which the rate falls are needed, for example [1000, 2000]");
        }
        for (place, &step) in at_steps.iter().enumerate() {
            let before = place.checked_sub(1).map_or(0, |before| at_steps[before]);
            let needed = format!("more than {before}, since the steps rise,");
            fields.demand(&format!("at_steps[{place}]"), step > before, step, &needed);
        }
        let factor = fields.factor("factor", factor.unwrap_or(0.1));
        fields.done(Self { warmup_steps: *warmup_steps, at_steps: at_steps.clone(), factor })
    }

    fn to_proto(&self) -> v1::MultiStep {
        let Self { warmup_steps, at_steps, factor } = self;
        v1::MultiStep { warmup_steps: *warmup_steps, at_steps: at_steps.clone(), factor: Some(*factor) }
    }
}

impl Curve for MultiStep {
    fn warmup_steps(&self) -> u64 {
        self.warmup_steps
    }

    fn ratio(&self, step: u64, _: u64) -> f64 {
        self.factor.powf(self.at_steps.partition_point(|&at| at <= step) as f64)
    }

    fn judge(&self, steps: u64, mut fields: Fields<'_>) {
        for (place, &at) in self.at_steps.iter().enumerate().filter(|(_, at)| **at >= steps) {
            fields.wrong(&format!("at_steps[{place}]"), format!("is {at}, and {}", super::left(steps, "fewer")));
        }
    }
}
