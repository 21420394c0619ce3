//! Where things lie in `jobs/<id>/`. A person finds their way in there with `ls`.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::exit_note::ExitNote;
use super::lock::{JobLock, Signature};
use crate::beneath::{Folder, folder_of, present};
use crate::job::JobId;
use crate::job::order::Order;
use crate::proto::{json, v1};
use crate::tensor_file::Format;

/// The output of the runner.
const LOG: &str = "runner.log";

/// The folder of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFolder {
    path: PathBuf,
}

impl JobFolder {
    /// The weights, in a checkpoint's folder and among the artifacts.
    pub const MODEL_FILE: &str = "model.safetensors";
    /// The state of training besides the weights, in a checkpoint's folder.
    pub const STATE_FILE: &str = "state.safetensors";
    /// The final weights once more, among the artifacts, as `torch.load` reads them.
    pub const MODEL_PT_FILE: &str = "model.pt";

    /// The archive of an exported model, in a job's folder; and with the final weights among the
    /// artifacts.
    pub const EXPORTED: &str = "model.pt2";
    /// The archive of its graph for evaluation, where that is another one.
    pub const EXPORTED_EVAL: &str = "model-eval.pt2";

    /// The archive of a TorchScript module, in a job's folder; and with the final weights among the
    /// artifacts.
    pub const SCRIPT: &str = "model.ts";

    /// How values become inputs and targets, among the artifacts; and in a job's folder, where it
    /// is that of another job, whose model it applies.
    pub const PREPROCESSING: &str = "preprocessing.json";

    /// Subfolders that the group may read, if the settings allow it.
    pub const SHOWN: [&str; 2] = ["tensorboard", "artifacts"];

    /// The weights to begin with, where those are not random.
    pub const fn warm_start(format: Format) -> &'static str {
        match format {
            Format::Safetensors => "warm_start.safetensors",
            Format::Pt => "warm_start.pt",
        }
    }

    /// The job's folder at that path; it need not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The folders of all jobs in the folder that holds them, by name. An entry with another name
    /// is not a job's.
    pub fn all(jobs_dir: &Path) -> io::Result<Vec<(JobId, Self)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(jobs_dir)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if let Ok(id) = name.parse::<JobId>() {
                found.push((id, Self::new(path)));
            }
        }
        found.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(found)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The request, defaults filled in; never changed.
    pub fn spec(&self) -> PathBuf {
        self.path.join("spec.json")
    }

    /// The job as the database has it, so that the folders alone can rebuild the database.
    pub fn job(&self) -> PathBuf {
        self.path.join("job.json")
    }

    /// The folder of a rank besides the first: its lock, its orders, its journal and its log.
    pub fn rank(&self, rank: u32) -> Self {
        Self { path: self.ranks().join(rank.to_string()) }
    }

    /// The folder of the job, where this is that of a rank besides the first.
    pub fn of_rank(&self) -> Self {
        Self { path: self.path.ancestors().nth(2).unwrap_or(&self.path).to_owned() }
    }

    /// The folders of ranks.
    fn ranks(&self) -> PathBuf {
        self.path.join("ranks")
    }

    /// The file by which the ranks of an attempt find each other.
    pub fn meeting(&self, attempt: u32) -> PathBuf {
        self.ranks().join(format!("meeting-{attempt}"))
    }

    /// Makes the folders of that many ranks for another attempt, and removes the meetings of those
    /// before.
    pub fn prepare_ranks(&self, count: u32) -> io::Result<()> {
        if count > 1 {
            self.make_rank_folders(count)?;
            remove_from(&self.ranks(), |name| name.starts_with("meeting-"))?;
        }
        Ok(())
    }

    /// Makes the missing folders of that many ranks. The job's folder has to exist: one that
    /// somebody has removed does not come back.
    pub fn make_rank_folders(&self, count: u32) -> io::Result<()> {
        let make = |folder: PathBuf| match fs::create_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        };
        if count > 1 {
            make(self.ranks())?;
        }
        (1..count).map(|rank| self.rank(rank).path).try_for_each(|folder| {
            make(folder.clone())?;
            make(folder.join("attempts"))
        })
    }

    /// The order of one attempt.
    pub fn order(&self, attempt: u32) -> PathBuf {
        self.path.join("attempts").join(format!("{attempt}.json"))
    }

    /// The launch of the last attempt, where its ranks ran on other machines.
    pub fn launch(&self) -> PathBuf {
        self.path.join("launch.json")
    }

    /// The events of the job, record by record.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Locked by the runner while it lives; holds who that is.
    pub fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// Locked by the runner's parent while it lives; holds who that is.
    pub fn shim(&self) -> PathBuf {
        self.path.join("shim")
    }

    /// How the last runner ended.
    pub fn exit(&self) -> PathBuf {
        self.path.join("exit.json")
    }

    /// The last attempt that the folder knows of; 0 where its job was never started.
    ///
    /// # Errors
    /// A part of the folder cannot be read, so that there may have been a later one.
    pub fn last_attempt(&self) -> io::Result<u32> {
        // Only a runner begins a journal.
        let begun = present(fs::metadata(self.journal()))?.is_some_and(|journal| journal.len() > 0);
        let mut last = u32::from(begun);
        for entry in entries(&self.path.join("attempts"))? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse().ok());
            last = last.max(number.unwrap_or_default());
        }
        let signed = Signature::read(self).map(|signed| signed.map(|runner| runner.attempt));
        let noted = ExitNote::read(self).map(|noted| noted.map(|note| note.attempt));
        for told in [signed, noted] {
            last = last.max(match told {
                Ok(attempt) => attempt.unwrap_or_default(),
                // Nobody writes there before the first attempt.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => 1,
                Err(error) => return Err(error),
            });
        }
        Ok(last)
    }

    /// Whether the folder, of which a database tells nothing that was made at `born`, is left over
    /// from a request that was never answered. An older one may be that of a job whose database was
    /// lost, and so may one where nobody knows its age.
    ///
    /// # Errors
    /// A part of the folder cannot be read: it may hold a job.
    pub fn is_unanswered(&self, id: &JobId, born: Option<SystemTime>) -> io::Result<bool> {
        let is_younger = id.taken().zip(born).is_some_and(|(taken, born)| taken > born);
        Ok(is_younger && !self.job().try_exists()? && self.last_attempt()? == 0)
    }

    /// Event files.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join("tensorboard")
    }

    /// One folder a checkpoint.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// The folder of the checkpoint after that many steps, relative to the job's.
    pub fn checkpoint_name(step: u64) -> String {
        format!("checkpoints/step-{step}")
    }

    /// Results: the final weights.
    pub fn artifacts(&self) -> PathBuf {
        self.path.join("artifacts")
    }

    /// How values become inputs and targets, as the training set taught it.
    pub fn preprocessing(&self) -> PathBuf {
        self.artifacts().join(Self::PREPROCESSING)
    }

    /// The same of the job whose model this one applies.
    pub fn taken_preprocessing(&self) -> PathBuf {
        self.path.join(Self::PREPROCESSING)
    }

    /// Kernels that were compiled for the job's GPU; there where that was needed.
    pub fn kernels(&self) -> PathBuf {
        self.path.join("kernels")
    }

    /// Standard output and standard error of the runner.
    pub fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// The log, open for reading; None where there is none yet. A link or a pipe in its place is no
    /// log.
    pub fn open_log(&self) -> io::Result<Option<File>> {
        present(Folder::open(&self.path).and_then(|folder| folder.file(LOG)))
    }

    /// Makes the folder with its spec. Durable when it returns.
    pub fn create(&self, spec: &v1::JobSpec) -> io::Result<()> {
        for folder in [self.path.join("attempts"), self.tensorboard(), self.checkpoints(), self.artifacts()] {
            fs::create_dir_all(folder)?;
        }
        let text = json::to_string(spec, false).map_err(io::Error::other)?;
        write_whole(&self.spec(), text.as_bytes())?;
        sync_folder(folder_of(&self.path))
    }

    /// Lets the group list the folder, and read the subfolders in `SHOWN`.
    pub fn show_to_group(&self) -> io::Result<()> {
        let shown = Self::SHOWN.iter().map(|name| self.path.join(name));
        shown
            .chain([self.path.clone()])
            .try_for_each(|folder| fs::set_permissions(folder, Permissions::from_mode(0o750)))
    }

    /// Removes the half-written files of earlier processes of the job. None of them may run: the
    /// caller holds the job's lock.
    pub fn sweep(&self, _held: &JobLock) -> io::Result<()> {
        remove_from(&self.path, |name| name.starts_with(".exit.json.") || name == ".program.json.new")?;
        remove_from(&self.checkpoints(), |name| name.starts_with('.'))?;
        remove_from(&self.artifacts(), |name| name.starts_with('.'))
    }

    /// Removes what an earlier daemon has left half-written. Nobody but a daemon writes these, and
    /// there is one at a time.
    pub fn sweep_after_daemon(&self) -> io::Result<()> {
        let left = [".job.json.new", ".spec.json.new", ".launch.json.new", ".mirrored.new", ".mirror_given.json.new"];
        remove_from(&self.path, |name| left.contains(&name))?;
        for rank in entries(&self.ranks())? {
            remove_from(&rank?.path().join("attempts"), |name| name.starts_with('.'))?;
        }
        remove_from(&self.path.join("attempts"), |name| name.starts_with('.'))
    }

    /// The spec.
    pub fn read_spec(&self) -> io::Result<v1::JobSpec> {
        json::from_str(&fs::read_to_string(self.spec())?).map_err(io::Error::other)
    }

    /// Leaves the order of an attempt.
    pub fn write_order(&self, order: &Order) -> io::Result<()> {
        write_whole(&self.order(order.attempt), &serde_json::to_vec_pretty(order)?)
    }

    /// The order of an attempt.
    pub fn read_order(&self, attempt: u32) -> io::Result<Order> {
        Ok(serde_json::from_slice(&fs::read(self.order(attempt))?)?)
    }
}

/// The entries of a folder; none if it is not there.
pub fn entries(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>>> {
    let found = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        other => Some(other?),
    };
    Ok(found.into_iter().flatten())
}

/// Removes what has such names from a folder, which need not be there.
fn remove_from(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in entries(folder)? {
        let entry = entry?;
        if is_wanted(&entry.file_name().to_string_lossy()) {
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
    }
    Ok(())
}

/// Writes a file so that it is there whole or as it was before, also after a power cut.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_whole_and(path, bytes, |_| ())
}

/// The same; `made` is called with the file before it has its name.
pub fn write_whole_and(path: &Path, bytes: &[u8], made: impl FnOnce(&File)) -> io::Result<()> {
    write_whole_by(path, |file| {
        made(file);
        (&mut &*file).write_all(bytes)
    })
}

/// The same for a file that `fill` writes piece by piece.
pub fn write_whole_by(path: &Path, fill: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let folder = folder_of(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = folder.join(format!(".{name}.new"));
    let write = || {
        // Removes the rest of a crash. A link at this place is not followed.
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = File::create_new(&aside)?;
        fill(&file)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    };
    if let Err(error) = write() {
        // A full disk needs its room.
        let _ = fs::remove_file(&aside);
        return Err(error);
    }
    sync_folder(folder)
}

/// Waits until the disk has the names in a folder.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_whole_whatever_stands_aside() {
        let folder = tempfile::tempdir().unwrap();
        let (outside, path) = (folder.path().join("outside"), folder.path().join("job.json"));
        fs::write(&outside, "of somebody else").unwrap();
        std::os::unix::fs::symlink(&outside, folder.path().join(".job.json.new")).unwrap();
        write_whole(&path, b"ours").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ours");
        assert_eq!(fs::read(&outside).unwrap(), b"of somebody else");
        fs::write(folder.path().join(".job.json.new"), "half").unwrap();
        write_whole(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_folder_of_which_a_part_cannot_be_read_is_not_called_unanswered() {
        let place = tempfile::tempdir().unwrap();
        let folder = JobFolder::new(place.path().into());
        let (id, born) = (JobId::new(SystemTime::now(), 1), Some(SystemTime::UNIX_EPOCH));
        let cannot_be_read = |path: PathBuf| {
            std::os::unix::fs::symlink(&path, &path).unwrap();
            let answer = folder.is_unanswered(&id, born);
            fs::remove_file(path).unwrap();
            answer.is_err()
        };
        for path in [folder.job(), folder.journal(), folder.lock(), folder.exit(), folder.path().join("attempts")] {
            assert!(cannot_be_read(path.clone()), "{}", path.display());
        }
        assert!(folder.is_unanswered(&id, born).unwrap());
        fs::write(folder.lock(), "no signature").unwrap();
        assert!(!folder.is_unanswered(&id, born).unwrap() && folder.last_attempt().unwrap() == 1);
    }

    #[test]
    fn what_is_half_written_goes_and_what_the_daemon_writes_stays() {
        let place = tempfile::tempdir().unwrap();
        let folder = JobFolder::new(place.path().into());
        let lock = JobLock::take(&folder).unwrap().unwrap();
        let (gone, stays) = (
            [
                "checkpoints/.step-3/model",
                "checkpoints/.old-2/model",
                "artifacts/.model.new",
                ".exit.json.room",
                ".program.json.new",
            ],
            ["checkpoints/step-3/model", "artifacts/model", ".job.json.new", "exit.json", "lock"],
        );
        for path in gone.iter().chain(&stays) {
            let path = place.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::create_dir(place.path().join("attempts")).unwrap();
        fs::write(place.path().join("attempts/.2.json.new"), "").unwrap();
        folder.sweep(&lock).unwrap();
        assert!(gone.iter().all(|path| !place.path().join(path).exists()));
        assert!(stays.iter().all(|path| place.path().join(path).exists()));
        assert!(
            !place.path().join("checkpoints/.step-3").exists() && place.path().join("attempts/.2.json.new").exists()
        );
        folder.sweep_after_daemon().unwrap();
        assert!(!place.path().join("attempts/.2.json.new").exists() && !place.path().join(".job.json.new").exists());
    }
}
