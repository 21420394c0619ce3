//! A TorchScript module. It is code: what it takes and gives is known where it has run, which the
//! runner alone does.

use std::sync::Arc;

use super::{Family, OwnLoss, Set, Task, Weight};
use crate::dataset::Facts;
use crate::job::Violations;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, PartialEq)]
pub struct TorchScript {
    /// The archive.
    pub path: String,
    /// Its method `training_step` computes the loss, in place of `forward` and a loss of the spec.
    pub training_step: bool,
    /// The outcome of its first run; None until then.
    pub seen: Option<Arc<Seen>>,
}

/// The outcome of a module's first run.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its tensors.
    pub weights: Vec<Weight>,
    /// The sizes of its output for an example; none where it computes its loss.
    pub output: Vec<u64>,
    /// The names of the metrics that it gives with its loss.
    pub metrics: Vec<String>,
}

impl Section for TorchScript {
    type Message = v1::TorchScriptModel;
    const NAME: &str = "torchscript";

    fn read(message: &v1::TorchScriptModel, mut fields: Fields<'_>) -> Option<Self> {
        let v1::TorchScriptModel { path, training_step } = message;
        if path.is_empty() {
            fields.wrong("path", "is missing; name the archive of the module");
        }
        fields.done(Self { path: path.clone(), training_step: *training_step, seen: None })
    }

    fn to_proto(&self) -> v1::TorchScriptModel {
        v1::TorchScriptModel { path: self.path.clone(), training_step: self.training_step }
    }
}

impl Family for TorchScript {
    fn judge(&self, _: &Set<'_>, _: Option<&Task<'_>>, _: &mut Violations) {}

    fn gives(&self, _: &Task<'_>) -> Option<Vec<u64>> {
        self.seen.as_ref().map(|seen| seen.output.clone())
    }

    fn own_loss(&self) -> Option<OwnLoss<'_>> {
        let metrics = self.seen.as_ref().map_or(&[][..], |seen| &seen.metrics);
        self.training_step.then_some(OwnLoss { metrics })
    }

    fn places(&self, facts: &Facts) -> Result<Vec<Option<usize>>, String> {
        let target = self.training_step.then_some(None);
        Ok((0..facts.inputs.len()).map(Some).chain(target).collect())
    }

    fn files(&self) -> Vec<(&'static str, &str)> {
        vec![("path", &self.path)]
    }

    fn weights(&self, _: &Task<'_>) -> Vec<Weight> {
        self.seen.as_ref().map(|seen| seen.weights.clone()).unwrap_or_default()
    }
}
