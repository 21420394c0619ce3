//! The schedules of the learning rate: each is a file in `schedule/` and a line in the registry.
//! They are functions of the step, so that the runner needs no half of its own; but for `plateau`,
//! which hears of validation.

mod constant;
mod cosine;
mod exponential;
mod linear;
mod multi_step;
mod one_cycle;
mod plateau;
mod polynomial;
mod step;
#[cfg(test)]
mod tests;

use super::section::{Fields, registry};
use crate::job::Violations;
use crate::proto::v1::{self, schedule::Kind};
pub use constant::Constant;
pub use cosine::{Cosine, Restarts};
pub use exponential::Exponential;
pub use linear::Linear;
pub use multi_step::MultiStep;
pub use one_cycle::OneCycle;
pub use plateau::{Plateau, Standing};
pub use polynomial::Polynomial;
pub use step::Step;

registry! {
    /// How the learning rate changes.
    Schedule as Curve, from Kind, {
        /// It stays.
        Constant(Constant),
        /// It falls along half a cosine.
        Cosine(Cosine),
        /// It falls by a factor every so many steps.
        Step(Step),
        /// It falls by a factor at certain steps.
        MultiStep(MultiStep),
        /// It falls by a factor with each step.
        Exponential(Exponential),
        /// It falls along a power.
        Polynomial(Polynomial),
        /// It falls evenly.
        Linear(Linear),
        /// It rises and falls once.
        OneCycle(OneCycle),
        /// It falls by a factor where validation does not get better.
        Plateau(Plateau),
    }
}

/// The curve of a learning rate.
pub trait Curve {
    /// Steps of warm-up before it.
    fn warmup_steps(&self) -> u64;

    /// The share of the learning rate at step `step` of `total` after the warm-up, counted from 0.
    fn ratio(&self, step: u64, total: u64) -> f64;

    /// Adds what does not fit a job that has so many steps after the warm-up.
    fn judge(&self, _steps: u64, _fields: Fields<'_>) {}

    /// The one that hears of validation.
    fn plateau(&self) -> Option<&Plateau> {
        None
    }
}

/// How many steps there are for a schedule, and that so many are needed.
fn left(steps: u64, needed: &str) -> String {
    format!("the job has {steps} steps after the warm-up; {needed} are needed")
}

impl Schedule {
    /// Reads the section of a spec.
    pub(super) fn read(message: Option<&v1::Schedule>, has_validation: bool, wrong: &mut Violations) -> Option<Self> {
        let Some(message) = message else { return Some(Self::Constant(Constant::default())) };
        if let (Some(Kind::Plateau(_)), false) = (&message.kind, has_validation) {
            wrong.add("schedule.plateau", "needs data.validation, which tells whether the job gets better");
        }
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
            return wrong.add(field, format!("is {warmup}, and the job has {total_steps} steps; fewer are needed"));
        }
        Curve::judge(&**self, total_steps - warmup, Fields::new(format!("schedule.{}", self.name()), wrong));
    }
}
