//! Judges the weights that a job would begin with, before it is taken: by the header, and small
//! files to the last value.
//!
//! The runner judges them once more when it loads them: larger files, and what has changed since.

use super::warm_start::{Refusal, Source, Warm};
use crate::job::Violations;
use crate::job::spec::{Model, judge_state, judge_weights};
use crate::journal::JobFolder;
use crate::tensor_file::{
    Format, Positioned, Problem, Tensor, TensorFile, VALUES_BELOW_BYTES, bytes_to_judge, judge_values as judge_tensors,
};

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
type Rule = fn(Model, &[Tensor]) -> Result<(), String>;

fn judge_file(source: &Source, model: Option<Model>, rule: Rule) -> Result<(), Refusal> {
    let told = |what: String| format!("{} {what}", source.path.display());
    let tensors = judge_values(source).map_err(|problem| match &problem {
        Problem::Unreadable(cause) => Refusal::of(cause, told(problem.to_string())),
        _ => told(problem.to_string()).into(),
    })?;
    model.map_or(Ok(()), |model| rule(model, &tensors)).map_err(|what| told(what).into())
}

/// The tensors of a file whose values are finite, where they are few enough to be read.
fn judge_values(source: &Source) -> Result<Vec<Tensor>, Problem> {
    let positioned = Positioned(&source.file);
    let file = TensorFile::read_from(&positioned, source.size_bytes)?;
    if file.format == Format::Pt {
        let what = "is a .pt file, and a safetensors file is needed: save it anew with safetensors.torch.save_file";
        return Err(Problem::Refused(what.into()));
    }
    if bytes_to_judge(&file.tensors) < VALUES_BELOW_BYTES {
        judge_tensors(&file.tensors, &positioned)?;
    }
    Ok(file.tensors)
}
