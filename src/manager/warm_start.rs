//! Finds what a job begins with, where that is not random. What is found is open: it is judged and
//! copied by descriptors, whatever becomes of its name.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::{ManagerSettings, folder};
use crate::beneath::{Folder, present};
use crate::dataset::PathProblem;
use crate::job::spec::{WarmSource, WarmStart};
use crate::job::{JobId, Violations};
use crate::journal::{Checkpoint, Damaged, FileSum, JobFolder, Manifest, Survey};
use crate::shortage::Unjudged;

/// The beginning of a job.
#[derive(Debug)]
pub(super) enum Warm {
    /// These weights.
    Weights(Source),
    /// This checkpoint, as if it were its own.
    Checkpoint {
        /// Its folder.
        folder: Folder,
        /// Its contents.
        checkpoint: Box<Checkpoint>,
    },
}

/// A file that is open.
#[derive(Debug)]
pub(super) struct Source {
    /// The file.
    pub(super) file: File,
    /// Its bytes when it was judged.
    pub(super) size_bytes: u64,
    /// Where it lay, for messages.
    pub(super) path: PathBuf,
    /// Its checksum, where a checkpoint tells it.
    pub(super) sha256: Option<String>,
}

impl Source {
    pub(super) fn new(file: File, path: PathBuf) -> io::Result<Self> {
        let size_bytes = file.metadata()?.len();
        Ok(Self { file, size_bytes, path, sha256: None })
    }

    /// A file of a checkpoint.
    pub(super) fn of_checkpoint(folder: &Folder, checkpoint: &Checkpoint, told: &FileSum) -> io::Result<Self> {
        let file = checkpoint.open_file(folder, told)?;
        let path = checkpoint.path.join(&told.name);
        Ok(Self { file, size_bytes: told.size_bytes, path, sha256: Some(told.sha256.clone()) })
    }

    /// The folder that it lay in.
    pub(super) fn place(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// The error for bytes that do not have the checksum.
    pub(super) fn wrong_checksum(&self) -> io::Error {
        let what = format!("{} does not have the checksum that it was saved with", self.path.display());
        io::Error::new(io::ErrorKind::InvalidData, what)
    }
}

/// Why a request's warm start is not taken.
#[derive(Debug)]
pub(super) struct Refusal {
    what: String,
    /// Nothing is known to be wrong with it: why it could not be looked at now.
    unjudged: Option<Unjudged>,
}

impl Refusal {
    /// A refusal for an error of the system.
    pub(super) fn of(error: &io::Error, what: String) -> Self {
        Self { what, unjudged: Unjudged::of(error) }
    }

    /// Adds it to the mistakes of a request.
    pub(super) fn tell(self, field: &str, wrong: &mut Violations) {
        wrong.add_found(field, self.what, self.unjudged);
    }
}

impl From<String> for Refusal {
    fn from(what: String) -> Self {
        Self { what, unjudged: None }
    }
}

impl Warm {
    /// The folder that it lies in.
    pub(super) fn place(&self) -> &Path {
        match self {
            Self::Weights(source) => source.place(),
            Self::Checkpoint { checkpoint, .. } => &checkpoint.path,
        }
    }

    /// Bytes that a copy takes.
    pub(super) fn size_bytes(&self) -> u64 {
        match self {
            Self::Weights(source) => source.size_bytes,
            Self::Checkpoint { checkpoint, .. } => checkpoint.manifest.size_bytes(),
        }
    }
}

/// Finds what a request names; None where there are mistakes.
pub(super) fn find(wanted: &WarmStart, settings: &ManagerSettings, wrong: &mut Violations) -> Option<Warm> {
    let found = match &wanted.source {
        WarmSource::Checkpoint(name) => of_job(name, wanted.resume, settings),
        WarmSource::File(path) => of_path(path, settings),
    };
    let found = found.and_then(|warm| match warm {
        Warm::Checkpoint { folder, checkpoint } if !wanted.resume => weights_of(&folder, &checkpoint),
        warm => Ok(warm),
    });
    match found {
        Ok(Warm::Weights(_)) if wanted.resume => {
            wrong.add("warm_start.resume", "is set, and what is named holds weights alone; name a checkpoint");
            None
        }
        Ok(warm) => Some(warm),
        Err(refusal) => {
            refusal.tell(wanted.source.field(), wrong);
            None
        }
    }
}

/// The weights of a checkpoint alone.
fn weights_of(folder: &Folder, checkpoint: &Checkpoint) -> Result<Warm, Refusal> {
    let told = checkpoint.manifest.files.iter().find(|file| file.name == JobFolder::MODEL_FILE);
    let told = told.ok_or_else(|| format!("names a checkpoint without {}", JobFolder::MODEL_FILE))?;
    let source = Source::of_checkpoint(folder, checkpoint, told);
    source.map(Warm::Weights).map_err(|error| Refusal::of(&error, error.to_string()))
}

/// The job and the step of `jobs/{id}` or `jobs/{id}/checkpoints/step-{step}`; `jobs/` may be left
/// out, as in the commands.
pub(super) fn named(name: &str) -> Result<(JobId, Option<u64>), Refusal> {
    let parsed = || {
        let rest = name.strip_prefix("jobs/").unwrap_or(name);
        let (id, step) = match rest.split_once('/') {
            None => (rest, None),
            Some((id, path)) => (id, Some(path.strip_prefix("checkpoints/step-")?.parse().ok()?)),
        };
        Some((id.parse().ok()?, step))
    };
    let right = "jobs/{id} or jobs/{id}/checkpoints/step-{step} is needed";
    parsed().ok_or_else(|| format!("is {name:?}; {right}").into())
}

/// The folder of the job that `name` is of.
pub(super) fn open_job(name: &str, id: &JobId, settings: &ManagerSettings) -> Result<(JobFolder, Folder), Refusal> {
    let unreadable = |error: io::Error| Refusal::of(&error, format!("is {name:?}, which cannot be read: {error}"));
    let place = folder(&settings.jobs_dir, id);
    let job = present(Folder::open(place.path())).map_err(unreadable)?;
    let job = job.ok_or_else(|| format!("is {name:?}, and there is no such job"))?;
    // One whose request cannot be read has a folder that is judged by itself.
    if place.read_spec().is_ok_and(|spec| spec.program.is_some()) {
        let what = format!("is {name:?}, and that job runs a program and has no model of torchd's");
        return Err(format!("{what}; name weights that it has written as warm_start.file, with the model").into());
    }
    Ok((place, job))
}

/// A checkpoint of a job, or its result.
fn of_job(name: &str, resume: bool, settings: &ManagerSettings) -> Result<Warm, Refusal> {
    let unreadable = |error: io::Error| Refusal::of(&error, format!("is {name:?}, which cannot be read: {error}"));
    let (id, step) = named(name)?;
    let (place, job) = open_job(name, &id, settings)?;
    if step.is_none() && !resume {
        let path = place.artifacts().join(JobFolder::MODEL_FILE);
        let result = job.folder("artifacts").and_then(|artifacts| artifacts.file(JobFolder::MODEL_FILE));
        if let Some(result) = present(result).map_err(unreadable)? {
            return Source::new(result, path).map(Warm::Weights).map_err(unreadable);
        }
    }
    let Survey { whole: saved, damaged } = Survey::of(&place).map_err(unreadable)?;
    // An older one than the newest is taken only where it is named.
    let newest = saved.first().map_or(0, Checkpoint::step);
    let is_it = |damaged: &&Damaged| step.map_or(damaged.step > newest, |step| damaged.step == step);
    if let Some(Damaged { step, problem, is_unread }) = damaged.iter().find(is_it) {
        let how = if *is_unread { "cannot be used" } else { "is damaged" };
        let what = format!("is {name:?}, and its checkpoint of step {step} {how}: {problem}; name another one");
        return Err(Refusal { what, unjudged: is_unread.then_some(Unjudged::Storage) });
    }
    let has: Vec<_> = saved.iter().map(Checkpoint::step).collect();
    let found = has.iter().copied().find(|saved| step.is_none_or(|step| *saved == step));
    let found = found.ok_or_else(|| match has.as_slice() {
        [] => format!("is {name:?}, and that job has saved nothing yet"),
        steps => {
            let steps: Vec<_> = steps.iter().map(u64::to_string).collect();
            format!("is {name:?}, and that job has the steps {}", steps.join(", "))
        }
    })?;
    let checkpoint = JobFolder::checkpoint_name(found);
    job.folder(&checkpoint).and_then(|folder| open(folder, &place.path().join(checkpoint))).map_err(unreadable)
}

/// The checkpoint in a folder.
fn open(folder: Folder, path: &Path) -> io::Result<Warm> {
    let checkpoint = Box::new(Checkpoint::open_in(&folder, path)?);
    Ok(Warm::Checkpoint { folder, checkpoint })
}

fn of_problem(problem: PathProblem) -> Refusal {
    Refusal { what: problem.to_string(), unjudged: problem.unjudged() }
}

/// A file under the data roots, or the folder of a checkpoint there.
fn of_path(path: &str, settings: &ManagerSettings) -> Result<Warm, Refusal> {
    match settings.data_roots.open(path) {
        Ok(file) => {
            let source = file.reader().and_then(|reader| Source::new(reader, file.path().to_owned()));
            source
                .map(Warm::Weights)
                .map_err(|error| Refusal::of(&error, format!("is {path:?}, which cannot be read: {error}")))
        }
        Err(PathProblem::NotAFile { found: "a folder", .. }) => {
            let (place, folder) = settings.data_roots.open_folder(path).map_err(of_problem)?;
            if matches!(present(folder.file(Manifest::NAME)), Ok(None)) {
                return Err(format!("is {path:?}, a folder, which holds no {}", Manifest::NAME).into());
            }
            open(folder, &place)
                .map_err(|error| Refusal::of(&error, format!("is {path:?}, which holds no whole checkpoint: {error}")))
        }
        Err(problem) => Err(of_problem(problem)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_lacks_is_told_from_what_is_wrong_with_a_warm_start() {
        let mut wrong = Violations::default();
        Refusal::of(&rustix::io::Errno::MFILE.into(), "short".into()).tell("warm_start.file", &mut wrong);
        Refusal::of(&rustix::io::Errno::IO.into(), "failed".into()).tell("warm_start.file", &mut wrong);
        Refusal::of(&io::ErrorKind::NotFound.into(), "gone".into()).tell("warm_start.file", &mut wrong);
        let told: Vec<_> = wrong.0.iter().map(|found| (found.description.as_str(), found.unjudged)).collect();
        assert_eq!(told, [("short", Some(Unjudged::Shortage)), ("failed", Some(Unjudged::Storage)), ("gone", None)]);
    }
}
