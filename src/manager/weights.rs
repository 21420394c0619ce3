//! Judges the weights that a job would begin with, before it is taken: by the header, and small
//! files to the last value.
//!
//! The runner judges them once more when it loads them: larger files, and what has changed since.

use std::io;

use super::warm_start::{Refusal, Source, Warm};
use crate::gate::Wanted;
use crate::job::Violations;
use crate::job::spec::{Metric, Network, Optimizer, Schedule, judge_state, judge_weights};
use crate::journal::JobFolder;
use crate::tensor_file::matching::{About, Mistake, Rules};
use crate::tensor_file::{Positioned, Problem, ReaderAt, TensorFile, VALUES_BELOW_BYTES, bytes_to_judge, judge_values};

/// The parts of a job that its weights and its state have to fit.
pub(super) struct Needs<'a> {
    /// Its network.
    pub network: &'a Network,
    /// Which of it is taken from a file, and what that is called there.
    pub rules: &'a Rules,
    /// Its optimizer.
    pub optimizer: &'a Optimizer,
    /// Its schedule.
    pub schedule: &'a Schedule,
    /// Its metrics.
    pub metrics: &'a [Metric],
    /// The metrics that its model gives.
    pub own_metrics: &'a [String],
}

/// Adds what is wrong with them under `field`. `needs` are None where the request or its data do
/// not tell. Ends where nobody waits for it.
pub(super) fn judge(warm: &Warm, field: &str, needs: Option<&Needs<'_>>, wanted: &Wanted, wrong: &mut Violations) {
    let weights =
        |found: &TensorFile| needs.map_or(Ok(()), |needs| judge_weights(&needs.network.weights, found, needs.rules));
    let state = |found: &TensorFile| {
        needs.map_or(Ok(()), |needs| {
            judge_state(needs.network, needs.optimizer, needs.schedule, needs.metrics, needs.own_metrics, found)
        })
    };
    match warm {
        Warm::Weights(source) => judge_file(source, field, weights, true, wanted, wrong),
        Warm::Checkpoint { folder, checkpoint } => {
            let mut file = |name: &str, rule: &dyn Fn(&TensorFile) -> Result<(), Vec<Mistake>>| {
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
    rule: impl Fn(&TensorFile) -> Result<(), Vec<Mistake>>,
    has_rules: bool,
    wanted: &Wanted,
    wrong: &mut Violations,
) {
    let told = |what: String| format!("{} {what}", source.path.display());
    let mistakes = match read(source, wanted) {
        Ok(file) => rule(&file).err().unwrap_or_default(),
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

/// The tensors of a file. Its values are finite, where they are few enough to be read.
fn read(source: &Source, wanted: &Wanted) -> Result<TensorFile, Problem> {
    let bytes = WhileWanted { bytes: Positioned(&source.file), wanted };
    let file = TensorFile::read_from(&bytes, source.size_bytes)?;
    if bytes_to_judge(&file.tensors) < VALUES_BELOW_BYTES {
        judge_values(&file.tensors, &bytes)?;
    }
    Ok(file)
}

/// Bytes of a file, as long as somebody waits for the judgement.
struct WhileWanted<'a> {
    bytes: Positioned<'a>,
    wanted: &'a Wanted,
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
        assert_eq!(read(&source, &wanted).unwrap().tensors.len(), 1);
        drop(caller);
        assert!(read(&source, &wanted).unwrap_err().to_string().contains("nobody waits"));
    }
}
