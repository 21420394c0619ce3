//! Judges the weights that a job would begin with, before it is taken: by the header, and small
//! files to the last value.
//!
//! The runner judges them once more when it loads them: larger files, and what has changed since.

use std::fs::File;
use std::io::Seek;

use super::warm_start::{Refusal, Source, Warm};
use crate::dataset::labelled_images::WHOLE_BELOW_BYTES;
use crate::dataset::safetensors::{Header, SafetensorsError, TensorInfo};
use crate::job::Violations;
use crate::job::spec::{Model, judge_state, judge_weights};
use crate::journal::JobFolder;

/// Adds what is wrong with them under `field`. `model` is None where the request is wrong about
/// that.
pub(super) fn judge(warm: &Warm, field: &str, model: Option<Model>, wrong: &mut Violations) {
    let judged = match warm {
        Warm::Weights(source) => vec![judge_file(source, model, judge_weights)],
        Warm::Checkpoint { folder, checkpoint } => {
            let file = |name: &str, rule: Rule| {
                let told = checkpoint.manifest.files.iter().find(|file| file.name == name);
                let told = told.ok_or_else(|| format!("{} has no {name}", checkpoint.path.display()))?;
                let source = Source::of_checkpoint(folder, checkpoint, told);
                let source = source.map_err(|error| Refusal::of(&error, error.to_string()))?;
                judge_file(&source, model, rule)
            };
            vec![file(JobFolder::MODEL_FILE, judge_weights), file(JobFolder::STATE_FILE, judge_state)]
        }
    };
    for refusal in judged.into_iter().filter_map(Result::err) {
        refusal.tell(field, wrong);
    }
}

/// Which tensors a model needs.
type Rule = fn(Model, &[TensorInfo]) -> Result<(), String>;

fn judge_file(source: &Source, model: Option<Model>, rule: Rule) -> Result<(), Refusal> {
    let told = |what: String| format!("{} {what}", source.path.display());
    let header = judge_values(source).map_err(|error| match &error {
        SafetensorsError::Unreadable(cause) => Refusal::of(cause, told(error.to_string())),
        _ => told(error.to_string()).into(),
    })?;
    model.map_or(Ok(()), |model| rule(model, &header.tensors)).map_err(|what| told(what).into())
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
