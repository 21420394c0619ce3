//! From the files of a job to its sets: each is read, divided, and prepared by what the training
//! rows have taught.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::content::{Depth, Preparation, Prepared, Reading};
use super::sampling::{self, Sampled, Sampling};
use super::split::{self, Division, Share};
use super::{Content, DataFile, Details, Facts, Files, Format, Problem, Source};
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
    /// How often the training examples are drawn; None for once each.
    pub sampling: Option<Sampling>,
    /// The preparation that a model was trained with; None to learn one from the training rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<Preparation>,
    /// Whether examples may lack their targets.
    #[serde(default)]
    pub may_lack_target: bool,
    /// The memory that the values of all sets may take together: what has more is read in shards,
    /// where its format allows that. None for all that they take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
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
        self.train.iter().chain(&self.validation).filter_map(DataFile::as_folder).cloned()
    }

    /// The files of a selection that has a training set alone.
    pub fn of(train: impl Into<Vec<DataFile>>) -> Self {
        Self { train: train.into(), validation: Vec::new() }
    }
}

/// Facts of the sets of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Of the training set.
    pub train: Facts,
    /// Of the validation set.
    pub validation: Option<Facts>,
    /// How values become inputs and targets, as the training set taught it.
    pub preparation: Preparation,
    /// A closer look at the training set ...
    pub details: Details,
    /// ... and at the validation set.
    pub validation_details: Option<Details>,
    /// Remarkable values that are no mistakes.
    pub notes: Vec<String>,
    /// Whether large files were read in part: counts are estimates.
    pub is_sample: bool,
    /// Bytes of memory that the values of all sets take while the job has them.
    pub memory_bytes: u64,
}

/// The sets of a job.
pub struct Sets {
    /// To learn from.
    pub train: Box<dyn Source>,
    /// To judge by.
    pub validation: Option<Box<dyn Source>>,
    /// How values become inputs and targets, as the training set taught it.
    pub preparation: Preparation,
    /// Remarkable values that are no mistakes.
    pub notes: Vec<String>,
}

/// The sets of a job, read and prepared.
struct ReadSets {
    train: Prepared,
    validation: Option<Prepared>,
    preparation: Preparation,
    /// Of the training set and the validation set, where they are judged.
    details: (Details, Option<Details>),
    notes: Vec<String>,
    is_sample: bool,
    memory_bytes: u64,
}

/// A fault of a set; of the division of the files where it names none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The set.
    pub set: Option<Use>,
    /// Its problem. That of a division names its field below `data`.
    pub problem: Problem,
}

/// The use of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Use {
    /// To learn from.
    Train,
    /// To judge by.
    Validation,
}

impl Selection {
    /// All rows of these files, to learn from.
    pub fn of(train: Files) -> Self {
        let division = Division::default();
        Self {
            train,
            validation: None,
            division,
            measure: false,
            sampling: None,
            known: None,
            may_lack_target: false,
            memory_bytes: None,
        }
    }

    /// Judges the files: small ones are read whole, large ones judged by headers or samples.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn judge(&self, files: &OpenFiles, wanted: &Wanted) -> Result<Judged, Vec<Fault>> {
        let ReadSets { train, validation, preparation, details, notes, is_sample, memory_bytes } =
            self.read(files, None, Depth::Judge, wanted)?;
        let (train, validation) = (train.facts, validation.map(|set| set.facts));
        let (details, validation_details) = details;
        Ok(Judged { train, validation, preparation, details, validation_details, notes, is_sample, memory_bytes })
    }

    /// Opens the sets for training. `known` is the preparation that was learned before; None to
    /// learn it.
    ///
    /// # Errors
    /// All that is wrong with the files.
    pub fn open(&self, files: &OpenFiles, known: Option<Preparation>) -> Result<Sets, Vec<Fault>> {
        let (_caller, wanted) = Wanted::by_caller();
        let ReadSets { train, validation, preparation, notes, .. } = self.read(files, known, Depth::Train, &wanted)?;
        let source = |set: Prepared| set.source.unwrap_or_else(|| unreachable!("read to be trained on"));
        Ok(Sets { train: source(train), validation: validation.map(source), preparation, notes })
    }

    fn read(
        &self,
        files: &OpenFiles,
        known: Option<Preparation>,
        depth: Depth,
        wanted: &Wanted,
    ) -> Result<ReadSets, Vec<Fault>> {
        let Self { train, validation, division, measure, sampling, .. } = self;
        let reading = Reading {
            depth,
            wanted,
            split_column: division.column(),
            weights: sampling.as_ref().and_then(Sampling::array),
            is_weighed: true,
            may_lack_target: self.may_lack_target,
            known: self.known.as_ref(),
            memory_bytes: self.memory_bytes,
        };
        let train = train.read(&files.train, &reading).map_err(|problems| of(Use::Train, problems));
        let taken = train.as_ref().ok().and_then(|content| content.memory_bytes()).unwrap_or(0);
        // A training set that takes all leaves the validation set a little, to be read in shards.
        let rest = reading.memory_bytes.map(|most| most.saturating_sub(taken).max(most / 8));
        let rest = Reading { memory_bytes: rest, is_weighed: false, ..reading };
        let validation = validation.as_ref().map(|set| set.read(&files.validation, &rest));
        let validation = validation.transpose().map_err(|problems| of(Use::Validation, problems));
        let (mut train, mut validation) = both(train, validation)?;
        let is_sample = [Some(&train), validation.as_ref()].into_iter().flatten().any(|set| set.estimate().is_some());
        let of_division = |problem| vec![Fault { set: None, problem }];
        if sampling.is_some() && train.is_in_shards() {
            return Err(of_division(sampling::of_shards()));
        }
        let (share, held_out) = division.divide(train.as_ref()).map_err(of_division)?;
        let of_train: Vec<_> = [&share].into_iter().chain(&held_out).map(|share| &share.rows).collect();
        let looked = train.look_over(&of_train, *measure).map_err(|problems| of(Use::Train, problems));
        let validation_share = match &mut validation {
            Some(content) => {
                let share = division.whole(content.as_ref()).map_err(of_division)?;
                let looked = content.look_over(&[&share.rows], false);
                Some(looked.map(|()| share).map_err(|problems| of(Use::Validation, problems)))
            }
            None => None,
        };
        let ((), validation_share) = both(looked, validation_share.transpose())?;
        let learned = match known.or_else(|| self.known.clone()) {
            Some(known) => known,
            None => {
                let learned = train.learn(&share.rows, *measure).map_err(|problems| of(Use::Train, problems))?;
                Preparation { is_of_sample: train.estimate().is_some(), ..learned }
            }
        };
        let chances = sampling.as_ref().map(|sampling| sampling.chances(train.as_ref(), &share.rows)).transpose();
        let chances = chances.map_err(of_division)?.flatten();
        let look = |content: &dyn Content, share: &Share| match depth {
            Depth::Judge => content.details(&share.rows, &learned),
            Depth::Train => Details::default(),
        };
        let prepare = |content: &dyn Content, Share { rows, examples }: Share| {
            let set = content.prepare(rows, &learned)?;
            Ok(Prepared { facts: Facts { examples, ..set.facts }, ..set })
        };
        let details = look(train.as_ref(), &share);
        let train_set = prepare(train.as_ref(), share).map_err(|problems| of(Use::Train, problems));
        let mut validation_details = None;
        let validation_set = match (&validation, validation_share, held_out) {
            (Some(content), Some(share), _) => {
                validation_details = Some(look(content.as_ref(), &share));
                Some(prepare(content.as_ref(), share).map_err(|problems| of(Use::Validation, problems)))
            }
            (_, _, Some(share)) => {
                // Rows that are left out of the files are in neither set: the first tells of them.
                validation_details = Some(Details { left_out: 0, ..look(train.as_ref(), &share) });
                Some(prepare(train.as_ref(), share).map_err(|problems| of(Use::Train, problems)))
            }
            (_, _, None) => None,
        };
        let (train_content, validation_content) = (train, validation);
        let (mut train, mut validation) = both(train_set, validation_set.transpose())?;
        let memory_bytes =
            memory_bytes(train_content.as_ref(), validation_content.as_deref(), &train, validation.as_ref());
        train.source = match (train.source, chances) {
            (Some(source), Some(chances)) => Some(Box::new(Sampled::new(source, chances))),
            (source, _) => source,
        };
        let notes = [Some(&mut train), validation.as_mut()].into_iter().flatten();
        let mut notes: Vec<_> = notes.flat_map(|set| std::mem::take(&mut set.notes)).collect();
        let contents = [("training", Some(&train_content)), ("validation", validation_content.as_ref())];
        for (name, _) in contents.iter().filter(|(_, content)| content.is_some_and(|content| content.is_in_shards())) {
            notes.push(format!("the {name} data are read in shards: their values would take too much memory at once"));
        }
        for (name, _) in contents.iter().filter(|(_, content)| content.is_some_and(|content| content.is_in_files())) {
            let why = "their values would take too much memory at once";
            notes.push(format!("the {name} data stay in their files, and rows are read when they are needed: {why}"));
        }
        let whole = contents.iter().filter_map(|(name, content)| Some((name, content.as_ref()?.whole()?)));
        notes.extend(whole.map(|(name, what)| format!("the {name} data {what}")));
        let details = (details, validation_details);
        Ok(ReadSets { train, validation, preparation: learned, details, notes, is_sample, memory_bytes })
    }
}

/// Bytes of memory that the values of the sets of these contents take.
fn memory_bytes(
    train: &dyn Content,
    validation: Option<&dyn Content>,
    train_set: &Prepared,
    validation_set: Option<&Prepared>,
) -> u64 {
    let by_facts = |set: &Prepared| set.facts.memory_bytes();
    let validation_by_facts = validation_set.map_or(0, by_facts);
    let (of_train, of_validation) = match validation {
        Some(content) => (by_facts(train_set), content.memory_bytes().unwrap_or(validation_by_facts)),
        // Both sets are of one content.
        None => (by_facts(train_set).saturating_add(validation_by_facts), 0),
    };
    train.memory_bytes().unwrap_or(of_train).saturating_add(of_validation)
}

/// Both, or the faults of both.
pub(super) fn both<A, B, E>(one: Result<A, Vec<E>>, other: Result<B, Vec<E>>) -> Result<(A, B), Vec<E>> {
    match (one, other) {
        (Ok(one), Ok(other)) => Ok((one, other)),
        (one, other) => Err(one.err().into_iter().chain(other.err()).flatten().collect()),
    }
}

fn of(set: Use, problems: Vec<Problem>) -> Vec<Fault> {
    // The column that divides a table is read with it.
    let set = |problem: &Problem| (problem.file != split::COLUMN).then_some(set);
    problems.into_iter().map(|problem| Fault { set: set(&problem), problem }).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{HostBatch, Moments, Range, Split, idx};
    use super::*;

    /// Ten images of one pixel, of the values 0, 10 to 90: five of class 0, four of 1, one of 2.
    fn ten() -> (tempfile::TempDir, Files, OpenFiles) {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().canonicalize().unwrap();
        let pixels: Vec<u8> = (0..10).map(|value| value * 10).collect();
        let sizes = [10u32, 1, 1].map(u32::to_be_bytes).concat();
        fs::write(place.join("images"), [&[0, 0, 8, 3][..], &sizes, &pixels].concat()).unwrap();
        let labels = [0, 0, 0, 0, 0, 1, 1, 1, 1, 2];
        fs::write(place.join("labels"), [&[0, 0, 8, 1, 0, 0, 0, 10][..], &labels].concat()).unwrap();
        let files =
            Files::Idx(idx::Files { images: place.join("images").into(), labels: Some(place.join("labels").into()) });
        let opened = files.paths().into_iter().map(|path| DataFile::open(path).unwrap()).collect::<Vec<_>>();
        (folder, files, OpenFiles::of(opened))
    }

    /// All values of a set, which come with their class.
    fn values(source: &mut dyn Source) -> Vec<u8> {
        let (mut batch, places) = (HostBatch::default(), (0..source.facts().examples).collect::<Vec<_>>());
        source.fill(&places, &mut batch).unwrap();
        let classes = batch.targets.as_chunks().0.iter().map(|&class| i64::from_le_bytes(class));
        for (value, class) in batch.inputs[0].iter().zip(classes) {
            assert_eq!([0, 0, 0, 0, 0, 1, 1, 1, 1, 2][usize::from(*value) / 10], class);
        }
        batch.inputs.remove(0)
    }

    #[test]
    fn a_split_divides_one_set_and_what_is_measured_is_that_of_the_training_part() {
        let (_folder, train, files) = ten();
        let split = Split::Fraction { fraction: 0.4, seed: 1, stratify: true };
        let division = Division { split: Some(split), limit: None };
        let selection = Selection { division, measure: true, ..Selection::of(train) };
        let (_caller, wanted) = Wanted::by_caller();
        let judged = selection.judge(&files, &wanted).unwrap();
        let mut sets = selection.open(&files, None).unwrap();
        assert_eq!(
            (&judged.train, judged.validation.as_ref()),
            (sets.train.facts(), sets.validation.as_ref().map(|set| set.facts()))
        );
        let (train, held_out) = (values(sets.train.as_mut()), values(sets.validation.unwrap().as_mut()));
        assert_eq!((train.len(), held_out.len()), (6, 4));
        // Of each class 40 %: two of five, two of four rounded up, none of one.
        assert_eq!(held_out.iter().filter(|value| **value < 50).count(), 2);
        assert_eq!(judged.train.target.range, Some(Range { lowest: 0, highest: 2, highest_at: 9 }));
        assert_eq!(judged.validation.unwrap().target.range.unwrap().highest, 1);
        let mut all = [train.clone(), held_out].concat();
        all.sort_unstable();
        assert_eq!(all, (0..10).map(|value| value * 10).collect::<Vec<_>>());
        let mean = train.iter().map(|&value| f64::from(value)).sum::<f64>() / 6.0 / 255.0;
        assert!((sets.preparation.moments["images"].mean[0] - mean).abs() < 1e-12);
        // A later attempt goes by what the first one learned.
        let known = Preparation {
            moments: [("images".into(), Moments { mean: vec![7.0], std: vec![2.0] })].into(),
            ..Preparation::default()
        };
        assert_eq!(selection.open(&files, Some(known.clone())).unwrap().preparation, known);
    }

    #[test]
    fn a_limit_holds_for_each_set_and_comes_before_a_split() {
        let (_folder, train, files) = ten();
        let split = Some(Split::Fraction { fraction: 0.25, seed: 0, stratify: false });
        let selection = Selection { division: Division { split, limit: Some(8) }, ..Selection::of(train.clone()) };
        let mut sets = selection.open(&files, None).unwrap();
        let counts = (values(sets.train.as_mut()).len(), values(sets.validation.unwrap().as_mut()).len());
        assert_eq!(counts, (6, 2));
        let again = OpenFiles {
            validation: train.paths().into_iter().map(|path| DataFile::open(path).unwrap()).collect(),
            ..files
        };
        let division = Division { split: None, limit: Some(3) };
        let selection = Selection { validation: Some(train.clone()), division, ..Selection::of(train) };
        let mut sets = selection.open(&again, None).unwrap();
        let drawn = values(sets.train.as_mut());
        assert_eq!((drawn.len(), &drawn), (3, &values(sets.validation.unwrap().as_mut())));
    }

    #[test]
    fn a_division_that_cannot_be_is_told_by_its_field() {
        let (_folder, train, files) = ten();
        let told = |split| {
            let division = Division { split: Some(split), limit: None };
            let faults = Selection { division, ..Selection::of(train.clone()) }.open(&files, None).err().unwrap();
            assert_eq!((faults.len(), faults[0].set), (1, None));
            format!("{}: {}", faults[0].problem.file, faults[0].problem.what)
        };
        let share = |fraction| told(Split::Fraction { fraction, seed: 0, stratify: false });
        assert!(share(0.01).starts_with("split.fraction: is 0.01, which makes 0 of 10 examples"), "{}", share(0.01));
        assert!(share(0.99).contains("makes 10 of 10"));
        assert!(told(Split::Column("part".into())).contains("the data are no table"));
    }
}
