//! The order of an attempt: `attempts/<n>.json` in its job's folder, written before the runner is
//! started. The spec beside it says what the user wants; the order says what this attempt gets.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

use super::outline::Outline;
use crate::dataset::Files;
use crate::proto::{json, v1};

/// The order of one attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Which attempt, from 1. A runner that was started for another one leaves at once.
    pub attempt: u32,
    /// Which of several ranks it is for; None for a runner that is alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<Rank>,
    /// Where the ranks meet, where they are on several machines; None for a file beside the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meeting: Option<Meeting>,
    /// Its part of the machine.
    pub lease: Lease,
    /// The files to read.
    pub inputs: Inputs,
    /// The library that tells of its GPU; None for the one that the loader finds.
    pub nvml_library: Option<PathBuf>,
    /// Limit of its event files together, in bytes.
    #[serde(default = "no_limit")]
    pub max_event_bytes: u64,
    /// The newest checkpoint, damaged or not; None to begin anew. The newest good one up to it is
    /// taken, and where there is none the attempt ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_step: Option<u64>,
    /// Other data than those that the checkpoints up to this step were made with are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_data_at: Option<u64>,
    /// Where its output begins in the log, in bytes.
    #[serde(default)]
    pub log_begins: u64,
    /// Limits of the processes of a program.
    #[serde(default, skip_serializing_if = "ProgramLimits::is_none")]
    pub limits: ProgramLimits,
    /// The changes of the spec by all resumes.
    #[serde(default, with = "json::optional", skip_serializing_if = "Option::is_none")]
    pub edits: Option<v1::JobEdits>,
}

impl Order {
    /// Whether a user takes other data than those that the checkpoint of that step was made with.
    pub fn accepts_other_data(&self, step: u64) -> bool {
        self.accepted_data_at.is_some_and(|accepted| step <= accepted)
    }
}

/// A rank among those of its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rank {
    /// Which one, from 0. The first leads.
    pub rank: u32,
    /// How many there are.
    pub count: u32,
}

/// The place at which ranks of several machines find each other: a TCP store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meeting {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// This rank runs it.
    pub serves: bool,
    /// The address by which the others reach this rank.
    pub address: String,
    /// The network interface by which they do, in place of the address.
    pub interface: Option<String>,
}

fn no_limit() -> u64 {
    u64::MAX
}

/// Limits of each process of a program, as the settings have them. None for no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramLimits {
    /// Private memory that it may map for writing, in bytes. (RLIMIT_DATA)
    pub memory_bytes: Option<u64>,
    /// Processes and threads of the daemon's user, those of others included. (RLIMIT_NPROC)
    pub processes: Option<u64>,
    /// Bytes of a file that it writes. (RLIMIT_FSIZE)
    pub file_bytes: Option<u64>,
}

impl ProgramLimits {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A part of the machine, held by one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// Where to compute.
    pub device: LeasedDevice,
    /// Threads of computation.
    pub cpu_threads: u32,
    /// The GPUs, on CUDA: those of a job, one a rank, or the one of a rank in its own order. Empty
    /// where the order of a runner cannot be read, and for ranks on other machines, until they are
    /// there.
    // Orders of earlier versions have one GPU or none.
    #[serde(alias = "gpu", deserialize_with = "one_or_several")]
    pub gpus: Vec<LeasedGpu>,
}

impl Lease {
    /// A part of the CPU.
    pub fn of_cpu(cpu_threads: u32) -> Self {
        Self { device: LeasedDevice::Cpu, cpu_threads, gpus: Vec::new() }
    }

    /// The GPU of a runner, which has one at most, or the first of a program.
    pub fn gpu(&self) -> Option<&LeasedGpu> {
        self.gpus.first()
    }

    /// The value of CUDA_VISIBLE_DEVICES; None where no GPU is known.
    pub fn visible(&self) -> Option<String> {
        let visible: Vec<_> = self.gpus.iter().map(|gpu| gpu.visible.as_str()).collect();
        (!visible.is_empty()).then(|| visible.join(","))
    }

    /// The part of one of several ranks: its own GPU. The threads stay those of all.
    pub fn of_rank(&self, rank: u32) -> Self {
        let gpus = self.gpus.get(rank as usize).cloned().into_iter().collect();
        Self { gpus, ..*self }
    }
}

fn one_or_several<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<LeasedGpu>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Gpus {
        Several(Vec<LeasedGpu>),
        One(Option<LeasedGpu>),
    }
    Ok(match Gpus::deserialize(from)? {
        Gpus::Several(gpus) => gpus,
        Gpus::One(gpu) => gpu.into_iter().collect(),
    })
}

/// A GPU, or an instance of one, that a job holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeasedGpu {
    /// The value of CUDA_VISIBLE_DEVICES: its uuid, or its number where the uuid is not known.
    pub visible: String,
    /// The driver's number of the GPU; on another machine that of CUDA_VISIBLE_DEVICES there, or of
    /// the rank.
    pub index: u32,
    /// Limit of the job's memory on a shared GPU, in bytes; None where it has the GPU for itself.
    pub memory_bytes: Option<u64>,
}

/// Where a job computes, decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeasedDevice {
    /// The CPU.
    Cpu,
    /// The CUDA device that is visible, or, of a program, those that are.
    Cuda,
}

/// The files of a job, as they were found when it was admitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "a job has one, and programs are few")]
pub enum Inputs {
    /// Data for a model.
    Data(DataInputs),
    /// A program.
    Program(Launch),
}

/// The program of a job, and the folders that it gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// The program, as an absolute path. The last part may be a link: a virtual environment is
    /// found by it.
    pub executable: PathBuf,
    /// The folder to start it in, as a canonical path; None for its own.
    pub working_dir: Option<PathBuf>,
    /// Folders that it may read besides those of the system.
    pub reads: Vec<PathBuf>,
}

/// The data of a job, as canonical paths, and what was found in them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataInputs {
    /// Examples to learn from.
    pub train: Files,
    /// Examples to judge by.
    pub validation: Option<Files>,
    /// The outline of the model; None where the data did not tell enough, and in jobs of earlier
    /// versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outline: Option<Outline>,
    /// The memory that the values of the sets may take together: what has more is read in shards.
    /// It is that of the request, so that each attempt reads in the same order, wherever it runs.
    /// None in jobs of earlier versions, for all that they take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

impl Inputs {
    /// The data; None of a program.
    pub fn data(&self) -> Option<&DataInputs> {
        match self {
            Self::Data(data) => Some(data),
            Self::Program(_) => None,
        }
    }

    /// The program; None of a model.
    pub fn program(&self) -> Option<&Launch> {
        match self {
            Self::Program(launch) => Some(launch),
            Self::Data(_) => None,
        }
    }
}

impl From<DataInputs> for Inputs {
    fn from(data: DataInputs) -> Self {
        Self::Data(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_of_the_version_before_have_one_gpu_or_none() {
        let read = |gpu: &str| {
            let text = format!(r#"{{"device": "cuda", "cpu_threads": 2, {gpu}}}"#);
            serde_json::from_str::<Lease>(&text).unwrap()
        };
        let one = r#"{"visible": "GPU-a", "index": 3, "memory_bytes": null}"#;
        assert_eq!(read(r#""gpu": null"#).visible(), None);
        assert_eq!(read(&format!(r#""gpu": {one}"#)).visible().as_deref(), Some("GPU-a"));
        let two = read(&format!(r#""gpus": [{one}, {}]"#, one.replace("GPU-a", "GPU-b")));
        assert_eq!(
            (two.visible().as_deref(), two.of_rank(1).visible().as_deref()),
            (Some("GPU-a,GPU-b"), Some("GPU-b"))
        );
        assert_eq!(serde_json::from_value::<Lease>(serde_json::to_value(&two).unwrap()).unwrap(), two);
    }
}
