//! The data files of an order, opened before the runner is confined: no path leads to them then.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use torchd::beneath::{Folder, NotAFile};
use torchd::dataset::{DataFile, Files, OnDisk, OpenFiles};
use torchd::job::end::CHANGED_DATA_REMEDY;
use torchd::job::order::{DataInputs, Order};
use torchd::proto::v1::JobEndReason;
use torchd::shortage::Unjudged;

use crate::failure::{Failure, Result};

/// Descriptors for each data file: that of the file, and those of the inputs and the target that
/// read it by position.
const OF_A_FILE: u64 = 3;
/// Descriptors of a runner besides those of its data.
const OTHERS: u64 = 256;

/// The data of an order.
pub(crate) fn data(order: &Order) -> Result<&DataInputs> {
    let none = || Failure::new(JobEndReason::Internal, "the order names no data");
    order.inputs.data().ok_or_else(none)
}

/// The files of a job, opened; what is wrong with them is told when they are read.
pub(crate) fn open_inputs(order: &Order) -> Result<OpenFiles> {
    let DataInputs { train, validation, .. } = data(order)?;
    let files = train.paths().len() + validation.iter().map(|set| set.paths().len()).sum::<usize>();
    allow_descriptors(OTHERS + OF_A_FILE * files as u64);
    // Files that are not there as files could be read before then.
    let has_begun = order.resume_step.is_some();
    let open = |files: &Files| files.open(|path, kind| open(path, kind, has_begun));
    let validation = validation.as_ref().map(open).transpose()?;
    Ok(OpenFiles { train: open(train)?, validation: validation.unwrap_or_default() })
}

/// Raises the limit of descriptors to so many, as far as the hard limit lets it. A runner keeps the
/// usual one where that is enough.
fn allow_descriptors(needed: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return;
    }
    let current = Some(maximum.map_or(needed, |maximum| maximum.min(needed)));
    // Where it stays, the file that cannot be opened is told.
    let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
}

/// The folders among the files of a job.
pub(crate) fn folders(opened: &Result<OpenFiles>) -> Vec<Arc<Folder>> {
    opened.iter().flat_map(OpenFiles::folders).collect()
}

/// A failure for that reason, unless what was found says nothing about the data.
pub(crate) fn failure(reason: JobEndReason, what: String, unjudged: Option<Unjudged>) -> Failure {
    match unjudged {
        Some(Unjudged::Shortage) => Failure::machine(what),
        // Another file system than that of the job's folder, and like it may be back some day.
        Some(Unjudged::Storage) => Failure::new(JobEndReason::Storage, what),
        // A person puts it back, or takes it as it is.
        Some(Unjudged::Changed) => Failure::new(JobEndReason::DataChanged, format!("{what}; {CHANGED_DATA_REMEDY}")),
        None => Failure::new(reason, what),
    }
}

/// Opens a data file or a folder of them. The request was judged with this path, which is canonical
/// and lies under a data root: a link that has come into the way since is not followed.
fn open(path: &Path, kind: OnDisk, has_begun: bool) -> Result<DataFile> {
    let place = path.display();
    let (opened, needed) = match kind {
        OnDisk::File => (DataFile::open(path), "a file"),
        OnDisk::Folder => (DataFile::open_folder(path), "a folder"),
    };
    opened.map_err(|error| {
        let what = match (NotAFile::of(&error), path.canonicalize()) {
            (Some(NotAFile { found, .. }), _) => format!("{place} is {found} now, and {needed} is needed"),
            (None, Ok(found)) if found != path => {
                format!("{place} leads to {} now; it did not when the job was taken", found.display())
            }
            (None, Ok(_)) if error.kind() == ErrorKind::NotADirectory => {
                format!("{place} is no folder now, and {needed} is needed")
            }
            (None, _) => format!("{place} cannot be read: {error}"),
        };
        let reason = if has_begun { JobEndReason::DataChanged } else { JobEndReason::BadData };
        failure(reason, what, Unjudged::of(&error))
    })
}
