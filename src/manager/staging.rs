//! Copies of what jobs begin with, made ready before the job is there, in a folder of their own
//! beside the jobs' folders. A copy shares nothing with its source: what happens to either does not
//! change the other.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::JobError;
use super::file_work::Limits;
use super::model_files::ModelFile;
use super::room::{Left, Promise, Promised};
use super::warm_start::{Source, Warm};
use crate::beneath::Folder;
use crate::fault;
use crate::gate::Wanted;
use crate::job::Violations;
use crate::journal::{JobFolder, Manifest, sync_folder, write_whole};
use crate::sha256::Sha256;
use crate::tensor_file::Format;

/// The folder of checkpoints, in the folder of a job.
const CHECKPOINTS: &str = "checkpoints";

/// The name of a folder in which something is made ready, before its number.
pub(super) const STAGED: &str = ".staged-";

/// How copies are made. A copy of many gigabytes takes minutes where it comes over a network.
pub(super) const COPYING: Limits = Limits {
    at_once: 2,
    turn: Duration::from_secs(60),
    answer: Duration::from_secs(3600),
    threads: 8,
    threads_of_root: 6,
    threads_of_part: 4,
};
/// Requests that are judged or wait for their copy: each holds a file or a folder open.
pub(super) const COPY_LINE: usize = 64;

/// Bytes that are copied between two looks whether the client is still there.
const PIECE_BYTES: u64 = 64 << 20;

/// The files that a job will have in its folder.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// The beginning, where that is not random.
    pub(super) warm: Option<Warm>,
    /// The files of its model.
    pub(super) model: Vec<ModelFile>,
    /// The preprocessing.json of the job whose model it applies.
    pub(super) preprocessing: Option<Vec<u8>>,
}

impl Copies {
    /// Whether there is nothing to copy.
    pub(super) fn is_empty(&self) -> bool {
        self.warm.is_none() && self.model.is_empty() && self.preprocessing.is_none()
    }

    /// Bytes that they take.
    fn size_bytes(&self) -> u64 {
        let model = self.model.iter().map(|file| file.source.size_bytes).fold(0, u64::saturating_add);
        let preprocessing = self.preprocessing.as_ref().map_or(0, |bytes| bytes.len() as u64);
        self.warm.as_ref().map_or(0, Warm::size_bytes).saturating_add(model).saturating_add(preprocessing)
    }

    /// The folders that they come from.
    pub(super) fn places(&self) -> Vec<&Path> {
        let model = self.model.iter().map(|file| file.source.place());
        self.warm.as_ref().map(Warm::place).into_iter().chain(model).collect()
    }
}

/// A folder in which something was made ready for a job. It is removed when this is dropped, unless
/// a job has taken it.
#[derive(Debug)]
pub(super) struct Staged {
    /// None once it is removed.
    path: Option<PathBuf>,
}

impl Staged {
    /// Makes the folder.
    fn new(jobs_dir: &Path, number: u64) -> io::Result<(Self, PathBuf)> {
        let path = jobs_dir.join(format!("{STAGED}{number:016x}"));
        fs::create_dir(&path)?;
        Ok((Self { path: Some(path.clone()) }, path))
    }

    /// The folder.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Moves what was made ready into the folder of the job that it was made for.
    pub(super) fn hand_over(mut self, folder: &JobFolder) -> io::Result<()> {
        let Some(staged) = &self.path else { return Ok(()) };
        let checkpoints = staged.join(CHECKPOINTS);
        for (from, to) in [(staged, folder.path()), (&checkpoints, &folder.checkpoints())] {
            let entries = match fs::read_dir(from) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let path = entry?.path();
                if path != checkpoints {
                    fs::rename(&path, to.join(path.file_name().unwrap_or_default()))?;
                }
            }
            // Without their names the job would begin with something else.
            sync_folder(to)?;
        }
        self.path.take().map_or(Ok(()), fs::remove_dir_all)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let Some(path) = self.path.take() else { return };
        let remove = move || {
            if let Err(error) = fs::remove_dir_all(&path) {
                // The next start of torchd tries again.
                tracing::error!(path = %path.display(), %error, "what was made ready for a job cannot be removed");
            }
        };
        // It may be large, and the task of the manager must not wait for it.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// Copies what a job will begin with into a folder below `jobs_dir`, where there is room for it:
/// the jobs' folders may hold `left` bytes more. Blocks. The copy is removed where it fails, and
/// where its client has left.
pub(super) fn stage(
    copies: &Copies,
    jobs_dir: &Path,
    number: u64,
    left: u64,
    promised: &Promised,
    wanted: &Wanted,
) -> Result<Staged, JobError> {
    let left = || Ok(Left { state: left, disk: Folder::open(jobs_dir)?.free_bytes()? });
    let mut room = promised.room("what the job begins with has", copies.size_bytes(), left)?;
    let failed = JobError::folder("what the job begins with cannot be copied");
    let (staged, place) = Staged::new(jobs_dir, number).map_err(failed)?;
    fault::point("staging");
    for file in &copies.model {
        let copied = copy(&file.source, &place.join(file.name), &mut room, wanted);
        copied.map_err(|error| uncopied(&file.field, error))?;
    }
    if let Some(bytes) = &copies.preprocessing {
        write_whole(&place.join(JobFolder::PREPROCESSING), bytes)
            .map_err(JobError::folder("what the job begins with cannot be copied"))?;
        room.written(bytes.len() as u64);
    }
    if let Some(warm) = &copies.warm {
        copy_warm(warm, &place, &mut room, wanted).map_err(|error| uncopied("warm_start", error))?;
    }
    Ok(staged)
}

/// The error for a file that could not be copied: it may have changed since it was judged.
fn uncopied(field: &str, error: io::Error) -> JobError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            let mut wrong = Violations::default();
            wrong.add(field, error.to_string());
            JobError::Invalid(wrong)
        }
        _ => JobError::folder("what the job begins with cannot be copied")(error),
    }
}

/// Copies the beginning of a job.
fn copy_warm(warm: &Warm, place: &Path, room: &mut Promise, wanted: &Wanted) -> io::Result<()> {
    match warm {
        Warm::Weights(source) => {
            let name = JobFolder::warm_start(Format::of(&source.file)?);
            copy(source, &place.join(name), room, wanted)
        }
        Warm::Checkpoint { folder, checkpoint } => {
            let to = place.join(JobFolder::checkpoint_name(checkpoint.step()));
            fs::create_dir_all(&to)?;
            for told in &checkpoint.manifest.files {
                let source = Source::of_checkpoint(folder, checkpoint, told)?;
                copy(&source, &to.join(&told.name), room, wanted)?;
            }
            // Last, as in every checkpoint: with it the folder is one.
            write_whole(&Manifest::path(&to), &serde_json::to_vec_pretty(&checkpoint.manifest)?)
        }
    }
}

/// Copies a file as far as it went when it was judged. The kernel copies, and shares the blocks
/// where the file system can.
fn copy(source: &Source, to: &Path, room: &mut Promise, wanted: &Wanted) -> io::Result<()> {
    let changed = || {
        let what = format!("{} changed while it was copied", source.path.display());
        io::Error::new(io::ErrorKind::InvalidData, what)
    };
    let mut from: &File = &source.file;
    from.rewind()?;
    let mut copy = OpenOptions::new().read(true).write(true).create_new(true).open(to)?;
    let mut left = source.size_bytes;
    while left > 0 {
        wanted.check()?;
        match io::copy(&mut from.take(left.min(PIECE_BYTES)), &mut copy)? {
            0 => return Err(changed()),
            copied => {
                left -= copied;
                room.written(copied);
            }
        }
    }
    copy.sync_all()?;
    if from.metadata()?.len() != source.size_bytes {
        return Err(changed());
    }
    match &source.sha256 {
        Some(sha256) => {
            copy.rewind()?;
            // Damage is told now, and not by a job that begins with something else.
            if Sha256::of_reader(&mut wanted.reads(&mut copy))? == *sha256 {
                Ok(())
            } else {
                Err(source.wrong_checksum())
            }
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_copies_at_once_for_which_there_is_room_one_by_one_the_second_is_refused() {
        let jobs_dir = tempfile::tempdir().unwrap();
        let path = jobs_dir.path().join("weights");
        fs::write(&path, [7; 100]).unwrap();
        let source = Source { file: File::open(&path).unwrap(), size_bytes: 100, path, sha256: None };
        let warm = Some(Warm::Weights(source));
        let (copies, promised) = (Copies { warm, ..Copies::default() }, Promised::default());
        let (_caller, wanted) = Wanted::by_caller();
        let stage = || stage(&copies, jobs_dir.path(), 1, 150, &promised, &wanted);
        // Another one is being made.
        let other = promised.room("another has", 100, || Ok(Left { state: 150, disk: 150 })).unwrap();
        assert!(matches!(stage(), Err(JobError::NoRoom { needed: 100, left: 50, .. })));
        drop(other);
        let staged = stage().unwrap();
        assert_eq!(fs::read(staged.path.as_ref().unwrap().join("warm_start.safetensors")).unwrap(), [7; 100]);
        drop(staged);
        assert_eq!(fs::read_dir(jobs_dir.path()).unwrap().count(), 1);
    }
}
