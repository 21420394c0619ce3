//! The outcome of one batch in a runner that was started for it alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::outline::Outline;
use crate::proto::v1;

/// The answer of `torchd-runner dry-run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// A batch was trained on.
    Done(DryRun),
    /// The job would end at its beginning, for this reason.
    Failed {
        /// In words; may begin with the field of the spec.
        message: String,
        /// Memory ran out.
        is_memory: bool,
    },
}

/// A batch that was trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DryRun {
    /// Its loss.
    pub loss: f64,
    /// The norm of its gradients, before they are clipped.
    pub gradient_norm: f64,
    /// Its metrics.
    pub metrics: BTreeMap<String, f64>,
    /// The sizes of the model's output for an example.
    pub output: Vec<u64>,
    /// The model.
    pub outline: Outline,
    /// The time of the batch, in seconds.
    pub seconds: f64,
    /// The most memory that the process has had, in bytes.
    pub peak_memory_bytes: u64,
}

impl DryRun {
    /// The message that clients get.
    pub fn to_proto(&self) -> v1::DryRun {
        let Self { loss, gradient_norm, metrics, output, outline, seconds, peak_memory_bytes } = self;
        v1::DryRun {
            loss: *loss,
            gradient_norm: *gradient_norm,
            metrics: metrics.clone(),
            output_sizes: output.clone(),
            model_outline: Some(outline.to_proto()),
            step_time: std::time::Duration::try_from_secs_f64(*seconds).ok().and_then(|time| time.try_into().ok()),
            peak_memory_bytes: *peak_memory_bytes,
        }
    }
}
