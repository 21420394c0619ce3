//! The spec of a job as types that cannot be wrong, and every rule for it. `read` takes the message
//! of a client, `fit` holds the result against the data files; what comes out can be trained, and
//! says again what every default became.

mod edit;
mod fit;
mod memory;
mod read;
mod weights;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::job::retention::Checkpoints;
use crate::job::retry::Retry;
use crate::proto::v1;
pub use edit::{edited, merged};
pub use fit::{DataFacts, Demands, Place, Plan, set_field};
pub use memory::{HostMemory, judge_memory};
pub use read::{Reading, judge_labels, read};
pub use weights::{Parameter, SUM_CORRECT, SUM_LOSS, judge_state, judge_weights, velocity_name};

/// A request that can be trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// A name for people.
    pub display_name: String,
    /// Seed of everything random.
    pub seed: u64,
    /// The network.
    pub model: Model,
    /// The examples.
    pub data: Data,
    /// How long to train.
    pub length: Length,
    /// Examples in a training step.
    pub batch_size: u32,
    /// Examples in a step of the validation pass; None until `fit` has seen the validation set.
    pub validation_batch_size: Option<u32>,
    /// What turns gradients into new weights.
    pub optimizer: Optimizer,
    /// When checkpoints are saved, and how many are kept.
    pub checkpoints: Checkpoints,
    /// Steps between scalars.
    pub scalar_every_steps: u32,
    /// What part of the machine is wanted.
    pub resources: Resources,
    /// How long it may run; None for no limit.
    pub max_duration: Option<Duration>,
    /// What it is found by.
    pub labels: BTreeMap<String, String>,
    /// What to do when its runner fails.
    pub retry: Retry,
    /// The higher the earlier.
    pub priority: i32,
    /// It is removed so long after its end; None for never.
    pub ttl_after_end: Option<Duration>,
    /// Where the weights come from; None for random ones.
    pub warm_start: Option<WarmStart>,
    /// Where its results are copied to, as the client named it.
    pub mirror: Option<String>,
    /// A job whose folder cannot be written is paused; otherwise it fails.
    pub pauses_on_storage_failure: bool,
}

/// Where weights come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmStart {
    /// What the client named.
    pub source: WarmSource,
    /// The optimizer's state and the place in the data come along.
    pub resume: bool,
}

/// What a client names to begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WarmSource {
    /// `jobs/{id}`, or one of its checkpoints.
    Checkpoint(String),
    /// A file, or the folder of a checkpoint.
    File(String),
}

/// A network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Model {
    /// The notebook's.
    MnistCnn {
        /// Probability of both dropouts.
        dropout: f64,
    },
}

/// The examples of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Data {
    /// To learn from.
    pub train: IdxPaths,
    /// To judge by.
    pub validation: Option<IdxPaths>,
    /// Mean of values scaled to 0..1.
    pub mean: f64,
    /// Standard deviation of values scaled to 0..1.
    pub std: f64,
    /// A new order each epoch.
    pub shuffle: bool,
}

/// A pair of IDX files, as the client named them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdxPaths {
    /// The images.
    pub images: String,
    /// The labels.
    pub labels: String,
}

/// How long to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Passes over the training set.
    Epochs(u32),
    /// Optimizer steps.
    Steps(u64),
}

/// What turns gradients into new weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Optimizer {
    /// Stochastic gradient descent.
    Sgd {
        /// Step size.
        learning_rate: f64,
        /// Share of the step before.
        momentum: f64,
    },
}

/// What part of the machine is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// Where to compute.
    pub device: Device,
    /// GPUs, if the client said.
    pub gpu_count: Option<u32>,
    /// Threads, if the client said.
    pub cpu_threads: Option<u32>,
    /// Memory on the GPU within which the job stays, if it shares one.
    pub gpu_memory_bytes: Option<u64>,
}

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// CUDA where it works, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA GPU.
    Cuda,
}

impl Model {
    /// Its name in a spec.
    pub fn name(self) -> &'static str {
        match self {
            Self::MnistCnn { .. } => "mnist_cnn",
        }
    }

    /// Height and width of the images that it takes.
    pub fn image_size(self) -> (u32, u32) {
        match self {
            Self::MnistCnn { .. } => (28, 28),
        }
    }

    /// Classes that it tells apart.
    pub fn classes(self) -> u8 {
        match self {
            Self::MnistCnn { .. } => 10,
        }
    }
}

impl WarmSource {
    /// The path of its field in a spec.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Checkpoint(_) => "warm_start.checkpoint",
            Self::File(_) => "warm_start.file",
        }
    }
}

impl WarmStart {
    fn to_proto(&self) -> v1::WarmStart {
        let source = match &self.source {
            WarmSource::Checkpoint(name) => v1::warm_start::Source::Checkpoint(name.clone()),
            WarmSource::File(path) => v1::warm_start::Source::File(path.clone()),
        };
        v1::WarmStart { source: Some(source), resume: self.resume }
    }
}

impl Spec {
    /// The message that this spec was read from, every default filled in.
    pub fn to_proto(&self) -> v1::JobSpec {
        let dataset = |paths: &IdxPaths| v1::Dataset {
            format: Some(v1::dataset::Format::Idx(v1::IdxDataset {
                images: paths.images.clone(),
                labels: paths.labels.clone(),
            })),
        };
        let Model::MnistCnn { dropout } = self.model;
        let Optimizer::Sgd { learning_rate, momentum } = self.optimizer;
        v1::JobSpec {
            max_duration: self.max_duration.and_then(|limit| limit.try_into().ok()),
            labels: self.labels.clone(),
            retry: Some(self.retry.to_proto()),
            priority: self.priority,
            output: self.mirror.clone().map(|mirror| v1::Output { mirror }),
            ttl_after_end: self.ttl_after_end.and_then(|time| time.try_into().ok()),
            warm_start: self.warm_start.as_ref().map(WarmStart::to_proto),
            on_storage_failure: if self.pauses_on_storage_failure {
                v1::OnStorageFailure::Pause.into()
            } else {
                v1::OnStorageFailure::Fail.into()
            },
            display_name: self.display_name.clone(),
            seed: self.seed,
            model: Some(v1::Model {
                family: Some(v1::model::Family::MnistCnn(v1::MnistCnn { dropout: Some(dropout) })),
            }),
            data: Some(v1::Data {
                train: Some(dataset(&self.data.train)),
                validation: self.data.validation.as_ref().map(dataset),
                normalize: Some(v1::Normalize { mean: vec![self.data.mean], std: vec![self.data.std] }),
                shuffle: Some(self.data.shuffle),
            }),
            training: Some(v1::Training {
                length: Some(match self.length {
                    Length::Epochs(epochs) => v1::training::Length::Epochs(epochs),
                    Length::Steps(steps) => v1::training::Length::MaxSteps(steps),
                }),
                batch_size: Some(self.batch_size),
                validation_batch_size: self.validation_batch_size,
            }),
            optimizer: Some(v1::Optimizer {
                kind: Some(v1::optimizer::Kind::Sgd(v1::Sgd { learning_rate: Some(learning_rate), momentum })),
            }),
            checkpoint: Some(self.checkpoints.to_proto()),
            logging: Some(v1::Logging { scalar_every_steps: Some(self.scalar_every_steps) }),
            resources: Some(v1::Resources {
                device: match self.resources.device {
                    Device::Auto => v1::Device::Auto,
                    Device::Cpu => v1::Device::Cpu,
                    Device::Cuda => v1::Device::Cuda,
                }
                .into(),
                gpu_count: self.resources.gpu_count,
                cpu_threads: self.resources.cpu_threads,
                gpu_memory_bytes: self.resources.gpu_memory_bytes,
            }),
        }
    }
}
