//! A learning rate that falls evenly to the end of the job.

use super::Curve;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Linear {
    /// Steps in which the rate grows evenly from 0.
    pub warmup_steps: u64,
    /// Share of the rate that it falls to.
    pub final_ratio: f64,
}

impl Section for Linear {
    type Message = v1::Linear;
    const NAME: &str = "linear";
    const EDITABLE: &[&str] = &["warmup_steps", "final_ratio"];

    fn read(message: &v1::Linear, mut fields: Fields<'_>) -> Option<Self> {
        let final_ratio = fields.ratio("final_ratio", message.final_ratio);
        fields.done(Self { warmup_steps: message.warmup_steps, final_ratio })
    }

    fn to_proto(&self) -> v1::Linear {
        v1::Linear { warmup_steps: self.warmup_steps, final_ratio: self.final_ratio }
    }
}

impl Curve for Linear {
    fn warmup_steps(&self) -> u64 {
        self.warmup_steps
    }

    fn ratio(&self, step: u64, total: u64) -> f64 {
        1.0 + (self.final_ratio - 1.0) * step.min(total) as f64 / total.max(1) as f64
    }
}
