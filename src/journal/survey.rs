//! The checkpoints of a job as they lie on the disk: those that look whole, and those that are
//! damaged.
//!
//! A checkpoint is damaged only where its own content shows it: a file that is missing, cut, or of
//! another kind. An error of the system (EIO, EACCES, ESTALE, too many open files) shows nothing.
//! Such a checkpoint is unread: nothing goes on from an earlier one, and it is not removed, until
//! somebody could read it.

use std::cmp::Reverse;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use super::checkpoint::{Checkpoint, Damage};
use super::folder::{JobFolder, entries};
use super::manifest::Manifest;
use crate::beneath::NotAFile;
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

/// A checkpoint that cannot be used: it is damaged, or could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Optimizer steps done, by the name of its folder.
    pub step: u64,
    /// The damage, in words.
    pub problem: String,
    /// It could not be read, and whether it is damaged is not known.
    pub is_unread: bool,
}

impl Damaged {
    pub(super) fn new(step: u64, problem: String) -> Self {
        Self { step, problem, is_unread: false }
    }

    /// A checkpoint that was there and is not any more.
    pub fn gone(step: u64) -> Self {
        Self::new(step, "it is not there any more".into())
    }

    /// The message that clients get.
    pub fn to_proto(&self) -> v1::CheckpointDamaged {
        let Self { step, problem, is_unread: _ } = self;
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
    ///
    /// # Errors
    /// Where the folder cannot be listed, and where the machine is short of something.
    pub fn of(folder: &JobFolder) -> io::Result<Self> {
        let (_caller, wanted) = Wanted::by_caller();
        Self::before(folder, None, usize::MAX, &wanted)
    }

    /// Looks at the checkpoints before a step, newest first, until `most` of them look whole.
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
                    found.damaged.push(Damaged::new(step, problem));
                }
                Err(error) if is_shortage(&error) => return Err(error),
                // Retention may have removed it while we looked.
                Err(_) if is_gone(&path) => {}
                Err(error) => found.damaged.push(match damage(error) {
                    Ok(problem) => Damaged::new(step, problem),
                    Err(error) => Damaged { step, problem: format!("it cannot be read now: {error}"), is_unread: true },
                }),
            }
        }
        Ok(found)
    }

    /// Tries the checkpoints up to a step, newest first, until `load` takes one. Those that it
    /// calls damaged, with the problem, are damaged from then on.
    ///
    /// # Errors
    /// Those of `load`, and where an unread checkpoint is newer than those that are left to try.
    pub fn newest_good<T>(
        &mut self,
        up_to: u64,
        mut load: impl FnMut(&Checkpoint) -> io::Result<Result<T, String>>,
    ) -> io::Result<Option<T>> {
        let mut found = None;
        let place = self.whole.partition_point(|checkpoint| checkpoint.step() > up_to);
        while found.is_none() {
            let next = self.whole.get(place);
            self.none_unread(next.map(Checkpoint::step), up_to)?;
            let Some(next) = next else { break };
            match load(next)? {
                Ok(loaded) => found = Some(loaded),
                Err(problem) => {
                    let step = self.whole.remove(place).step();
                    self.damaged.push(Damaged::new(step, problem));
                }
            }
        }
        self.damaged.sort_by_key(|damaged| Reverse(damaged.step));
        Ok(found)
    }

    /// Reads checkpoints, newest first, until one has the checksums that it was saved with, or
    /// until nobody waits for it.
    pub fn verify(&mut self, wanted: &Wanted) -> io::Result<()> {
        let verified = |checkpoint: &Checkpoint| match checkpoint.verify(wanted) {
            Ok(()) => Ok(Ok(())),
            Err(error) => damage(error).map(Err),
        };
        self.newest_good(u64::MAX, verified).map(drop)
    }

    /// The newest that looks whole.
    ///
    /// # Errors
    /// Where an unread one is newer.
    pub fn newest_whole(&self) -> io::Result<Option<&Checkpoint>> {
        let newest = self.whole.first();
        self.none_unread(newest.map(Checkpoint::step), u64::MAX)?;
        Ok(newest)
    }

    /// Fails where a checkpoint beyond the one step and up to the other could not be read.
    fn none_unread(&self, beyond: Option<u64>, up_to: u64) -> io::Result<()> {
        let is_between = |step| beyond.is_none_or(|beyond| step > beyond) && step <= up_to;
        match self.damaged.iter().find(|found| found.is_unread && is_between(found.step)) {
            Some(unread) => Err(io::Error::other(unread.to_string())),
            None => Ok(()),
        }
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

/// The damage of a checkpoint that an error shows, in words. The error itself where it shows none:
/// the same checkpoint may be read in a moment.
pub fn damage(error: io::Error) -> io::Result<String> {
    if let Some(damage) = error.get_ref().and_then(|error| error.downcast_ref::<Damage>()) {
        return Ok(damage.what.clone());
    }
    // A link, a file in a folder's place, a folder or a pipe in a file's place, or a name that no
    // file can have.
    let is_other_kind = NotAFile::of(&error).is_some()
        || matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename);
    if is_other_kind { Ok(format!("it cannot be read: {error}")) } else { Err(error) }
}

fn is_gone(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use nix::errno::Errno;

    use super::super::checkpoint::checkpoints;
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
        let (caller, wanted) = Wanted::by_caller();
        survey.verify(&wanted).unwrap();
        let problem = "model does not have the checksum that it was saved with";
        assert_eq!(steps(&survey), (vec![2, 1], vec![(4, problem), (3, problem)]));
        drop(caller);
        assert_eq!(survey.verify(&wanted).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(survey.whole.len(), 2, "nothing is damaged by that");
    }

    #[test]
    fn an_error_of_the_system_is_no_damage() {
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::EIO, Errno::EACCES, Errno::ESTALE] {
            assert!(damage(errno.into()).is_err(), "{errno}");
        }
        for errno in [Errno::ENOTDIR, Errno::ENAMETOOLONG] {
            assert!(damage(errno.into()).unwrap().starts_with("it cannot be read: "), "{errno}");
        }
    }

    /// Runs `work` on a thread that may not read what it is not allowed to, also where the tests
    /// run as root.
    fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        let work = || {
            nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65534));
            work()
        };
        std::thread::scope(|threads| threads.spawn(work).join().unwrap())
    }

    #[test]
    fn a_checkpoint_that_cannot_be_read_is_waited_for_and_neither_passed_over_nor_removed() {
        let (guard, folder) = folder();
        for step in [10, 20, 30] {
            save(&folder, step, b"weights");
        }
        fs::set_permissions(guard.path(), Permissions::from_mode(0o755)).unwrap();
        let unreadable = folder.checkpoints().join("step-20");
        fs::set_permissions(&unreadable, Permissions::from_mode(0o000)).unwrap();
        let take = |_: &Checkpoint| Ok(Ok(()));
        as_nobody(|| {
            let mut survey = Survey::of(&folder).unwrap();
            let (whole, unusable) = steps(&survey);
            assert_eq!((whole, survey.newest_step()), (vec![30, 10], Some(30)));
            assert!(unusable[0].1.starts_with("it cannot be read now: Permission denied"), "{unusable:?}");
            assert!(survey.damaged[0].is_unread);
            assert_eq!(survey.newest_whole().unwrap().map(Checkpoint::step), Some(30));
            // A newer one is good: nobody needs it.
            assert_eq!(survey.newest_good(u64::MAX, take).unwrap(), Some(()));
            let tried = survey.newest_good(u64::MAX, |saved| match saved.step() {
                30 => Ok(Err("its sums are wrong".into())),
                _ => Ok(Ok(())),
            });
            assert!(tried.unwrap_err().to_string().contains("step-20: it cannot be read now"));
            assert!(survey.newest_whole().is_err() && survey.newest_good(20, take).is_err());
            assert_eq!(survey.newest_good(10, take).unwrap(), Some(()));
            assert_eq!(checkpoints(&folder).unwrap().len(), 2, "retention does not see it");
        });
        fs::set_permissions(&unreadable, Permissions::from_mode(0o700)).unwrap();
        assert_eq!(Survey::of(&folder).unwrap().damaged, []);
    }
}
