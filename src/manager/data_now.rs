//! The data of a job as they are now, as far as the daemon can tell. What it cannot tell is left to
//! the runner, which reads them.

use std::io;
use std::path::Path;

use super::known_data::KnownData;
use crate::dataset::{DataFile, DataRoots, Files, Judged, OnDisk, OpenFiles, PathProblem};
use crate::gate::Wanted;
use crate::job::DataInputs;
use crate::job::spec::{Data, DataFacts};
use crate::journal::{FileStates, TrainedOn};
use crate::judging;

/// The data of a job.
pub(super) enum Now {
    /// They are there, and nothing is known to be wrong with them.
    Known(TrainedOn),
    /// They are gone, or wrong, in words.
    Unusable(String),
    /// They cannot be read now.
    Unknown,
}

impl From<io::Error> for Now {
    fn from(_: io::Error) -> Self {
        Self::Unknown
    }
}

/// Looks at the data of a job. Blocks: it may have to read them.
pub(super) fn data_now(data: &Data, inputs: &DataInputs, roots: &DataRoots, known: &KnownData, wanted: &Wanted) -> Now {
    look(data, inputs, roots, known, wanted).map_or_else(|now| now, Now::Known)
}

fn look(
    data: &Data,
    inputs: &DataInputs,
    roots: &DataRoots,
    known: &KnownData,
    wanted: &Wanted,
) -> Result<TrainedOn, Now> {
    let find = |name: &str, kind| match kind {
        OnDisk::File => roots.open(name),
        OnDisk::Folder => roots.open_data_folder(name),
    };
    let open = |path: &Path, kind| match path.to_str().map(|name| find(name, kind)) {
        // A link that has come into the way is not followed by the runner.
        Some(Ok(file)) if file.path() == path => Ok(file),
        Some(Err(
            problem @ (PathProblem::Missing { .. } | PathProblem::NotAFile { .. } | PathProblem::NotAFolder { .. }),
        )) => Err(Now::Unusable(problem.to_string())),
        None | Some(Ok(_) | Err(_)) => Err(Now::Unknown),
    };
    let open = |files: &Files| files.open(open);
    let train = open(&inputs.train)?;
    let validation = inputs.validation.as_ref().map(open).transpose()?;
    let states = |files: &[DataFile]| known.states(files, wanted);
    let files = FileStates { train: states(&train)?, validation: validation.as_deref().map(states).transpose()? };
    let opened = OpenFiles { train, validation: validation.unwrap_or_default() };
    let selection = data.selection(inputs.train.clone(), inputs.validation.clone());
    let judged = known.judge(&selection, &opened, || judging::data::judge(&selection, &opened, wanted));
    let Judged { train, validation, is_sample, .. } =
        judged.map_err(|faults| match faults.iter().any(|fault| fault.problem.unjudged.is_some()) {
            true => Now::Unknown,
            false => {
                let words: Vec<_> = faults.into_iter().map(|fault| fault.problem.what).collect();
                Now::Unusable(words.join("; "))
            }
        })?;
    // The counts of a sample say nothing.
    if is_sample {
        return Err(Now::Unknown);
    }
    Ok(TrainedOn::of(files, &DataFacts { train, validation }))
}
