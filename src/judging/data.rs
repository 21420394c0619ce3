//! The question what the sets of a job contain, and what is wrong with their files.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Failure, Limits, OF_DATA, Question, ask, child};
use crate::dataset::{DataFile, Fault, Format, Judged, OpenFiles, Problem, Selection, Use};
use crate::gate::Wanted;

/// Judges the sets of a job by their files, which are open. Blocks, and ends early where nobody
/// waits any more.
///
/// # Errors
/// All that is wrong with the files, or why that cannot be told, at the file that was being read.
pub fn judge(selection: &Selection, files: &OpenFiles, wanted: &Wanted) -> Result<Judged, Vec<Fault>> {
    let paths = |opened: &[DataFile]| opened.iter().map(|file| file.path().to_owned()).collect();
    let question =
        Data { selection: selection.clone(), train: paths(&files.train), validation: paths(&files.validation) };
    match ask(&question, files.train.iter().chain(&files.validation).map(AsFd::as_fd), wanted) {
        Ok(answer) => answer,
        Err(Failure { what, reads, unjudged }) => {
            let of = |files| move |(field, path)| (files, field, path);
            let train = selection.train.files().into_iter().map(of(Use::Train));
            let validation = selection.validation.iter().flat_map(Format::files).map(of(Use::Validation));
            let files: Vec<_> = train.chain(validation).collect();
            let place = reads.filter(|place| *place < files.len()).unwrap_or(0);
            let (set, field, path): (_, &'static str, &PathBuf) = files[place];
            let problem = Problem { file: field.into(), what: format!("{} {what}", path.display()), unjudged };
            Err(vec![Fault { set: Some(set), problem }])
        }
    }
}

/// The question. Its files are those of the sets, each with its path for messages.
#[derive(Serialize, Deserialize)]
pub(super) struct Data {
    selection: Selection,
    train: Vec<PathBuf>,
    validation: Vec<PathBuf>,
}

impl Question for Data {
    const KIND: &'static str = "data";
    const LIMITS: Limits = OF_DATA;
    type Answer = Result<Judged, Vec<Fault>>;

    fn answer(self, files: Vec<File>) -> io::Result<Self::Answer> {
        let count = self.train.len();
        if files.len() != count + self.validation.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let opened = self.train.into_iter().chain(self.validation).zip(files).enumerate();
        let received = |(place, (path, file))| DataFile::received(path, file, move || child::reads(place));
        let mut train = opened.map(received).collect::<io::Result<Vec<_>>>()?;
        let validation = train.split_off(count);
        // The parent kills this process where nobody waits any more.
        let (_caller, wanted) = Wanted::by_caller();
        Ok(self.selection.judge(&OpenFiles { train, validation }, &wanted))
    }
}
