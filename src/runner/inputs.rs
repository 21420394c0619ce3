//! The data files of an order, opened before the runner is confined: no path leads to them then.

use std::path::Path;

use torchd::beneath::NotAFile;
use torchd::dataset::{DataFile, Files};
use torchd::job::order;
use torchd::proto::v1::JobEndReason;

use crate::failure::{Failure, Result};

/// The files of a job. What is wrong with them is told when they are read.
pub(crate) struct OpenInputs {
    pub(crate) train: Result<OpenSet>,
    pub(crate) validation: Option<Result<OpenSet>>,
}

/// The files of a set, in the order of its format.
pub(crate) struct OpenSet {
    pub(crate) files: Files,
    pub(crate) opened: Vec<DataFile>,
}

impl OpenInputs {
    /// Opens what the order names.
    pub(crate) fn open(named: &order::Inputs) -> Self {
        Self { train: open_set(&named.train), validation: named.validation.as_ref().map(open_set) }
    }
}

fn open_set(files: &Files) -> Result<OpenSet> {
    let opened = files.paths().into_iter().map(open).collect::<std::result::Result<_, _>>();
    let opened = opened.map_err(|what| Failure::new(JobEndReason::BadData, what))?;
    Ok(OpenSet { files: files.clone(), opened })
}

/// Opens a data file. The request was judged with this path, which is canonical and lies under a
/// data root: a link that has come into the way since is not followed.
fn open(path: &Path) -> std::result::Result<DataFile, String> {
    let place = path.display();
    DataFile::open(path).map_err(|error| match (NotAFile::of(&error), path.canonicalize()) {
        (Some(NotAFile { found, .. }), _) => format!("{place} is {found} now, and a file is needed"),
        (None, Ok(found)) if found != path => {
            format!("{place} leads to {} now; it did not when the job was taken", found.display())
        }
        (None, _) => format!("{place} cannot be read: {error}"),
    })
}
