//! From the files of a job to its sets: each is read, divided, and prepared by what the training
//! rows have taught.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::content::{Depth, Preparation, Prepared, Reading};
use super::split::Division;
use super::{DataFile, Facts, Files, Format, Problem, Source};
use crate::beneath::Folder;
use crate::gate::Wanted;

/// The files of a job, and how they become sets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// To learn from; a part of them is held out where the division says so.
    pub train: Files,
    /// To judge by.
    pub validation: Option<Files>,
    /// How rows become sets.
    pub division: Division,
    /// Whether the means and deviations of inputs are measured.
    pub measure: bool,
}

/// The files of a selection, opened in the order of their formats.
#[derive(Debug, Default)]
pub struct OpenFiles {
    /// Those to learn from.
    pub train: Vec<DataFile>,
    /// Those to judge by.
    pub validation: Vec<DataFile>,
}

impl OpenFiles {
    /// The folders among them.
    pub fn folders(&self) -> impl Iterator<Item = Arc<Folder>> {
        self.train.iter().chain(&self.validation).filter_map(|file| file.folder().ok())
    }

    /// The files of a selection that has a training set alone.
    pub fn of(train: impl Into<Vec<DataFile>>) -> Self {
        Self { train: train.into(), validation: Vec::new() }
    }
}

/// Facts of the sets of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Of the training set.
    pub train: Facts,
    /// Of the validation set.
    pub validation: Option<Facts>,
    /// What the training set has taught.
    pub preparation: Preparation,
}

/// The sets of a job.
pub struct Sets {
    /// To learn from.
    pub train: Box<dyn Source>,
    /// To judge by.
    pub validation: Option<Box<dyn Source>>,
    /// What the training set has taught.
    pub preparation: Preparation,
}

/// A fault of a set; of the division of the files where it names none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The set.
    pub set: Option<Use>,
    /// Its problem. That of a division names its field below `data`.
    pub problem: Problem,
}

/// The use of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// To learn from.
    Train,
    /// To judge by.
    Validation,
}

impl Selection {
    /// All rows of these files, to learn from.
    pub fn of(train: Files) -> Self {
        Self { train, validation: None, division: Division::default(), measure: false }
    }

    /// Judges the files: small ones are read whole, large ones judged by headers or samples.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn judge(&self, files: &OpenFiles, wanted: &Wanted) -> Result<Judged, Vec<Fault>> {
        let (train, validation, preparation) = self.read(files, None, Depth::Judge, wanted)?;
        Ok(Judged { train: train.facts, validation: validation.map(|set| set.facts), preparation })
    }

    /// Opens the sets for training. `known` is the preparation that was learned before; None to
    /// learn it.
    ///
    /// # Errors
    /// All that is wrong with the files.
    pub fn open(&self, files: &OpenFiles, known: Option<Preparation>) -> Result<Sets, Vec<Fault>> {
        let (_caller, wanted) = Wanted::by_caller();
        let (train, validation, preparation) = self.read(files, known, Depth::Train, &wanted)?;
        let source = |set: Prepared| set.source.unwrap_or_else(|| unreachable!("read to be trained on"));
        Ok(Sets { train: source(train), validation: validation.map(source), preparation })
    }

    fn read(
        &self,
        files: &OpenFiles,
        known: Option<Preparation>,
        depth: Depth,
        wanted: &Wanted,
    ) -> Result<(Prepared, Option<Prepared>, Preparation), Vec<Fault>> {
        let Self { train, validation, division, measure } = self;
        let reading = Reading { depth, wanted, split_column: division.column() };
        let train = train.read(&files.train, &reading).map_err(|problems| of(Use::Train, problems));
        let validation = validation.as_ref().map(|set| set.read(&files.validation, &reading));
        let validation = validation.transpose().map_err(|problems| of(Use::Validation, problems));
        let (train, validation) = both(train, validation)?;
        let of_division = |problem| vec![Fault { set: None, problem }];
        let (rows, held_out) = division.divide(train.as_ref()).map_err(of_division)?;
        let learned = match known {
            Some(known) => known,
            None => train.learn(&rows, *measure).map_err(|problems| of(Use::Train, problems))?,
        };
        let train_set = train.prepare(rows, &learned).map_err(|problems| of(Use::Train, problems));
        let validation_set = match (&validation, held_out) {
            (Some(content), _) => {
                let rows = division.whole(content.rows()).map_err(of_division)?;
                Some(content.prepare(rows, &learned).map_err(|problems| of(Use::Validation, problems)))
            }
            (None, Some(rows)) => Some(train.prepare(rows, &learned).map_err(|problems| of(Use::Train, problems))),
            (None, None) => None,
        };
        let (train, validation) = both(train_set, validation_set.transpose())?;
        Ok((train, validation, learned))
    }
}

/// Both, or the faults of both.
fn both<A, B>(one: Result<A, Vec<Fault>>, other: Result<B, Vec<Fault>>) -> Result<(A, B), Vec<Fault>> {
    match (one, other) {
        (Ok(one), Ok(other)) => Ok((one, other)),
        (one, other) => Err(one.err().into_iter().chain(other.err()).flatten().collect()),
    }
}

fn of(set: Use, problems: Vec<Problem>) -> Vec<Fault> {
    problems.into_iter().map(|problem| Fault { set: Some(set), problem }).collect()
}
