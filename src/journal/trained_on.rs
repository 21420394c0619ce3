//! The data that a checkpoint was made with, by sizes and counts, so that no job goes on with other
//! data unnoticed.
//!
//! It is no fingerprint: data of the same sizes can differ. Checkpoints of earlier versions do not
//! have it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dataset::{Facts, Files};
use crate::job::Inputs;
use crate::job::spec::DataFacts;

/// The sets of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainedOn {
    /// Examples to learn from.
    pub train: DataSet,
    /// Examples to judge by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<DataSet>,
}

/// One set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSet {
    /// Examples in it.
    pub examples: u64,
    /// Its files.
    pub files: Vec<FileSize>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSize {
    /// Its canonical path.
    pub path: PathBuf,
    /// Its size as it lies on the disk.
    pub size_bytes: u64,
}

impl TrainedOn {
    /// The data of a job, as `facts` tell of the files that were open: what has their names by now
    /// does not count.
    pub fn of(inputs: &Inputs, facts: &DataFacts) -> Self {
        let validation = inputs.validation.as_ref().zip(facts.validation.as_ref());
        Self {
            train: DataSet::of(&inputs.train, &facts.train),
            validation: validation.map(|(files, facts)| DataSet::of(files, facts)),
        }
    }

    /// How the data of now differ, in words; None where nothing shows that they do.
    ///
    /// Training needs the same number of examples to go on at its place. Sizes are compared of
    /// files with the same path: a checkpoint may be taken to another machine, where the same data
    /// are packed otherwise.
    pub fn difference(&self, now: &Self) -> Option<String> {
        let (had, has) = (self.train.examples, now.train.examples);
        if had != has {
            return Some(format!("the training set had {had} examples and has {has}"));
        }
        let sets = [Some((&self.train, &now.train)), self.validation.as_ref().zip(now.validation.as_ref())];
        sets.into_iter().flatten().find_map(|(then, now)| {
            let same_path = |file: &FileSize| now.files.iter().find(|other| other.path == file.path);
            let mut pairs = then.files.iter().filter_map(|file| Some((file, same_path(file)?)));
            let changed = pairs.find(|(then, now)| then.size_bytes != now.size_bytes);
            changed.map(|(FileSize { path, size_bytes }, now)| {
                format!("{} had {size_bytes} bytes and has {}", path.display(), now.size_bytes)
            })
        })
    }
}

impl DataSet {
    fn of(files: &Files, facts: &Facts) -> Self {
        let sizes = files.paths().into_iter().zip(&facts.sizes);
        let file = |(path, size_bytes): (&Path, &u64)| FileSize { path: path.to_owned(), size_bytes: *size_bytes };
        Self { examples: facts.examples, files: sizes.map(file).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Dtype, Field, idx};

    fn set(examples: u64, files: [(&str, u64); 2]) -> DataSet {
        let file = |(path, size_bytes): (&str, u64)| FileSize { path: path.into(), size_bytes };
        DataSet { examples, files: files.map(file).to_vec() }
    }

    #[test]
    fn sizes_are_those_of_the_files_that_were_read_and_not_of_what_has_their_names_now() {
        let target = Field { name: "y".into(), file: "labels", dtype: Dtype::I64, shape: vec![], range: None };
        let facts = Facts { examples: 9, inputs: vec![], target, sizes: vec![52, 17], is_resident: true };
        let train = Files::Idx(idx::Files { images: "/gone/i".into(), labels: "/gone/l".into() });
        let inputs = Inputs { train, validation: None, outline: None };
        let found = TrainedOn::of(&inputs, &DataFacts { train: facts, validation: None });
        assert_eq!(found, TrainedOn { train: set(9, [("/gone/i", 52), ("/gone/l", 17)]), validation: None });
    }

    #[test]
    fn other_counts_and_files_that_have_changed_are_a_difference_and_another_packing_elsewhere_is_not() {
        let validation = Some(set(10, [("/v/i", 5), ("/v/l", 6)]));
        let then = TrainedOn { train: set(100, [("/t/i", 1), ("/t/l", 2)]), validation: validation.clone() };
        let with = |train, validation| then.difference(&TrainedOn { train, validation });
        assert_eq!(with(then.train.clone(), validation.clone()), None);
        assert_eq!(with(then.train.clone(), None), None);
        assert_eq!(with(set(100, [("/u/i.gz", 9), ("/u/l.gz", 9)]), Some(set(7, [("/w/i", 1), ("/w/l", 1)]))), None);
        let told = |difference: Option<String>| difference.unwrap();
        let fewer = with(set(99, [("/u/i", 1), ("/u/l", 2)]), None);
        assert_eq!(told(fewer), "the training set had 100 examples and has 99");
        let labels = with(set(100, [("/t/i", 1), ("/t/l", 3)]), None);
        assert_eq!(told(labels), "/t/l had 2 bytes and has 3");
        let judged = with(then.train.clone(), Some(set(9, [("/v/i", 4), ("/v/l", 6)])));
        assert_eq!(told(judged), "/v/i had 5 bytes and has 4");
    }
}
