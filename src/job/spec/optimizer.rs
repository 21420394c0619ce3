//! The optimizers: each is a file in `optimizer/`, one in `src/runner/optimizer/`, and a line in
//! each registry.

mod adagrad;
mod adam;
mod adamw;
mod groups;
mod lion;
mod rmsprop;
mod sgd;

use super::section::{Fields, registry};
use crate::job::Violations;
use crate::proto::v1::{self, optimizer::Kind};
pub use adagrad::Adagrad;
pub use adam::Adam;
pub use adamw::AdamW;
pub use groups::{Group, Groups, Share};
pub use lion::Lion;
pub use rmsprop::RmsProp;
pub use sgd::Sgd;

registry! {
    /// How gradients become new weights.
    Method as Rule, from Kind, {
        /// Stochastic gradient descent.
        Sgd(Sgd),
        /// Adam with decoupled weight decay.
        Adamw(AdamW),
        /// Adam with the weight decay in the gradient.
        Adam(Adam),
        /// Steps divided by the root of a moving mean of squared gradients.
        Rmsprop(RmsProp),
        /// Steps divided by the root of the sum of squared gradients.
        Adagrad(Adagrad),
        /// Steps by the sign of a moving mean of gradients.
        Lion(Lion),
    }
}

/// The rules of an optimizer, known before its first step.
pub trait Rule {
    /// The learning rate, before the schedule.
    fn learning_rate(&self) -> f64;

    /// Changes the weight decay. Whether it is right is judged as that of a new job.
    fn set_weight_decay(&mut self, decay: f64);

    /// The tensors that it keeps of each parameter, of its shape: the first word of their names in
    /// the state of a checkpoint.
    fn slots(&self) -> &'static [&'static str];

    /// The name of the count of its steps in the state of a checkpoint, if it needs one.
    fn counter(&self) -> Option<&'static str> {
        None
    }
}

/// The name of what an optimizer keeps of a parameter, in the state of a checkpoint.
pub fn slot_name(slot: &str, parameter: &str) -> String {
    format!("{slot}.{parameter}")
}

/// How gradients become new weights, and for which parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimizer {
    /// The way.
    pub method: Method,
    /// The parameters that go it with other numbers, and those that stay.
    pub groups: Groups,
}

impl std::ops::Deref for Optimizer {
    type Target = Method;

    fn deref(&self) -> &Method {
        &self.method
    }
}

impl From<Method> for Optimizer {
    fn from(method: Method) -> Self {
        Self { method, groups: Groups::default() }
    }
}

impl Optimizer {
    /// Reads the section of a spec.
    pub(super) fn read(message: Option<&v1::Optimizer>, wrong: &mut Violations) -> Option<Self> {
        let kind = message.and_then(|optimizer| optimizer.kind.as_ref());
        let method = Method::choose(kind, Fields::new("optimizer", wrong), "is missing; choose one");
        let groups = message.map_or_else(|| Some(Groups::default()), |message| Groups::read(message, wrong));
        Some(Self { method: method?, groups: groups? })
    }

    /// The message that it was read from.
    pub(super) fn to_proto(&self) -> v1::Optimizer {
        let (freeze, groups) = self.groups.to_proto();
        v1::Optimizer { kind: Some(self.method.to_kind()), freeze, groups }
    }

    /// The fields that may change when a job goes on, as paths.
    pub(super) fn editable(&self) -> Vec<String> {
        let own = self.method.editable().iter().map(|field| format!("optimizer.{}.{field}", self.name()));
        let count = self.groups.groups.len();
        let groups =
            (0..count).flat_map(|group| Group::EDITABLE.map(|field| format!("optimizer.groups[{group}].{field}")));
        own.chain(groups).collect()
    }

    /// The method with the numbers of a group of parameters; None for those of no group.
    pub fn of_group(&self, group: Option<usize>) -> Method {
        let mut method = self.method.clone();
        if let Some(decay) = group.and_then(|place| self.groups.groups.get(place)?.weight_decay) {
            method.set_weight_decay(decay);
        }
        method
    }
}
