//! The data that a checkpoint was made with, by counts, sizes and fingerprints, so that no job goes
//! on with other data unnoticed.
//!
//! Checkpoints of earlier versions have no fingerprints, or nothing of it at all.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::dataset::{DataFile, Fingerprint};
use crate::job::spec::DataFacts;

/// Differences that a message names; the rest is counted.
const MOST_TOLD: usize = 4;

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
    pub files: Vec<FileState>,
    /// The shards of a training set that is read in shards, which the order of an epoch follows
    /// from: their checksum, as [`Access::shards`](crate::dataset::Access::shards) has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<String>,
}

/// One file as it lies on the disk, or one folder of images with the bytes of all of them. The rule
/// of a fingerprint says which bytes it is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileState {
    /// Its canonical path.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
    /// The fingerprint of its bytes; None in checkpoints of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
}

/// The files of a job's sets as they lie on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStates {
    /// Those of the training set.
    pub train: Vec<FileState>,
    /// Those of the validation set.
    pub validation: Option<Vec<FileState>>,
}

impl FileState {
    /// The state of an open file: whatever has its name by now does not count. Ends where `go_on`
    /// fails, with its error.
    ///
    /// # Errors
    /// Those of reading.
    pub fn of(file: &DataFile, go_on: impl Fn() -> io::Result<()>) -> io::Result<Self> {
        let (size_bytes, fingerprint) = match file.as_folder() {
            Some(folder) => Fingerprint::of_images(folder, &go_on)?,
            None => {
                let size_bytes = file.metadata()?.len();
                (size_bytes, Fingerprint::of(file, size_bytes, go_on)?)
            }
        };
        Ok(Self { path: file.path().to_owned(), size_bytes, fingerprint: Some(fingerprint) })
    }

    /// How the file differs now, in words.
    fn difference(&self, now: &Self) -> Option<String> {
        let (path, had, has) = (self.path.display(), self.size_bytes, now.size_bytes);
        if had != has {
            return Some(format!("{path} had {had} bytes and has {has}"));
        }
        let prints = self.fingerprint.as_ref().zip(now.fingerprint.as_ref());
        prints
            .is_some_and(|(then, now)| then.differs(now))
            .then(|| format!("{path} has other contents, of the same size of {has} bytes"))
    }
}

impl TrainedOn {
    /// The data of a job: its files, and what they hold.
    pub fn of(files: FileStates, facts: &DataFacts) -> Self {
        let FileStates { train, validation } = files;
        let validation = validation.zip(facts.validation.as_ref());
        Self {
            train: DataSet { examples: facts.train.examples, files: train, shards: None },
            validation: validation.map(|(files, facts)| DataSet { examples: facts.examples, files, shards: None }),
        }
    }

    /// How the data of now differ, in words; None where nothing shows that they do. Training needs
    /// the same number of examples to go on at its place.
    pub fn difference(&self, now: &Self) -> Option<String> {
        let (had, has) = (self.train.examples, now.train.examples);
        let count = (had != has).then(|| format!("the training set had {had} examples and has {has}"));
        let validation = now.validation.as_ref().map(|set| set.files.as_slice());
        in_words(count.into_iter().chain(self.changed(&now.train.files, validation)))
    }

    /// The same by the files alone, which may hold anything now.
    pub fn file_difference(&self, now: &FileStates) -> Option<String> {
        in_words(self.changed(&now.train, now.validation.as_deref()))
    }

    /// The files that have changed.
    ///
    /// A file is compared with the one of the same path. One that has another path by now counts
    /// by its examples alone: a checkpoint may be taken to another machine, where the same data are
    /// packed otherwise.
    fn changed<'a>(
        &'a self,
        train: &'a [FileState],
        validation: Option<&'a [FileState]>,
    ) -> impl Iterator<Item = String> + 'a {
        let sets = [Some((&self.train, train)), self.validation.as_ref().zip(validation)];
        sets.into_iter().flatten().flat_map(|(then, now)| {
            then.files.iter().filter_map(|file| file.difference(now.iter().find(|other| other.path == file.path)?))
        })
    }
}

/// Differences as one text; None where there are none.
fn in_words(differences: impl Iterator<Item = String>) -> Option<String> {
    let mut told: Vec<_> = differences.collect();
    let more = told.len().saturating_sub(MOST_TOLD);
    told.truncate(MOST_TOLD);
    if more > 0 {
        told.push(format!("and {more} more files have changed"));
    }
    (!told.is_empty()).then(|| told.join("; "))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn set(examples: u64, files: [(&str, u64); 2]) -> DataSet {
        let file = |(path, size_bytes): (&str, u64)| FileState { path: path.into(), size_bytes, fingerprint: None };
        DataSet { examples, files: files.map(file).to_vec(), shards: None }
    }

    fn state(path: &std::path::Path) -> FileState {
        FileState::of(&DataFile::open(path).unwrap(), || Ok(())).unwrap()
    }

    #[test]
    fn a_state_is_that_of_the_file_that_was_read_and_not_of_what_has_its_name_now() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("data");
        fs::write(&path, "judged").unwrap();
        let (file, judged) = (DataFile::open(&path).unwrap(), state(&path));
        assert_eq!((&judged.path, judged.size_bytes), (&path, 6));
        fs::write(folder.path().join("other"), "swapped in").unwrap();
        fs::rename(folder.path().join("other"), &path).unwrap();
        assert_eq!(FileState::of(&file, || Ok(())).unwrap(), judged);
        assert_eq!(judged.difference(&state(&path)).unwrap(), format!("{} had 6 bytes and has 10", path.display()));
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
        let all = with(set(99, [("/t/i", 2), ("/t/l", 3)]), Some(set(9, [("/v/i", 4), ("/v/l", 7)])));
        let words = "the training set had 100 examples and has 99; /t/i had 1 bytes and has 2; \
            /t/l had 2 bytes and has 3; /v/i had 5 bytes and has 4; and 1 more files have changed";
        assert_eq!(told(all), words);
    }

    #[test]
    fn contents_that_change_in_place_are_seen_and_those_of_earlier_versions_are_not_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("labels");
        fs::write(&path, [1, 2, 3]).unwrap();
        let then = state(&path);
        assert_eq!(then.difference(&state(&path)), None);
        fs::write(&path, [1, 2, 4]).unwrap();
        let words = format!("{} has other contents, of the same size of 3 bytes", path.display());
        assert_eq!(then.difference(&state(&path)), Some(words));
        let earlier = format!(r#"{{"path":{path:?},"size_bytes":3}}"#);
        let earlier: FileState = serde_json::from_str(&earlier).unwrap();
        assert_eq!(earlier.difference(&state(&path)), None);
    }
}
