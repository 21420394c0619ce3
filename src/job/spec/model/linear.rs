//! A single linear layer: linear and logistic regression.

use super::{Family, Set, Task, demand_numbers, demand_one_input, outputs_of};
use crate::job::Violations;
use crate::job::spec::layer::{Flatten, Layer, Linear};
use crate::job::spec::module::Module;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearModel {
    /// Outputs; None for those of the target.
    pub outputs: Option<u32>,
}

impl Section for LinearModel {
    type Message = v1::LinearModel;
    const NAME: &str = "linear";

    fn read(message: &v1::LinearModel, mut fields: Fields<'_>) -> Option<Self> {
        fields.at_least_one("outputs", message.outputs, 1);
        fields.done(Self { outputs: message.outputs })
    }

    fn to_proto(&self) -> v1::LinearModel {
        v1::LinearModel { outputs: self.outputs }
    }
}

impl Family for LinearModel {
    fn judge(&self, set: &Set<'_>, _: Option<&Task<'_>>, wrong: &mut Violations) {
        demand_numbers(set, Self::NAME, wrong);
        demand_one_input(set, Self::NAME, wrong);
    }

    fn modules(&self, outputs: Option<u64>) -> Option<Module> {
        let linear = Linear { out_features: Some(outputs_of(self.outputs, outputs)?), bias: true };
        let flat = Layer::Flatten(Flatten::default());
        // Its parameters are those of the module itself.
        Some(Module::row([("flatten", flat.into()), ("", Layer::Linear(linear).into())]))
    }
}
