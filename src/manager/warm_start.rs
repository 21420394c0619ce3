//! What a job begins with, where that is not random: found when the job is judged, and made its own when it is taken, so that nothing that
//! happens to the original afterwards matters.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{ManagerSettings, folder};
use crate::dataset::PathProblem;
use crate::job::spec::{WarmSource, WarmStart};
use crate::job::{JobId, Violations};
use crate::journal::{Checkpoint, JobFolder, checkpoints, sync_folder};

/// The name of a folder in which something is made ready for a job that is not there yet.
pub(super) const STAGED: &str = ".staged-";

/// What a job begins with.
#[derive(Debug, Clone)]
pub(super) enum Warm {
    /// These weights.
    Weights(PathBuf),
    /// This checkpoint, as if it were its own.
    Checkpoint(Box<Checkpoint>),
}

/// Finds what a request names; None where there are mistakes.
pub(super) fn find(wanted: &WarmStart, settings: &ManagerSettings, wrong: &mut Violations) -> Option<Warm> {
    let found = match &wanted.source {
        WarmSource::Checkpoint(name) => of_job(name, wanted.resume, settings),
        WarmSource::File(path) => of_path(path, settings),
    };
    let field = match &wanted.source {
        WarmSource::Checkpoint(_) => "warm_start.checkpoint",
        WarmSource::File(_) => "warm_start.file",
    };
    match found {
        Ok(Warm::Checkpoint(checkpoint)) if !wanted.resume => {
            Some(Warm::Weights(checkpoint.path.join(JobFolder::MODEL_FILE)))
        }
        Ok(Warm::Weights(_)) if wanted.resume => {
            wrong.add("warm_start.resume", "is set, and what is named holds weights alone; name a checkpoint");
            None
        }
        Ok(warm) => Some(warm),
        Err(what) => {
            wrong.add(field, what);
            None
        }
    }
}

/// `jobs/{id}` or `jobs/{id}/checkpoints/step-{step}`.
fn of_job(name: &str, resume: bool, settings: &ManagerSettings) -> Result<Warm, String> {
    let right = "jobs/{id} or jobs/{id}/checkpoints/step-{step} is needed";
    let rest = name.strip_prefix("jobs/").ok_or_else(|| format!("is {name:?}; {right}"))?;
    let (id, step) = match rest.split_once('/') {
        None => (rest, None),
        Some((id, path)) => {
            let step = path.strip_prefix("checkpoints/step-").and_then(|step| step.parse::<u64>().ok());
            (id, Some(step.ok_or_else(|| format!("is {name:?}; {right}"))?))
        }
    };
    let id: JobId = id.parse().map_err(|_| format!("is {name:?}; {right}"))?;
    let place = folder(&settings.jobs_dir, &id);
    if !place.path().exists() {
        return Err(format!("is {name:?}, and there is no such job"));
    }
    let saved = checkpoints(&place).map_err(|error| format!("is {name:?}, which cannot be read: {error}"))?;
    let result = place.artifacts().join(JobFolder::MODEL_FILE);
    if step.is_none() && !resume && result.exists() {
        return Ok(Warm::Weights(result));
    }
    let has: Vec<_> = saved.iter().map(|checkpoint| checkpoint.step().to_string()).collect();
    let found = saved.into_iter().find(|checkpoint| step.is_none_or(|step| checkpoint.step() == step));
    found.map(|checkpoint| Warm::Checkpoint(Box::new(checkpoint))).ok_or_else(|| match has.as_slice() {
        [] => format!("is {name:?}, and that job has saved nothing yet"),
        steps => format!("is {name:?}, and that job has the steps {}", steps.join(", ")),
    })
}

/// A file under the data roots, or the folder of a checkpoint there.
fn of_path(path: &str, settings: &ManagerSettings) -> Result<Warm, String> {
    match settings.data_roots.open(path) {
        Ok(file) => Ok(Warm::Weights(file.path().to_owned())),
        Err(PathProblem::NotAFile { .. }) => {
            let told = settings.data_roots.open(&format!("{path}/checkpoint.json")).map(|file| file.path().to_owned());
            let told = told.map_err(|_| format!("is {path:?}, a folder, which holds no checkpoint.json"))?;
            let checkpoint = Checkpoint::open(told.parent().unwrap_or(Path::new("/")));
            checkpoint.map(|checkpoint| Warm::Checkpoint(Box::new(checkpoint))).map_err(|error| error.to_string())
        }
        Err(problem) => Err(problem.to_string()),
    }
}

/// Makes ready what a job will begin with, in a folder of its own. Blocks: it may be large.
pub(super) fn stage(warm: &Warm, jobs_dir: &Path, number: u64) -> io::Result<PathBuf> {
    let staged = jobs_dir.join(format!("{STAGED}{number:016x}"));
    let fill = || match warm {
        Warm::Weights(path) => {
            fs::create_dir(&staged)?;
            copy(path, &staged.join(JobFolder::WARM_START), jobs_dir)
        }
        Warm::Checkpoint(checkpoint) => {
            let to = staged.join(JobFolder::checkpoint_name(checkpoint.step()));
            fs::create_dir_all(&to)?;
            for entry in fs::read_dir(&checkpoint.path)? {
                let path = entry?.path();
                copy(&path, &to.join(path.file_name().unwrap_or_default()), jobs_dir)?;
            }
            sync_folder(&to)?;
            // What is damaged is told now, and not by a job that begins with something else.
            let copied = Checkpoint::open(&to)?;
            let names = copied.manifest.files.iter().map(|file| &file.name);
            names.into_iter().try_for_each(|name| copied.read(name).map(drop))
        }
    };
    match fill() {
        Ok(()) => Ok(staged),
        Err(error) => {
            let _ = fs::remove_dir_all(&staged);
            Err(error)
        }
    }
}

/// Gives a job what was made ready for it.
pub(super) fn hand_over(staged: &Path, folder: &JobFolder) -> io::Result<()> {
    let weights = staged.join(JobFolder::WARM_START);
    if weights.exists() {
        fs::rename(weights, folder.path().join(JobFolder::WARM_START))?;
    } else {
        for entry in fs::read_dir(staged.join("checkpoints"))? {
            let path = entry?.path();
            fs::rename(&path, folder.checkpoints().join(path.file_name().unwrap_or_default()))?;
        }
        sync_folder(&folder.checkpoints())?;
    }
    fs::remove_dir_all(staged)
}

/// What a job of ours has written is never changed again, so that a second name for it is enough; anything else is copied.
fn copy(from: &Path, to: &Path, jobs_dir: &Path) -> io::Result<()> {
    if from.starts_with(jobs_dir) && fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to)?;
    fs::File::open(to)?.sync_all()
}
