//! The optimizers: each is a file in `optimizer/`, one in `src/runner/optimizer/`, and a line in
//! each registry.

mod adamw;
mod sgd;

use super::section::{Fields, registry};
use crate::job::Violations;
use crate::proto::v1::{self, optimizer::Kind};
pub use adamw::AdamW;
pub use sgd::Sgd;

registry! {
    /// How gradients become new weights.
    Optimizer as Rule, from Kind, {
        /// Stochastic gradient descent.
        Sgd(Sgd),
        /// Adam with decoupled weight decay.
        Adamw(AdamW),
    }
}

/// The rules of an optimizer, known before its first step.
pub trait Rule {
    /// The learning rate, before the schedule.
    fn learning_rate(&self) -> f64;

    /// Changes the learning rate. Whether it is right is judged as that of a new job.
    fn set_learning_rate(&mut self, rate: f64);

    /// The tensors that it keeps of each parameter, of its shape: the first word of their names in
    /// the state of a checkpoint.
    fn slots(&self) -> &'static [&'static str];

    /// The numbers that it keeps besides, by their names in the state of a checkpoint.
    fn counters(&self) -> &'static [&'static str] {
        &[]
    }
}

/// The name of what an optimizer keeps of a parameter, in the state of a checkpoint.
pub fn slot_name(slot: &str, parameter: &str) -> String {
    format!("{slot}.{parameter}")
}

impl Optimizer {
    /// Reads the section of a spec.
    pub(super) fn read(message: Option<&v1::Optimizer>, wrong: &mut Violations) -> Option<Self> {
        let kind = message.and_then(|optimizer| optimizer.kind.as_ref());
        Self::choose(kind, Fields::new("optimizer", wrong), "is missing; choose one")
    }

    /// The message that it was read from.
    pub(super) fn to_proto(&self) -> v1::Optimizer {
        v1::Optimizer { kind: Some(self.to_kind()) }
    }
}
