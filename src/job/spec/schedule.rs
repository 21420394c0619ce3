//! The schedules of the learning rate: each is a file in `schedule/` and a line in the registry.
//! They are functions of the step, so that the runner needs no half of its own.

mod constant;
mod cosine;

use super::section::{Fields, registry};
use crate::job::Violations;
use crate::proto::v1::{self, schedule::Kind};
pub use constant::Constant;
pub use cosine::Cosine;

registry! {
    /// How the learning rate changes.
    Schedule as Curve, from Kind, {
        /// It stays.
        Constant(Constant),
        /// It falls along half a cosine.
        Cosine(Cosine),
    }
}

/// The curve of a learning rate.
pub trait Curve {
    /// Steps of warm-up before it.
    fn warmup_steps(&self) -> u64;

    /// The share of the learning rate at step `step` of `total` after the warm-up, counted from 0.
    fn ratio(&self, step: u64, total: u64) -> f64;
}

impl Schedule {
    /// Reads the section of a spec.
    pub(super) fn read(message: Option<&v1::Schedule>, wrong: &mut Violations) -> Option<Self> {
        let Some(message) = message else { return Some(Self::Constant(Constant::default())) };
        Self::choose(message.kind.as_ref(), Fields::new("schedule", wrong), "names no schedule; choose one")
    }

    /// The message that it was read from.
    pub(super) fn to_proto(&self) -> v1::Schedule {
        v1::Schedule { kind: Some(self.to_kind()) }
    }

    /// The share of the learning rate that a step of a job has, counted from 0.
    pub fn at(&self, step: u64, total: u64) -> f64 {
        let warmup = self.warmup_steps();
        match step.checked_sub(warmup) {
            None => (step + 1) as f64 / warmup as f64,
            Some(step) => self.ratio(step, total.saturating_sub(warmup)),
        }
    }

    /// Adds what does not fit the length of a job.
    pub(super) fn judge(&self, total_steps: u64, wrong: &mut Violations) {
        let warmup = self.warmup_steps();
        if warmup > 0 && warmup >= total_steps {
            let field = format!("schedule.{}.warmup_steps", self.name());
            wrong.add(field, format!("is {warmup}, and the job has {total_steps} steps; fewer are needed"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_goes_as_pytorch_tells_it_and_a_warmup_grows_evenly() {
        let cosine = Schedule::Cosine(Cosine { warmup_steps: 0, final_ratio: 0.1 });
        // CosineAnnealingLR(T_max=10, eta_min=0.1) of a rate of 1: 0.1 + 0.9 * (1 + cos(pi t / 10))
        // / 2.
        for (step, rate) in [(0, 1.0), (5, 0.55), (9, 0.122_024_567_667_181_15), (10, 0.1)] {
            assert!((cosine.at(step, 10) - rate).abs() < 1e-15, "{step}: {}", cosine.at(step, 10));
        }
        let warm = Schedule::Cosine(Cosine { warmup_steps: 4, final_ratio: 0.0 });
        let rates: Vec<_> = (0..6).map(|step| warm.at(step, 6)).collect();
        assert_eq!(rates, [0.25, 0.5, 0.75, 1.0, 1.0, 0.5]);
        let constant = Schedule::Constant(Constant { warmup_steps: 2 });
        assert_eq!((constant.at(0, 9), constant.at(1, 9), constant.at(8, 9)), (0.5, 1.0, 1.0));
        let mut wrong = Violations::default();
        warm.judge(5, &mut wrong);
        assert!(wrong.0.is_empty());
        warm.judge(4, &mut wrong);
        assert!(wrong.to_string().starts_with("schedule.cosine.warmup_steps: is 4, and the job has 4"), "{wrong}");
    }
}
