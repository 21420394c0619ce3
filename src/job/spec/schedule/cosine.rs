//! A learning rate that falls along half a cosine, to the end of the job or again and again.

use std::f64::consts::PI;

use super::Curve;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cosine {
    /// Steps in which the rate grows evenly from 0.
    pub warmup_steps: u64,
    /// Share of the rate that it falls to.
    pub final_ratio: f64,
    /// The cycles after which it begins anew; None for one to the end of the job.
    pub restarts: Option<Restarts>,
}

/// The lengths of cycles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restarts {
    /// Steps of the first.
    pub steps: u64,
    /// Each is so many times as long as the one before.
    pub growth: u32,
}

impl Restarts {
    /// Where a step stands in its cycle, and how long that is.
    fn cycle(self, step: u64) -> (u64, u64) {
        if self.growth == 1 {
            return (step % self.steps, self.steps);
        }
        let (mut step, mut length) = (step, self.steps);
        while step >= length {
            step -= length;
            length = length.saturating_mul(self.growth.into());
        }
        (step, length)
    }
}

impl Section for Cosine {
    type Message = v1::Cosine;
    const NAME: &str = "cosine";
    const EDITABLE: &[&str] = &["warmup_steps", "final_ratio", "restart_steps", "restart_growth"];

    fn read(message: &v1::Cosine, mut fields: Fields<'_>) -> Option<Self> {
        let v1::Cosine { warmup_steps, final_ratio, restart_steps, restart_growth } = *message;
        let final_ratio = fields.ratio("final_ratio", final_ratio);
        fields.demand("restart_steps", restart_steps != Some(0), 0, "at least 1");
        if let (Some(growth), None) = (restart_growth, restart_steps) {
            fields.wrong("restart_growth", format!("is {growth}, and there is no restart_steps"));
        }
        let growth = fields.at_least_one("restart_growth", restart_growth, 1);
        let restarts = restart_steps.map(|steps| Restarts { steps, growth });
        fields.done(Self { warmup_steps, final_ratio, restarts })
    }

    fn to_proto(&self) -> v1::Cosine {
        let Self { warmup_steps, final_ratio, restarts } = *self;
        let (restart_steps, restart_growth) = restarts.map(|Restarts { steps, growth }| (steps, growth)).unzip();
        v1::Cosine { warmup_steps, final_ratio, restart_steps, restart_growth }
    }
}

impl Curve for Cosine {
    fn warmup_steps(&self) -> u64 {
        self.warmup_steps
    }

    fn ratio(&self, step: u64, total: u64) -> f64 {
        let (step, total) = self.restarts.map_or((step, total), |restarts| restarts.cycle(step));
        let angle = PI * step as f64 / total.max(1) as f64;
        self.final_ratio + (1.0 - self.final_ratio) * (1.0 + angle.cos()) / 2.0
    }

    fn judge(&self, steps: u64, mut fields: Fields<'_>) {
        if let Some(Restarts { steps: first, .. }) = self.restarts.filter(|restarts| restarts.steps > steps) {
            fields.wrong("restart_steps", format!("is {first}, and {}", super::left(steps, "no more")));
        }
    }
}
