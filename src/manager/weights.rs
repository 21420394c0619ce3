//! Judges the weights that a job would begin with, before it is taken: by the header, and small
//! files to the last value.
//!
//! The runner judges them once more when it loads them: larger files, and what has changed since.

use std::fs::File;
use std::path::Path;

use super::warm_start::Warm;
use crate::dataset::labelled_images::WHOLE_BELOW_BYTES;
use crate::dataset::safetensors::{Header, SafetensorsError, TensorInfo};
use crate::job::Violations;
use crate::job::spec::{Model, judge_state, judge_weights};
use crate::journal::{Checkpoint, JobFolder};

/// Adds what is wrong with them under `field`. `model` and `examples`, the size of the training
/// set, are None where the request is wrong about those.
pub(super) fn judge(warm: &Warm, field: &str, model: Option<Model>, examples: Option<u64>, wrong: &mut Violations) {
    let judged = match warm {
        Warm::Weights(path) => vec![judge_file(path, model, judge_weights)],
        Warm::Checkpoint(checkpoint) => {
            let file = |name: &str, rule: Rule| match checkpoint.manifest.tells_of(name) {
                true => judge_file(&checkpoint.path.join(name), model, rule),
                false => Err(format!("{} has no {name}", checkpoint.path.display())),
            };
            vec![
                judge_place(checkpoint, examples),
                file(JobFolder::MODEL_FILE, judge_weights),
                file(JobFolder::STATE_FILE, judge_state),
            ]
        }
    };
    for what in judged.into_iter().filter_map(Result::err) {
        wrong.add(field, what);
    }
}

/// Which tensors a model needs.
type Rule = fn(Model, &[TensorInfo]) -> Result<(), String>;

fn judge_file(path: &Path, model: Option<Model>, rule: Rule) -> Result<(), String> {
    let told = |what: String| format!("{} {what}", path.display());
    let opened = File::open(path).map_err(SafetensorsError::Unreadable);
    let judged = opened.and_then(|mut file| judge_values(&mut file));
    let header = judged.map_err(|error| told(error.to_string()))?;
    model.map_or(Ok(()), |model| rule(model, &header.tensors)).map_err(told)
}

/// The header of a file whose values are finite, where the file is small enough to be read whole.
fn judge_values(file: &mut File) -> Result<Header, SafetensorsError> {
    let size = file.metadata().map_err(SafetensorsError::Unreadable)?.len();
    let header = Header::read(file, size)?;
    if size < WHOLE_BELOW_BYTES {
        header.check_values(file)?;
    }
    Ok(header)
}

/// Whether there is such a place in the training set.
fn judge_place(checkpoint: &Checkpoint, examples: Option<u64>) -> Result<(), String> {
    let used = checkpoint.manifest.place.examples;
    match examples.filter(|examples| used > *examples) {
        Some(examples) => Err(format!(
            "{} has used {used} examples of an epoch, and data.train has {examples}: it was made with other data",
            checkpoint.path.display()
        )),
        None => Ok(()),
    }
}
