//! Judges the weights that a job would begin with, before it is taken: by the header, and small
//! files to the last value.
//!
//! The runner judges them once more when it loads them: larger files, and what has changed since.

use std::fs::File;
use std::io::Seek;

use super::warm_start::{Refusal, Source, Warm};
use crate::dataset::WHOLE_BELOW_BYTES;
use crate::dataset::safetensors::{Header, SafetensorsError, TensorInfo};
use crate::job::Violations;
use crate::job::spec::{Metric, Optimizer, Parameter, judge_state, judge_weights};
use crate::journal::JobFolder;

/// What the weights and the state of a job have to fit.
pub(super) struct Wanted<'a> {
    /// What its network learns.
    pub parameters: &'a [Parameter],
    /// Its optimizer.
    pub optimizer: &'a Optimizer,
    /// Its metrics.
    pub metrics: &'a [Metric],
}

/// Adds what is wrong with them under `field`. `wanted` is None where the request or its data do
/// not tell.
pub(super) fn judge(warm: &Warm, field: &str, wanted: Option<&Wanted<'_>>, wrong: &mut Violations) {
    let weights = |found: &[TensorInfo]| wanted.map_or(Ok(()), |wanted| judge_weights(wanted.parameters, found));
    let state = |found: &[TensorInfo]| {
        wanted.map_or(Ok(()), |wanted| judge_state(wanted.parameters, wanted.optimizer, wanted.metrics, found))
    };
    let judged = match warm {
        Warm::Weights(source) => vec![judge_file(source, weights)],
        Warm::Checkpoint { folder, checkpoint } => {
            let file = |name: &str, rule: &dyn Fn(&[TensorInfo]) -> Result<(), String>| {
                let told = checkpoint.manifest.files.iter().find(|file| file.name == name);
                let told = told.ok_or_else(|| format!("{} has no {name}", checkpoint.path.display()))?;
                let source = Source::of_checkpoint(folder, checkpoint, told);
                let source = source.map_err(|error| Refusal::of(&error, error.to_string()))?;
                judge_file(&source, rule)
            };
            vec![file(JobFolder::MODEL_FILE, &weights), file(JobFolder::STATE_FILE, &state)]
        }
    };
    for refusal in judged.into_iter().filter_map(Result::err) {
        refusal.tell(field, wrong);
    }
}

fn judge_file(source: &Source, rule: impl Fn(&[TensorInfo]) -> Result<(), String>) -> Result<(), Refusal> {
    let told = |what: String| format!("{} {what}", source.path.display());
    let header = judge_values(source).map_err(|error| match &error {
        SafetensorsError::Unreadable(cause) => Refusal::of(cause, told(error.to_string())),
        _ => told(error.to_string()).into(),
    })?;
    rule(&header.tensors).map_err(|what| told(what).into())
}

/// The header of a file whose values are finite, where the file is small enough to be read whole.
fn judge_values(source: &Source) -> Result<Header, SafetensorsError> {
    let mut file: &File = &source.file;
    // Whoever reads it next begins at its first byte too.
    file.rewind().map_err(SafetensorsError::Unreadable)?;
    let header = Header::read(&mut file, source.size_bytes)?;
    if source.size_bytes < WHOLE_BELOW_BYTES {
        header.check_values(&mut file)?;
    }
    Ok(header)
}
