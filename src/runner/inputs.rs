//! The data files of an order, opened before the runner is confined: no path leads to them then.

use std::path::Path;

use torchd::beneath::NotAFile;
use torchd::dataset::{DataFile, Files, OpenFiles};
use torchd::job::order::Order;
use torchd::proto::v1::JobEndReason;
use torchd::shortage::Unjudged;

use crate::failure::{Failure, Result};

/// The files of a job, opened; what is wrong with them is told when they are read.
pub(crate) fn open_inputs(order: &Order) -> Result<OpenFiles> {
    // Files that are not there as files could be read before then.
    let has_begun = order.resume_step.is_some();
    let open = |files: &Files| files.paths().into_iter().map(|path| open(path, has_begun)).collect::<Result<_>>();
    let validation = order.inputs.validation.as_ref().map(open).transpose()?;
    Ok(OpenFiles { train: open(&order.inputs.train)?, validation: validation.unwrap_or_default() })
}

/// A failure for that reason, unless what was found says nothing about the data.
pub(crate) fn failure(reason: JobEndReason, what: String, unjudged: Option<Unjudged>) -> Failure {
    match unjudged {
        Some(Unjudged::Shortage) => Failure::machine(what),
        // Another file system than that of the job's folder, and like it may be back some day.
        Some(Unjudged::Storage) => Failure::new(JobEndReason::Storage, what),
        None => Failure::new(reason, what),
    }
}

/// Opens a data file. The request was judged with this path, which is canonical and lies under a
/// data root: a link that has come into the way since is not followed.
fn open(path: &Path, has_begun: bool) -> Result<DataFile> {
    let place = path.display();
    DataFile::open(path).map_err(|error| {
        let what = match (NotAFile::of(&error), path.canonicalize()) {
            (Some(NotAFile { found, .. }), _) => format!("{place} is {found} now, and a file is needed"),
            (None, Ok(found)) if found != path => {
                format!("{place} leads to {} now; it did not when the job was taken", found.display())
            }
            (None, _) => format!("{place} cannot be read: {error}"),
        };
        let reason = if has_begun { JobEndReason::DataChanged } else { JobEndReason::BadData };
        failure(reason, what, Unjudged::of(&error))
    })
}
