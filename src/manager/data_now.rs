//! The data of a job as they are now, as far as the daemon can tell. What it cannot tell is left to
//! the runner, which reads them.

use std::io;
use std::path::Path;

use super::known_data::KnownData;
use crate::dataset::{DataFile, DataRoots, Facts, Files, PathProblem};
use crate::gate::Wanted;
use crate::job::Inputs;
use crate::job::spec::DataFacts;
use crate::journal::{FileState, FileStates, TrainedOn};

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
pub(super) fn data_now(inputs: &Inputs, roots: &DataRoots, known: &KnownData, wanted: &Wanted) -> Now {
    let look = |files| set_now(files, roots, known, wanted);
    let sets = look(&inputs.train).and_then(|train| Ok((train, inputs.validation.as_ref().map(look).transpose()?)));
    match sets {
        Ok(((train_files, train), validation)) => {
            let (validation_files, validation) = validation.unzip();
            let files = FileStates { train: train_files, validation: validation_files };
            Now::Known(TrainedOn::of(files, &DataFacts { train, validation }))
        }
        Err(now) => now,
    }
}

fn set_now(
    files: &Files,
    roots: &DataRoots,
    known: &KnownData,
    wanted: &Wanted,
) -> Result<(Vec<FileState>, Facts), Now> {
    let open = |path: &Path| match path.to_str().map(|name| roots.open(name)) {
        // A link that has come into the way is not followed by the runner.
        Some(Ok(file)) if file.path() == path => Ok(file),
        Some(Err(problem @ (PathProblem::Missing { .. } | PathProblem::NotAFile { .. }))) => {
            Err(Now::Unusable(problem.to_string()))
        }
        None | Some(Ok(_) | Err(_)) => Err(Now::Unknown),
    };
    let opened: Vec<DataFile> = files.paths().into_iter().map(open).collect::<Result<_, _>>()?;
    let states = known.states(&opened, wanted)?;
    let facts = known.inspect(files, &opened, wanted).map_err(|problems| {
        match problems.iter().any(|problem| problem.unjudged.is_some()) {
            true => Now::Unknown,
            false => {
                let words: Vec<_> = problems.into_iter().map(|problem| problem.what).collect();
                Now::Unusable(words.join("; "))
            }
        }
    })?;
    Ok((states, facts))
}
