//! The question what a set of examples contains, and what is wrong with its files.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Failure, Limits, OF_DATA, Question, ask, child};
use crate::dataset::{DataFile, Facts, Files, Format, Problem};
use crate::gate::Wanted;

/// Judges a set by its files, which are open, in the order of [`Format::files`]. Blocks, and ends
/// early where nobody waits any more.
///
/// # Errors
/// All that is wrong with the files, or why that cannot be told, at the file that was being read.
pub fn judge(files: &Files, opened: &[DataFile], wanted: &Wanted) -> Result<Facts, Vec<Problem>> {
    let question = Data { files: files.clone(), paths: opened.iter().map(|file| file.path().to_owned()).collect() };
    match ask(&question, opened.iter().map(AsFd::as_fd), wanted) {
        Ok(answer) => answer,
        Err(Failure { what, reads, unjudged }) => {
            let fields = files.files();
            let place = reads.filter(|place| *place < fields.len()).unwrap_or(0);
            let (field, path) = fields[place];
            Err(vec![Problem { file: field.into(), what: format!("{} {what}", path.display()), unjudged }])
        }
    }
}

/// The question. Its files are those of the set, each with its path for messages.
#[derive(Serialize, Deserialize)]
pub(super) struct Data {
    files: Files,
    paths: Vec<PathBuf>,
}

impl Question for Data {
    const KIND: &'static str = "data";
    const LIMITS: Limits = OF_DATA;
    type Answer = Result<Facts, Vec<Problem>>;

    fn answer(self, files: Vec<File>) -> io::Result<Self::Answer> {
        if files.len() != self.paths.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let opened = self.paths.into_iter().zip(files).enumerate();
        let opened: Vec<_> =
            opened.map(|(place, (path, file))| DataFile::received(path, file, move || child::reads(place))).collect();
        // The parent kills this process where nobody waits any more.
        let (_caller, wanted) = Wanted::by_caller();
        Ok(self.files.inspect(&opened, &wanted))
    }
}
