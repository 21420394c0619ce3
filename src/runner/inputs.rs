//! The data files of an order, opened before the runner is confined: no path leads to them then.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use torchd::beneath::{Folder, NotAFile};
use torchd::dataset::{DataFile, Files, Find, Format, OpenFiles};
use torchd::job::order::Order;
use torchd::proto::v1::JobEndReason;
use torchd::shortage::Unjudged;

use crate::failure::{Failure, Result};

/// The files of a job, opened; what is wrong with them is told when they are read.
pub(crate) fn open_inputs(order: &Order) -> Result<OpenFiles> {
    // Files that are not there as files could be read before then.
    let has_begun = order.resume_step.is_some();
    let open = |files: &Files| {
        let mut opening = Opening { has_begun, opened: Vec::new(), failure: None };
        let _ = files.locate(&mut opening);
        opening.failure.map_or(Ok(opening.opened), Err)
    };
    let validation = order.inputs.validation.as_ref().map(open).transpose()?;
    Ok(OpenFiles { train: open(&order.inputs.train)?, validation: validation.unwrap_or_default() })
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
        None => Failure::new(reason, what),
    }
}

/// Opens the files of a set by their paths.
struct Opening {
    has_begun: bool,
    opened: Vec<DataFile>,
    /// The first failure.
    failure: Option<Failure>,
}

impl Opening {
    /// Opens a data file or a folder. The request was judged with this path, which is canonical and
    /// lies under a data root: a link that has come into the way since is not followed.
    fn take(&mut self, path: &Path, opened: std::io::Result<DataFile>) -> Option<()> {
        let place = path.display();
        let error = match opened {
            Ok(file) => {
                self.opened.push(file);
                return Some(());
            }
            Err(error) => error,
        };
        let what = match (NotAFile::of(&error), path.canonicalize()) {
            (Some(NotAFile { found, .. }), _) => format!("{place} is {found} now, and a file is needed"),
            (None, Ok(found)) if found != path => {
                format!("{place} leads to {} now; it did not when the job was taken", found.display())
            }
            (None, _) => format!("{place} cannot be read: {error}"),
        };
        let reason = if self.has_begun { JobEndReason::DataChanged } else { JobEndReason::BadData };
        self.failure.get_or_insert(failure(reason, what, Unjudged::of(&error)));
        None
    }
}

impl Find<PathBuf, ()> for Opening {
    fn one(&mut self, _: &'static str, path: &PathBuf) -> Option<()> {
        self.take(path, DataFile::open(path))
    }

    fn folder(&mut self, _: &'static str, path: &PathBuf) -> Option<()> {
        self.take(path, DataFile::open_folder(path))
    }

    fn all(&mut self, field: &'static str, paths: &[PathBuf]) -> Option<Vec<()>> {
        paths.iter().map(|path| self.one(field, path)).collect()
    }
}
