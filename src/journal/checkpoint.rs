//! Checkpoints on disk: `checkpoints/step-<n>/`, whole or absent. The folder is made aside and renamed once the disk has all of it;
//! `checkpoint.json` in it says what it holds, with a checksum of each file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::folder::{JobFolder, entries};
use crate::job::spec::Place;

/// What tells of a checkpoint, in its folder.
const MANIFEST: &str = "checkpoint.json";

/// A longer manifest is damaged; ours are about a kilobyte.
const MOST_BYTES: u64 = 1 << 20;
/// A manifest tells of so many files, and of so many metrics, at most.
const MOST_ENTRIES: usize = 64;
/// A text in a manifest has so many bytes at most.
const MOST_TEXT: usize = 1024;
/// The last second of the year 9999, the latest that a Timestamp of protobuf can tell.
const LATEST: Duration = Duration::from_secs(253_402_300_799);

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
    /// What has to be the same for a resumed run to be the same bit for bit.
    pub context: Context,
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

    /// Whether a file of that name belongs to the checkpoint.
    pub fn tells_of(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.name == name)
    }

    /// Bytes of all files, without the manifest.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }
}

impl Manifest {
    /// Reads a manifest that may be anybody's: every number and text of it is in its range.
    ///
    /// # Errors
    /// `InvalidData`, with what is wrong, where it is none.
    pub fn read(source: impl Read) -> io::Result<Self> {
        let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut bytes = Vec::new();
        source.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(wrong(format!("{MANIFEST} has more than {MOST_BYTES} bytes")));
        }
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| wrong(format!("{MANIFEST}: {error}")))?;
        manifest.judge().map_err(wrong)?;
        Ok(manifest)
    }

    fn judge(&self) -> Result<(), String> {
        let Self { place, attempt: _, time, summed_examples, metrics, context, files } = self;
        let most = i64::MAX as u64;
        for (what, found, most) in [
            ("place.step", place.step, most),
            // An epoch has a step at least, and a step 2^32 examples at most.
            ("place.epoch", place.epoch, place.step.min(u32::MAX.into())),
            ("place.examples", place.examples, place.step.saturating_mul(u32::MAX.into()).min(most)),
            ("summed_examples", *summed_examples, place.step.saturating_mul(u32::MAX.into()).min(most)),
            ("the number of files", files.len() as u64, MOST_ENTRIES as u64),
            ("the number of metrics", metrics.len() as u64, MOST_ENTRIES as u64),
        ] {
            if found > most {
                return Err(format!("{what} is {found}, and can be {most} at most"));
            }
        }
        if time.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|time| time > LATEST) {
            return Err("time lies beyond the year 9999".into());
        }
        let Context { libtorch, device, cpu_threads: _, processor } = context;
        let texts = [libtorch, device, processor].into_iter().chain(metrics.keys());
        if let Some(text) = texts.into_iter().find(|text| text.len() > MOST_TEXT) {
            return Err(format!("a text has {} bytes, and can have {MOST_TEXT} at most", text.len()));
        }
        let mut names = BTreeSet::new();
        let mut total = 0u64;
        for FileSum { name, size_bytes, sha256 } in files {
            let is_name = Path::new(name).file_name().is_some_and(|last| last == name.as_str());
            if !is_name || name.len() > MOST_TEXT {
                return Err(format!("it tells of {name:?}, which is no name of a file in it"));
            }
            if !names.insert(name) {
                return Err(format!("it tells of {name:?} twice"));
            }
            if sha256.len() != 64 || !sha256.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(format!("the checksum of {name:?} is not 64 hexadecimal digits"));
            }
            total = total.checked_add(*size_bytes).filter(|total| *total <= most).ok_or("its files are too large")?;
        }
        Ok(())
    }
}

impl Checkpoint {
    /// The checkpoint in a folder, if it is one; its files are there in their sizes, and not read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let manifest = Manifest::read(File::open(path.join(MANIFEST))?).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => damaged(path, error.to_string()),
            _ => error,
        })?;
        for file in &manifest.files {
            let found = fs::metadata(path.join(&file.name))?.len();
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
            return Err(damaged(&self.path, format!("{name} does not have the checksum that it was saved with")));
        }
        Ok(bytes)
    }

    /// Optimizer steps done.
    pub fn step(&self) -> u64 {
        self.manifest.place.step
    }
}

fn damaged(path: &Path, what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the checkpoint {} is damaged: {what}", path.display()))
}

/// The checkpoints of a job that look whole, newest first; none where there is no such folder.
pub fn checkpoints(folder: &JobFolder) -> io::Result<Vec<Checkpoint>> {
    let mut found = Vec::new();
    for entry in entries(&folder.checkpoints())? {
        let path = entry?.path();
        let step = path.file_name().and_then(|name| name.to_str()?.strip_prefix("step-")?.parse::<u64>().ok());
        // One that cannot be read is not lost by being passed over: somebody may mend it.
        if let (Some(step), Ok(checkpoint)) = (step, Checkpoint::open(&path))
            && checkpoint.step() == step
        {
            found.push(checkpoint);
        }
    }
    found.sort_by_key(|checkpoint| std::cmp::Reverse(checkpoint.step()));
    Ok(found)
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
mod tests {
    use super::*;

    fn save(folder: &JobFolder, step: u64, bytes: &[u8]) -> PathBuf {
        let path = folder.path().join(JobFolder::checkpoint_name(step));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("model"), bytes).unwrap();
        let manifest = Manifest {
            place: Place { step, epoch: 1, examples: 0 },
            attempt: 1,
            time: SystemTime::now(),
            summed_examples: 0,
            metrics: BTreeMap::from([("loss/validation".into(), 0.1 + 0.2)]),
            context: Context::default(),
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
    fn a_manifest_with_a_number_or_a_text_out_of_its_range_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = save(&JobFolder::new(folder.path().into()), 5, b"weights");
        let good = fs::read(Manifest::path(&path)).unwrap();
        let good: serde_json::Value = serde_json::from_slice(&good).unwrap();
        assert!(Manifest::read(good.to_string().as_bytes()).is_ok());
        let file = &good["files"][0];
        let name_of = |name: &str| serde_json::json!({"name": name, "size_bytes": 1, "sha256": file["sha256"]});
        for (at, value, words) in [
            ("/place/step", u64::MAX.into(), "place.step is 18446744073709551615, and can be"),
            ("/place/epoch", 6.into(), "place.epoch is 6, and can be 5 at most"),
            ("/place/examples", u64::MAX.into(), "place.examples is 18446744073709551615"),
            ("/summed_examples", u64::MAX.into(), "summed_examples is"),
            ("/time/secs_since_epoch", i64::MAX.into(), "beyond the year 9999"),
            ("/time/nanos_since_epoch", (-1).into(), "invalid value"),
            ("/metrics", (0..65).map(|n| (n.to_string(), n)).collect(), "the number of metrics is 65"),
            ("/context/processor", "x".repeat(2000).into(), "a text has 2000 bytes"),
            ("/files", vec![file.clone(); 1000].into(), "the number of files is 1000"),
            ("/files", vec![file.clone(); 2].into(), "\"model\" twice"),
            ("/files/0/sha256", "0".into(), "not 64 hexadecimal digits"),
            ("/files/0/size_bytes", u64::MAX.into(), "too large"),
            ("/files", (0..3).map(|n| name_of(&n.to_string())).collect::<Vec<_>>().into(), ""),
            ("/context/processor", "x".repeat(1 << 20).into(), "has more than 1048576 bytes"),
            ("/attempt", (-1).into(), "checkpoint.json: invalid value"),
        ] {
            let mut changed = good.clone();
            *changed.pointer_mut(at).unwrap() = value;
            match Manifest::read(changed.to_string().as_bytes()) {
                Ok(_) => assert!(words.is_empty(), "{at}: {words}"),
                Err(error) => {
                    assert!(!words.is_empty() && error.to_string().contains(words), "{at}: {error}");
                    fs::write(Manifest::path(&path), changed.to_string()).unwrap();
                    assert!(Checkpoint::open(&path).unwrap_err().to_string().contains("is damaged"), "{at}");
                }
            }
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
