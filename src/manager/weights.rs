//! Judges the weights that a job would begin with, before it is taken: by the header, and small
//! files to the last value.
//!
//! The runner judges them once more when it loads them: larger files, and what has changed since.

use std::fs::File;
use std::io::Seek;

use super::warm_start::{Refusal, Source, Warm};
use crate::dataset::WHOLE_BELOW_BYTES;
use crate::dataset::safetensors::{Header, SafetensorsError, TensorInfo};
use crate::gate::Wanted;
use crate::job::Violations;
use crate::job::spec::{Metric, Optimizer, Parameter, judge_state, judge_weights};
use crate::journal::JobFolder;

/// What the weights and the state of a job have to fit.
pub(super) struct Needs<'a> {
    /// What its network learns.
    pub parameters: &'a [Parameter],
    /// Its optimizer.
    pub optimizer: &'a Optimizer,
    /// Its metrics.
    pub metrics: &'a [Metric],
}

/// Adds what is wrong with them under `field`. `needs` are None where the request or its data do
/// not tell. Ends where nobody waits for it.
pub(super) fn judge(warm: &Warm, field: &str, needs: Option<&Needs<'_>>, wanted: &Wanted, wrong: &mut Violations) {
    let weights = |found: &[TensorInfo]| needs.map_or(Ok(()), |needs| judge_weights(needs.parameters, found));
    let state = |found: &[TensorInfo]| {
        needs.map_or(Ok(()), |needs| judge_state(needs.parameters, needs.optimizer, needs.metrics, found))
    };
    let judged = match warm {
        Warm::Weights(source) => vec![judge_file(source, weights, wanted)],
        Warm::Checkpoint { folder, checkpoint } => {
            let file = |name: &str, rule: &dyn Fn(&[TensorInfo]) -> Result<(), String>| {
                let told = checkpoint.manifest.files.iter().find(|file| file.name == name);
                let told = told.ok_or_else(|| format!("{} has no {name}", checkpoint.path.display()))?;
                let source = Source::of_checkpoint(folder, checkpoint, told);
                let source = source.map_err(|error| Refusal::of(&error, error.to_string()))?;
                judge_file(&source, rule, wanted)
            };
            vec![file(JobFolder::MODEL_FILE, &weights), file(JobFolder::STATE_FILE, &state)]
        }
    };
    for refusal in judged.into_iter().filter_map(Result::err) {
        refusal.tell(field, wrong);
    }
}

fn judge_file(
    source: &Source,
    rule: impl Fn(&[TensorInfo]) -> Result<(), String>,
    wanted: &Wanted,
) -> Result<(), Refusal> {
    let told = |what: String| format!("{} {what}", source.path.display());
    let header = judge_values(source, wanted).map_err(|error| match &error {
        SafetensorsError::Unreadable(cause) => Refusal::of(cause, told(error.to_string())),
        _ => told(error.to_string()).into(),
    })?;
    rule(&header.tensors).map_err(|what| told(what).into())
}

/// The header of a file whose values are finite, where the file is small enough to be read whole.
fn judge_values(source: &Source, wanted: &Wanted) -> Result<Header, SafetensorsError> {
    let mut file: &File = &source.file;
    // Whoever reads it next begins at its first byte too.
    file.rewind().map_err(SafetensorsError::Unreadable)?;
    let mut file = wanted.reads(file);
    let header = Header::read(&mut file, source.size_bytes)?;
    if source.size_bytes < WHOLE_BELOW_BYTES {
        header.check_values(&mut file)?;
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_only_while_somebody_waits() {
        let header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header, &1f32.to_le_bytes()].concat();
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &bytes).unwrap();
        let source = Source { file, size_bytes: bytes.len() as u64, path: "weights".into(), sha256: None };
        let (caller, wanted) = Wanted::by_caller();
        assert_eq!(judge_values(&source, &wanted).unwrap().tensors.len(), 1);
        drop(caller);
        assert!(judge_values(&source, &wanted).unwrap_err().to_string().contains("nobody waits"));
    }
}
