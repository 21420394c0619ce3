//! The checkpoints of a job as they lie on the disk: those that look whole, and those that are
//! damaged.
//!
//! Absent and unreadable are different findings: a folder that has the name of a checkpoint and
//! cannot be read as one is damaged. An error that tells of the machine and not of the checkpoint,
//! such as too many open files, is returned.

use std::cmp::Reverse;
use std::fmt;
use std::fs;
use std::io;

use super::checkpoint::{Checkpoint, Damage};
use super::folder::{JobFolder, entries};
use super::manifest::Manifest;
use crate::gate::Wanted;
use crate::proto::v1;
use crate::shortage::is_shortage;

/// The checkpoints of a job, newest first.
#[derive(Debug, Default)]
pub struct Survey {
    /// Those that look whole: the files are there in their sizes, and were not read.
    pub whole: Vec<Checkpoint>,
    /// Those that cannot be used.
    pub damaged: Vec<Damaged>,
}

/// A checkpoint that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Optimizer steps done, by the name of its folder.
    pub step: u64,
    /// The damage, in words.
    pub problem: String,
}

impl Damaged {
    /// The message that clients get.
    pub fn to_proto(&self) -> v1::CheckpointDamaged {
        let Self { step, problem } = self;
        v1::CheckpointDamaged { step: *step, path: JobFolder::checkpoint_name(*step), problem: problem.clone() }
    }
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", JobFolder::checkpoint_name(self.step), self.problem)
    }
}

impl Survey {
    /// Looks at every checkpoint of a job; finds nothing where there is no such folder.
    pub fn of(folder: &JobFolder) -> io::Result<Self> {
        let (_caller, wanted) = Wanted::new();
        Self::before(folder, None, usize::MAX, &wanted)
    }

    /// Looks at the checkpoints before a step, newest first, until so many look whole.
    pub fn before(folder: &JobFolder, before: Option<u64>, most: usize, wanted: &Wanted) -> io::Result<Self> {
        let mut there = Vec::new();
        for entry in entries(&folder.checkpoints())? {
            let path = entry?.path();
            let step = path.file_name().and_then(|name| name.to_str()?.strip_prefix("step-")?.parse::<u64>().ok());
            there.extend(step.filter(|step| before.is_none_or(|before| *step < before)).map(|step| (step, path)));
        }
        there.sort_by_key(|(step, _)| Reverse(*step));
        let mut found = Self::default();
        for (step, path) in there {
            if found.whole.len() == most {
                break;
            }
            wanted.check()?;
            match Checkpoint::open(&path) {
                Ok(checkpoint) if checkpoint.step() == step => found.whole.push(checkpoint),
                Ok(checkpoint) => {
                    let problem = format!("{} tells of step {}", Manifest::NAME, checkpoint.step());
                    found.damaged.push(Damaged { step, problem });
                }
                Err(error) => {
                    let problem = damage(error)?;
                    // Retention may have removed it while we looked.
                    if fs::symlink_metadata(&path).is_ok() {
                        found.damaged.push(Damaged { step, problem });
                    }
                }
            }
        }
        Ok(found)
    }

    /// Tries the checkpoints up to a step, newest first, until `load` takes one. Those that it
    /// calls damaged, with the problem, are damaged from then on.
    pub fn newest_good<T>(
        &mut self,
        up_to: u64,
        mut load: impl FnMut(&Checkpoint) -> io::Result<Result<T, String>>,
    ) -> io::Result<Option<T>> {
        let mut found = None;
        let place = self.whole.partition_point(|checkpoint| checkpoint.step() > up_to);
        while found.is_none() && place < self.whole.len() {
            match load(&self.whole[place])? {
                Ok(loaded) => found = Some(loaded),
                Err(problem) => {
                    let step = self.whole.remove(place).step();
                    self.damaged.push(Damaged { step, problem });
                }
            }
        }
        self.damaged.sort_by_key(|damaged| Reverse(damaged.step));
        Ok(found)
    }

    /// Reads checkpoints, newest first, until one has the checksums that it was saved with.
    pub fn verify(&mut self) -> io::Result<()> {
        let verified = |checkpoint: &Checkpoint| match checkpoint.verify() {
            Ok(()) => Ok(Ok(())),
            Err(error) => damage(error).map(Err),
        };
        self.newest_good(u64::MAX, verified).map(drop)
    }

    /// The step of the newest, damaged or not.
    pub fn newest_step(&self) -> Option<u64> {
        self.steps().max()
    }

    /// Takes the names of the checkpoints beyond that step away; all of them for None.
    pub fn set_aside_after(&self, folder: &JobFolder, step: Option<u64>) -> io::Result<()> {
        self.steps().filter(|&found| step.is_none_or(|step| found > step)).try_for_each(|step| set_aside(folder, step))
    }

    fn steps(&self) -> impl Iterator<Item = u64> {
        self.whole.iter().map(Checkpoint::step).chain(self.damaged.iter().map(|damaged| damaged.step))
    }
}

/// Takes a checkpoint's name away at once, so that nobody finds it half-removed.
pub fn set_aside(folder: &JobFolder, step: u64) -> io::Result<()> {
    let old = folder.checkpoints().join(format!(".old-{step}"));
    if old.exists() {
        fs::remove_dir_all(&old)?;
    }
    fs::rename(folder.path().join(JobFolder::checkpoint_name(step)), old)
}

/// The damage of a checkpoint that could not be read, in words. The error itself where it
/// tells of the machine: the same checkpoint may be read in a moment.
pub fn damage(error: io::Error) -> io::Result<String> {
    if is_shortage(&error) {
        return Err(error);
    }
    let known = error.get_ref().and_then(|error| error.downcast_ref::<Damage>()).map(|damage| damage.what.clone());
    Ok(known.unwrap_or_else(|| format!("it cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::super::checkpoint::tests::save;
    use super::*;

    fn folder() -> (tempfile::TempDir, JobFolder) {
        let guard = tempfile::tempdir().unwrap();
        let folder = JobFolder::new(guard.path().into());
        (guard, folder)
    }

    fn steps(survey: &Survey) -> (Vec<u64>, Vec<(u64, &str)>) {
        let damaged = survey.damaged.iter().map(|damaged| (damaged.step, damaged.problem.as_str()));
        (survey.whole.iter().map(Checkpoint::step).collect(), damaged.collect())
    }

    #[test]
    fn what_is_damaged_is_found_with_its_problem_and_what_is_absent_is_not() {
        let (_guard, folder) = folder();
        assert_eq!(steps(&Survey::of(&folder).unwrap()), (vec![], vec![]));
        for step in [9, 100] {
            save(&folder, step, b"weights");
        }
        fs::create_dir(folder.checkpoints().join("step-200")).unwrap();
        fs::create_dir(folder.checkpoints().join(".step-300")).unwrap();
        fs::create_dir(folder.checkpoints().join("notes")).unwrap();
        fs::write(save(&folder, 400, b"weights").join("model"), b"weight").unwrap();
        fs::rename(save(&folder, 500, b"weights"), folder.checkpoints().join("step-501")).unwrap();
        fs::remove_file(save(&folder, 600, b"weights").join("model")).unwrap();
        let cut = save(&folder, 700, b"weights").join(Manifest::NAME);
        fs::write(&cut, &fs::read(&cut).unwrap()[..40]).unwrap();
        let survey = Survey::of(&folder).unwrap();
        assert_eq!(survey.newest_step(), Some(700));
        let (whole, damaged) = steps(&survey);
        assert_eq!(whole, [100, 9]);
        let expected = [
            (700, "checkpoint.json: EOF while parsing"),
            (600, "model is missing"),
            (501, "checkpoint.json tells of step 500"),
            (400, "model has 6 bytes and should have 7"),
            (200, "checkpoint.json is missing"),
        ];
        assert_eq!(damaged.len(), expected.len());
        for ((step, problem), (expected_step, words)) in damaged.into_iter().zip(expected) {
            assert!(step == expected_step && problem.starts_with(words), "{step}: {problem}");
        }
        survey.set_aside_after(&folder, Some(400)).unwrap();
        assert_eq!(Survey::of(&folder).unwrap().newest_step(), Some(400));
        Survey::of(&folder).unwrap().set_aside_after(&folder, None).unwrap();
        assert_eq!(Survey::of(&folder).unwrap().newest_step(), None);
    }

    #[test]
    fn only_reading_finds_a_flipped_bit_and_it_ends_at_the_newest_that_is_good() {
        let (_guard, folder) = folder();
        for step in [1, 2, 3, 4] {
            save(&folder, step, b"weights");
        }
        for step in [1, 3, 4] {
            fs::write(folder.checkpoints().join(format!("step-{step}/model")), b"weighty").unwrap();
        }
        let mut survey = Survey::of(&folder).unwrap();
        assert_eq!(steps(&survey), (vec![4, 3, 2, 1], vec![]));
        survey.verify().unwrap();
        let problem = "model does not have the checksum that it was saved with";
        assert_eq!(steps(&survey), (vec![2, 1], vec![(4, problem), (3, problem)]));
    }

    #[test]
    fn an_error_of_the_machine_is_no_damage() {
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM] {
            assert!(damage(errno.into()).is_err(), "{errno}");
        }
        for errno in [Errno::EIO, Errno::EACCES, Errno::ENOTDIR] {
            assert!(damage(errno.into()).unwrap().starts_with("it cannot be read: "), "{errno}");
        }
    }
}
