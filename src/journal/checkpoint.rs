//! Checkpoints on disk: `checkpoints/step-<n>/`, whole or absent. The folder is made aside and
//! renamed once the disk has all of it; its manifest says what it holds, with a checksum of each
//! file. Links are not followed.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::folder::JobFolder;
use super::manifest::{FileSum, Manifest};
use super::survey::Survey;
use crate::beneath::Folder;
use crate::gate::Wanted;
use crate::sha256::Sha256;

/// A checkpoint on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Its folder.
    pub path: PathBuf,
    /// Its content.
    pub manifest: Manifest,
}

impl Checkpoint {
    /// The checkpoint in a folder, if it is one; its files are there in their sizes, and not read.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_in(&folder_at(path)?, path)
    }

    /// The same in a folder that is open already; `path` is its name in messages.
    pub fn open_in(folder: &Folder, path: &Path) -> io::Result<Self> {
        let read = folder.file(Manifest::NAME).and_then(Manifest::read);
        let manifest = read.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => damaged(path, error.to_string()),
            io::ErrorKind::NotFound => damaged(path, format!("{} is missing", Manifest::NAME)),
            _ => error,
        })?;
        let checkpoint = Self { path: path.to_owned(), manifest };
        checkpoint.manifest.files.iter().try_for_each(|file| checkpoint.open_file(folder, file).map(drop))?;
        Ok(checkpoint)
    }

    /// Opens one of its files, which has the size that the manifest tells. `folder` is the
    /// checkpoint's.
    pub fn open_file(&self, folder: &Folder, told: &FileSum) -> io::Result<File> {
        let file = folder.file(&told.name).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => damaged(&self.path, format!("{} is missing", told.name)),
            _ => error,
        })?;
        let (found, wanted) = (file.metadata()?.len(), told.size_bytes);
        if found != wanted {
            return Err(damaged(&self.path, format!("{} has {found} bytes and should have {wanted}", told.name)));
        }
        Ok(file)
    }

    /// The bytes of one of its files, held against their checksum.
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let told = self.manifest.files.iter().find(|file| file.name == name);
        let told = told.ok_or_else(|| damaged(&self.path, format!("it does not tell of {name}")))?;
        let mut bytes = Vec::new();
        self.open_file(&folder_at(&self.path)?, told)?.take(told.size_bytes).read_to_end(&mut bytes)?;
        if FileSum::of(name, &bytes) != *told {
            return Err(self.differs(name));
        }
        Ok(bytes)
    }

    /// Holds every file against its checksum, without keeping it. Ends where nobody waits for it.
    pub(super) fn verify(&self, wanted: &Wanted) -> io::Result<()> {
        let folder = folder_at(&self.path)?;
        for told in &self.manifest.files {
            if Sha256::of_reader(&mut wanted.reads(self.open_file(&folder, told)?))? != told.sha256 {
                return Err(self.differs(&told.name));
            }
        }
        Ok(())
    }

    fn differs(&self, name: &str) -> io::Error {
        damaged(&self.path, format!("{name} does not have the checksum that it was saved with"))
    }

    /// Optimizer steps done.
    pub fn step(&self) -> u64 {
        self.manifest.place.step
    }
}

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the checkpoint {} is damaged: {what}", path.display())]
pub(super) struct Damage {
    path: PathBuf,
    /// The damage.
    pub(super) what: String,
}

/// The folder at a path, which is no link itself.
fn folder_at(path: &Path) -> io::Result<Folder> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if !parent.as_os_str().is_empty() => Folder::open(parent)?.folder(name),
        _ => Folder::open(path),
    }
}

fn damaged(path: &Path, what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Damage { path: path.to_owned(), what })
}

/// The checkpoints of a job that look whole, newest first; none where there is no such folder.
pub fn checkpoints(folder: &JobFolder) -> io::Result<Vec<Checkpoint>> {
    Ok(Survey::of(folder)?.whole)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::time::SystemTime;

    use super::super::manifest::Context;
    use crate::job::length::Place;

    use super::*;

    pub(in super::super) fn save(folder: &JobFolder, step: u64, bytes: &[u8]) -> PathBuf {
        let path = folder.path().join(JobFolder::checkpoint_name(step));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("model"), bytes).unwrap();
        let manifest = Manifest {
            place: Place { step, epoch: 1, examples: 0 },
            attempt: 1,
            time: SystemTime::now(),
            summed_examples: 0,
            metrics: BTreeMap::from([("loss/validation".into(), 0.1 + 0.2)]),
            validation_due: false,
            context: Context::default(),
            trained_on: None,
            files: vec![FileSum::of("model", bytes)],
        };
        fs::write(Manifest::path(&path), serde_json::to_vec(&manifest).unwrap()).unwrap();
        path
    }

    #[test]
    fn checkpoints_are_found_newest_first_and_what_is_not_whole_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let folder = JobFolder::new(folder.path().into());
        assert!(checkpoints(&folder).unwrap().is_empty());
        for step in [9, 100, 20] {
            save(&folder, step, b"weights");
        }
        fs::create_dir(folder.checkpoints().join("step-200")).unwrap();
        fs::create_dir(folder.checkpoints().join(".step-300")).unwrap();
        fs::write(save(&folder, 400, b"weights").join("model"), b"weight").unwrap();
        fs::rename(save(&folder, 500, b"weights"), folder.checkpoints().join("step-501")).unwrap();
        let found = checkpoints(&folder).unwrap();
        assert_eq!(found.iter().map(Checkpoint::step).collect::<Vec<_>>(), [100, 20, 9]);
        assert_eq!(found[0].manifest.metrics["loss/validation"], 0.1 + 0.2, "numbers come back bit for bit");
    }

    #[test]
    fn a_manifest_that_leads_out_of_its_folder_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let folder = JobFolder::new(folder.path().into());
        let path = save(&folder, 1, b"weights");
        fs::write(folder.path().join("secret"), b"").unwrap();
        let whole = Checkpoint::open(&path).unwrap().manifest;
        for name in ["../../secret", "..", ".", "", "/dev/null", "model/", "../step-1/model", Manifest::NAME] {
            let size_bytes = fs::metadata(path.join(name)).map_or(0, |found| found.len());
            let file = FileSum { name: name.into(), size_bytes, ..whole.files[0].clone() };
            let manifest = Manifest { files: vec![file], ..whole.clone() };
            fs::write(Manifest::path(&path), serde_json::to_vec(&manifest).unwrap()).unwrap();
            let error = Checkpoint::open(&path).unwrap_err().to_string();
            assert!(error.contains("no name of a file in it"), "{name}: {error}");
            assert!(checkpoints(&folder).unwrap().is_empty());
        }
    }

    #[test]
    fn links_pipes_doubled_names_and_endless_manifests_are_no_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let job = JobFolder::new(folder.path().into());
        let path = save(&job, 1, b"weights");
        let whole = fs::read(Manifest::path(&path)).unwrap();
        let refused = || {
            assert!(checkpoints(&job).unwrap().is_empty());
            Checkpoint::open(&path).unwrap_err().to_string()
        };
        let aside = folder.path().join("aside");
        fs::rename(path.join("model"), &aside).unwrap();
        std::os::unix::fs::symlink(&aside, path.join("model")).unwrap();
        assert!(refused().contains("link"));
        fs::remove_file(path.join("model")).unwrap();
        nix::unistd::mkfifo(&path.join("model"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(refused().contains("a pipe"));
        fs::remove_file(path.join("model")).unwrap();
        fs::rename(&aside, path.join("model")).unwrap();
        let mut doubled: Manifest = serde_json::from_slice(&whole).unwrap();
        doubled.files.push(doubled.files[0].clone());
        fs::write(Manifest::path(&path), serde_json::to_vec(&doubled).unwrap()).unwrap();
        assert!(refused().contains("twice"));
        File::create(Manifest::path(&path)).unwrap().set_len(1 << 40).unwrap();
        assert!(refused().contains("more than 1048576 bytes"));
        fs::remove_file(Manifest::path(&path)).unwrap();
        nix::unistd::mkfifo(&Manifest::path(&path), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(refused().contains("a pipe"));
        fs::remove_file(Manifest::path(&path)).unwrap();
        fs::write(Manifest::path(&path), &whole).unwrap();
        fs::rename(&path, &aside).unwrap();
        std::os::unix::fs::symlink(&aside, &path).unwrap();
        refused();
        fs::remove_file(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
        Checkpoint::open(&path).unwrap();
    }

    #[test]
    fn a_flipped_bit_is_noticed_when_the_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = save(&JobFolder::new(folder.path().into()), 1, b"weights");
        assert_eq!(Checkpoint::open(&path).unwrap().read("model").unwrap(), b"weights");
        fs::write(path.join("model"), b"weighty").unwrap();
        let error = Checkpoint::open(&path).unwrap().read("model").unwrap_err();
        assert!(error.to_string().contains("checksum"), "{error}");
    }
}
