//! Judges the weights that a job would begin with, before it is taken: by the header, and small
//! files to the last value.
//!
//! The runner judges them once more when it loads them: larger files, and what has changed since.

use std::fs::File;
use std::io;

use super::warm_start::{Refusal, Source, Warm};
use crate::gate::Wanted;
use crate::job::Violations;
use crate::job::spec::{Metric, ModelWork, Network, TakenFrom, judge_state, judge_weights};
use crate::journal::JobFolder;
use crate::tensor_file::matching::{About, Mistake, Rules};
use crate::tensor_file::{
    Positioned, Problem, ReaderAt, TensorFile, VALUES_BELOW_BYTES, Values, bytes_to_judge, judge_values,
};

/// Which tensors of a file are taken, or what is wrong with them.
type Judged = Result<TakenFrom, Vec<Mistake>>;

/// The parts of a job that its weights and its state have to fit.
pub(super) struct Needs<'a> {
    /// Its network.
    pub network: &'a Network,
    /// Which of it is taken from a file, and what that is called there.
    pub rules: &'a Rules,
    /// The job.
    pub work: &'a ModelWork,
    /// Its metrics.
    pub metrics: &'a [Metric],
    /// The metrics that its model gives.
    pub own_metrics: &'a [String],
}

/// Adds what is wrong with them under `field`. `needs` are None where the request or its data do
/// not tell. Ends where nobody waits for it.
pub(super) fn judge(warm: &Warm, field: &str, needs: Option<&Needs<'_>>, wanted: &Wanted, wrong: &mut Violations) {
    // Families without buffers alone leave open what they need.
    let all = |found: &TensorFile| Ok((0..found.tensors.len()).map(|place| (place, Values::Finite)).collect());
    let weights = |found: &TensorFile| match needs {
        Some(needs) => judge_weights(&needs.network.weights, found, needs.rules),
        None => all(found),
    };
    let state = |found: &TensorFile| match needs {
        Some(needs) => judge_state(needs.network, needs.work, needs.metrics, needs.own_metrics, found),
        None => all(found),
    };
    match warm {
        Warm::Weights(source) => judge_file(source, field, weights, true, wanted, wrong),
        Warm::Checkpoint { folder, checkpoint } => {
            let mut file = |name: &str, rule: &dyn Fn(&TensorFile) -> Judged| {
                let told = checkpoint.manifest.files.iter().find(|file| file.name == name);
                let Some(told) = told else {
                    return wrong.add(field, format!("{} has no {name}", checkpoint.path.display()));
                };
                match Source::of_checkpoint(folder, checkpoint, told) {
                    Ok(source) => judge_file(&source, field, rule, false, wanted, wrong),
                    Err(error) => Refusal::of(&error, error.to_string()).tell(field, wrong),
                }
            };
            file(JobFolder::MODEL_FILE, &weights);
            file(JobFolder::STATE_FILE, &state);
        }
    }
}

fn judge_file(
    source: &Source,
    field: &str,
    rule: impl Fn(&TensorFile) -> Judged,
    has_rules: bool,
    wanted: &Wanted,
    wrong: &mut Violations,
) {
    let told = |what: String| format!("{} {what}", source.path.display());
    let mistakes = match read(source, rule, wanted) {
        Ok(judged) => judged.err().unwrap_or_default(),
        Err(Problem::Unreadable(cause)) => {
            let what = told(Problem::Unreadable(io::Error::new(cause.kind(), cause.to_string())).to_string());
            return Refusal::of(&cause, what).tell(field, wrong);
        }
        Err(problem) => return wrong.add(field, told(problem.to_string())),
    };
    for mistake in mistakes {
        let about = mistake.about;
        // A checkpoint is taken as it is: no rule applies to it.
        let what = if has_rules { mistake.with_way_out() } else { mistake.what };
        match about {
            About::File => wrong.add(field, told(what)),
            About::Rename(place) => wrong.add(format!("warm_start.rename[{place}].prefix"), what),
            About::Only(place) => wrong.add(format!("warm_start.only[{place}]"), what),
        }
    }
}

/// Judges the tensors of a file by a rule, and the values of those that are taken, where they are
/// few enough to be read.
fn read(source: &Source, rule: impl Fn(&TensorFile) -> Judged, wanted: &Wanted) -> Result<Judged, Problem> {
    let bytes = WhileWanted::new(&source.file, wanted);
    let file = TensorFile::read_from(&bytes, source.size_bytes)?;
    let judged = rule(&file);
    let taken = judged.iter().flatten().map(|(place, values)| (&file.tensors[*place], *values));
    if bytes_to_judge(taken.clone().map(|(tensor, _)| tensor)) < VALUES_BELOW_BYTES {
        for (tensor, values) in taken {
            judge_values([tensor], values, &bytes)?;
        }
    }
    Ok(judged)
}

/// Bytes of a file, as long as somebody waits for the judgement.
pub(super) struct WhileWanted<'a> {
    bytes: Positioned<'a>,
    wanted: &'a Wanted,
}

impl<'a> WhileWanted<'a> {
    /// The bytes of that file.
    pub(super) fn new(file: &'a File, wanted: &'a Wanted) -> Self {
        Self { bytes: Positioned(file), wanted }
    }
}

impl ReaderAt for WhileWanted<'_> {
    fn read_at(&self, into: &mut [u8], place: u64) -> io::Result<usize> {
        self.wanted.check()?;
        self.bytes.read_at(into, place)
    }
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
        let rule = |file: &TensorFile| Ok(vec![(0, Values::Finite); file.tensors.len()]);
        assert_eq!(read(&source, rule, &wanted).unwrap(), Ok(vec![(0, Values::Finite)]));
        drop(caller);
        assert!(read(&source, rule, &wanted).unwrap_err().to_string().contains("nobody waits"));
    }
}
