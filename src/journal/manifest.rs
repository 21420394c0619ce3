//! `checkpoint.json`: where training stood, what the numbers depend on, and the other files of a
//! checkpoint with their checksums. A manifest may be anybody's, so every number and text of it has
//! a range.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::trained_on::{FileState, FileStates, TrainedOn};
use crate::dataset::Fingerprint;
use crate::job::length::Place;
use crate::sha256::Sha256;

/// A longer manifest is damaged; ours are about a kilobyte.
const MOST_BYTES: u64 = 1 << 20;
/// Limit of the files, and of the metrics, that a manifest names.
const MOST_ENTRIES: usize = 64;
/// A longer name is none that a file can have, in bytes. (NAME_MAX)
const MOST_NAME: usize = 255;
/// Limit of a text in a manifest, in bytes.
const MOST_TEXT: usize = 1024;
/// No path is longer, in bytes. (PATH_MAX)
const MOST_PATH: usize = 4096;
/// The last second of the year 9999, the latest that a Timestamp of protobuf can tell.
const LATEST: Duration = Duration::from_secs(253_402_300_799);

/// The content of a checkpoint.
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
    /// The validation pass at this step was given up: a runner that goes on from here does it
    /// first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub validation_due: bool,
    /// The context that has to be the same for a resumed run to be the same bit for bit.
    pub context: Context,
    /// The data it was trained on; None in those of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_on: Option<TrainedOn>,
    /// The other files of the folder.
    pub files: Vec<FileSum>,
}

/// The context that numbers depend on besides the spec.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Version of libtorch.
    pub libtorch: String,
    /// `cpu` or `cuda`.
    pub device: String,
    /// Threads of computation.
    pub cpu_threads: u32,
    /// The CPU by its name, or the kind of the GPU. Earlier versions have the uuid of the GPU.
    pub processor: String,
    /// Training steps are captured as CUDA graphs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub captured: bool,
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

impl FileSum {
    /// A file with these bytes.
    pub fn of(name: &str, bytes: &[u8]) -> Self {
        Self { name: name.into(), size_bytes: bytes.len() as u64, sha256: Sha256::of(bytes) }
    }
}

impl Manifest {
    /// The file that tells of a checkpoint, in its folder.
    pub const NAME: &str = "checkpoint.json";

    /// The file that it is written to.
    pub fn path(folder: &Path) -> PathBuf {
        folder.join(Self::NAME)
    }

    /// Reads a manifest that may be anybody's: every number and text of it is in its range.
    ///
    /// # Errors
    /// `InvalidData`, with what is wrong, where it is none.
    pub fn read(source: impl Read) -> io::Result<Self> {
        let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut bytes = Vec::new();
        source.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(wrong(format!("{} has more than {MOST_BYTES} bytes", Self::NAME)));
        }
        let manifest: Self =
            serde_json::from_slice(&bytes).map_err(|error| wrong(format!("{}: {error}", Self::NAME)))?;
        manifest.judge().map_err(wrong)?;
        Ok(manifest)
    }

    fn judge(&self) -> Result<(), String> {
        let Self { place, attempt: _, time, summed_examples, metrics, validation_due: _, context, trained_on, files } =
            self;
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
        let Context { libtorch, device, cpu_threads: _, processor, captured: _ } = context;
        let texts = [libtorch, device, processor].into_iter().chain(metrics.keys());
        if let Some(text) = texts.into_iter().find(|text| text.len() > MOST_TEXT) {
            return Err(format!("a text has {} bytes, and can have {MOST_TEXT} at most", text.len()));
        }
        let sets = trained_on.iter().flat_map(|data| [Some(&data.train), data.validation.as_ref()]).flatten();
        for FileState { path, fingerprint, .. } in sets.flat_map(|set| &set.files) {
            let length = path.as_os_str().len().max(fingerprint.as_ref().map_or(0, Fingerprint::length));
            if length > MOST_PATH {
                return Err(format!("a file of its data has a text of {length} bytes, and {MOST_PATH} are the most"));
            }
        }
        let mut names = BTreeSet::new();
        let mut total = 0u64;
        for FileSum { name, size_bytes, sha256 } in files {
            let is_name = Path::new(name).file_name().is_some_and(|last| last == name.as_str());
            if !is_name || name == Self::NAME || name.len() > MOST_NAME || name.contains('\0') {
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

    /// Whether training can go on at its place with the data of now; an error says in words how
    /// they differ.
    pub fn judge_data(&self, now: &TrainedOn) -> Result<(), String> {
        let difference = self.trained_on.as_ref().and_then(|then| then.difference(now)).or_else(|| {
            // An epoch that is over begins the next one, so that some of it is always left.
            let (used, has) = (self.place.examples, now.train.examples);
            (used >= has).then(|| format!("it has used {used} examples of an epoch, and the training set has {has}"))
        });
        difference.map_or(Ok(()), |what| Err(self.other_data(&what)))
    }

    /// The same by the files alone, which may hold anything now.
    pub fn judge_files(&self, now: &FileStates) -> Result<(), String> {
        let difference = self.trained_on.as_ref().and_then(|then| then.file_difference(now));
        difference.map_or(Ok(()), |what| Err(self.other_data(&what)))
    }

    fn other_data(&self, what: &str) -> String {
        let step = self.place.step;
        format!("the data are not those that the checkpoint of step {step} was made with: {what}")
    }

    /// The shards of the training set, where it was read in shards.
    pub fn shards(&self) -> Option<&str> {
        self.trained_on.as_ref().and_then(|then| then.train.shards.as_deref())
    }

    /// Where training goes on with that many examples in these shards: at its place in an epoch of
    /// the same, else at the beginning of the next epoch, as the order of an epoch follows from
    /// both.
    pub fn place_in(&self, examples: u64, shards: Option<&str>) -> Place {
        let Place { step, epoch, examples: used } = self.place;
        let is_same = self.trained_on.as_ref().is_none_or(|then| then.train.examples == examples);
        let is_same = is_same && self.shards() == shards;
        match used == 0 || (is_same && used < examples) {
            true => self.place,
            false => Place { step, epoch: epoch + 1, examples: 0 },
        }
    }

    /// Bytes of all files, without the manifest.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::checkpoint::{Checkpoint, tests::save};
    use super::super::folder::JobFolder;
    use super::super::trained_on::DataSet;
    use super::*;

    #[test]
    fn an_epoch_of_another_number_of_examples_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = save(&JobFolder::new(folder.path().into()), 5, b"weights");
        let mut manifest = Checkpoint::open(&path).unwrap().manifest;
        let train = DataSet { examples: 100, files: Vec::new(), shards: Some("ab".into()) };
        manifest.trained_on = Some(TrainedOn { train, validation: None });
        let place = |epoch, examples| Place { step: 5, epoch, examples };
        for (known, used, has, goes_on) in [
            (true, 40, 100, place(2, 40)),
            (true, 40, 99, place(3, 0)),
            (true, 40, 101, place(3, 0)),
            (true, 40, 7, place(3, 0)),
            (true, 0, 7, place(2, 0)),
            // One of an earlier version does not tell how many there were.
            (false, 40, 41, place(2, 40)),
            (false, 40, 40, place(3, 0)),
        ] {
            let trained_on = manifest.trained_on.clone().filter(|_| known);
            let manifest = Manifest { place: place(2, used), trained_on, ..manifest.clone() };
            let shards = known.then_some("ab");
            assert_eq!(manifest.place_in(has, shards), goes_on, "{known} {used} {has}");
        }
        // The same examples in other shards, or in memory, come in another order.
        manifest.place = place(2, 40);
        for shards in [Some("cd"), None] {
            assert_eq!(manifest.place_in(100, shards), place(3, 0));
        }
    }

    #[test]
    fn a_manifest_with_a_number_or_a_text_out_of_its_range_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = save(&JobFolder::new(folder.path().into()), 5, b"weights");
        let good = fs::read(Manifest::path(&path)).unwrap();
        let good: serde_json::Value = serde_json::from_slice(&good).unwrap();
        assert!(Manifest::read(good.to_string().as_bytes()).is_ok());
        let good = {
            let mut with_data = good;
            with_data["trained_on"] = serde_json::Value::Null;
            with_data
        };
        let file = &good["files"][0];
        let name_of = |name: &str| serde_json::json!({"name": name, "size_bytes": 1, "sha256": file["sha256"]});
        let data_of = |path: &str| {
            let file = serde_json::json!({"path": path, "size_bytes": 1, "fingerprint": "later-7:0"});
            serde_json::json!({"train": {"examples": 1, "files": [file]}})
        };
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
            ("/files/0/name", "a\0b".into(), "which is no name of a file in it"),
            ("/files/0/name", "x".repeat(256).into(), "which is no name of a file in it"),
            ("/files/0/sha256", "0".into(), "not 64 hexadecimal digits"),
            ("/files/0/size_bytes", u64::MAX.into(), "too large"),
            ("/files", (0..3).map(|n| name_of(&n.to_string())).collect::<Vec<_>>().into(), ""),
            ("/context/processor", "x".repeat(1 << 20).into(), "has more than 1048576 bytes"),
            ("/trained_on", data_of(&"x".repeat(4097)), "has a text of 4097 bytes"),
            ("/trained_on", data_of(&"x".repeat(4096)), ""),
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
}
