//! Checkpoints on disk: `checkpoints/step-<n>/`, whole or absent. The folder is made aside and renamed once the disk has all of it;
//! `checkpoint.json` in it says what it holds, with a checksum of each file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::folder::JobFolder;
use super::survey::Survey;
use super::trained_on::TrainedOn;
use crate::job::spec::Place;

/// What tells of a checkpoint, in its folder.
pub(super) const MANIFEST: &str = "checkpoint.json";

/// What a checkpoint holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Where training stands.
    pub place: Place,
    /// The attempt that took it.
    pub attempt: u32,
    /// When it was taken.
    pub time: SystemTime,
    /// Examples that the sums behind the next scalars hold already.
    pub summed_examples: u64,
    /// Scalars of the validation pass at this step; empty where there was none.
    pub metrics: BTreeMap<String, f64>,
    /// The validation pass at this step was given up: whoever goes on from here does it first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub validation_due: bool,
    /// What has to be the same for a resumed run to be the same bit for bit.
    pub context: Context,
    /// What it was trained on; None in those of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_on: Option<TrainedOn>,
    /// The other files of the folder.
    pub files: Vec<FileSum>,
}

/// What numbers depend on besides the spec.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Version of libtorch.
    pub libtorch: String,
    /// `cpu` or `cuda`.
    pub device: String,
    /// Threads of computation.
    pub cpu_threads: u32,
    /// The CPU, or the GPU, by its name.
    pub processor: String,
}

/// A file with its checksum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSum {
    /// Its name in the folder.
    pub name: String,
    /// Its bytes.
    pub size_bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// A checkpoint on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Its folder.
    pub path: PathBuf,
    /// What it holds.
    pub manifest: Manifest,
}

impl FileSum {
    /// A file with these bytes.
    pub fn of(name: &str, bytes: &[u8]) -> Self {
        Self { name: name.into(), size_bytes: bytes.len() as u64, sha256: hex(Sha256::digest(bytes).as_slice()) }
    }
}

impl Manifest {
    /// The file that it is written to.
    pub fn path(folder: &Path) -> PathBuf {
        folder.join(MANIFEST)
    }

    /// Whether training can go on from here with the data of now; an error says in words how they differ.
    pub fn judge_data(&self, now: &TrainedOn) -> Result<(), String> {
        let difference = self.trained_on.as_ref().and_then(|then| then.difference(now)).or_else(|| {
            // An epoch that is over begins the next one, so that some of it is always left.
            let (used, has) = (self.place.examples, now.train.examples);
            (used >= has).then(|| format!("it has used {used} examples of an epoch, and the training set has {has}"))
        });
        let step = self.place.step;
        difference.map_or(Ok(()), |what| {
            Err(format!("the data are not those that the checkpoint of step {step} was made with: {what}"))
        })
    }

    /// Bytes of all files, without the manifest.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }
}

impl Checkpoint {
    /// The checkpoint in a folder, if it is one; its files are there in their sizes, and not read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let missing = |name: &str, error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => damaged(path, format!("{name} is missing")),
            _ => error,
        };
        let bytes = fs::read(path.join(MANIFEST)).map_err(|error| missing(MANIFEST, error))?;
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| damaged(path, format!("{MANIFEST} is no description of a checkpoint: {error}")))?;
        for file in &manifest.files {
            if Path::new(&file.name).file_name().is_none_or(|name| name != file.name.as_str()) {
                return Err(damaged(path, format!("it tells of {:?}, which is no name of a file in it", file.name)));
            }
            let found = fs::metadata(path.join(&file.name)).map_err(|error| missing(&file.name, error))?.len();
            if found != file.size_bytes {
                let told = file.size_bytes;
                return Err(damaged(path, format!("{} has {found} bytes and should have {told}", file.name)));
            }
        }
        Ok(Self { path: path.to_owned(), manifest })
    }

    /// The bytes of one of its files, held against their checksum.
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let told = self.manifest.files.iter().find(|file| file.name == name);
        let told = told.ok_or_else(|| damaged(&self.path, format!("it does not tell of {name}")))?;
        let bytes = fs::read(self.path.join(name))?;
        if FileSum::of(name, &bytes) != *told {
            return Err(self.differs(name));
        }
        Ok(bytes)
    }

    /// Holds every file against its checksum, without keeping it.
    pub(super) fn verify(&self) -> io::Result<()> {
        for told in &self.manifest.files {
            if sha256_of(&mut File::open(self.path.join(&told.name))?)? != told.sha256 {
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
    /// What is wrong with it.
    pub(super) what: String,
}

fn damaged(path: &Path, what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Damage { path: path.to_owned(), what })
}

/// The checkpoints of a job that look whole, newest first; none where there is no such folder.
pub fn checkpoints(folder: &JobFolder) -> io::Result<Vec<Checkpoint>> {
    Ok(Survey::of(folder)?.whole)
}

/// SHA-256 of everything that a reader has, in lower-case hexadecimal.
pub fn sha256_of(file: &mut impl Read) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hex(digest.finalize().as_slice())),
            count => digest.update(&block[..count]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(super) mod tests {
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
        for name in ["../../secret", "..", ".", "", "/dev/null", "model/", "../step-1/model"] {
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
    fn a_flipped_bit_is_noticed_when_the_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = save(&JobFolder::new(folder.path().into()), 1, b"weights");
        assert_eq!(Checkpoint::open(&path).unwrap().read("model").unwrap(), b"weights");
        fs::write(path.join("model"), b"weighty").unwrap();
        let error = Checkpoint::open(&path).unwrap().read("model").unwrap_err();
        assert!(error.to_string().contains("checksum"), "{error}");
    }

    #[test]
    fn the_checksum_is_the_one_that_sha256sum_prints() {
        let sum = FileSum::of("a", b"abc").sha256;
        assert_eq!(sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
