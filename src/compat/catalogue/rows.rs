//! The rows of the catalogue's files. A value that a file does not give is None or empty: not
//! known.

use std::fmt;

use serde::Deserialize;

use super::Row;
use crate::compat::gpu_code::Coverage;
use crate::compat::runtime::RuntimeName;
use crate::compat::{Date, Version};

/// A Databricks Runtime for Machine Learning.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeRow {
    /// Its name and key.
    pub name: RuntimeName,
    /// Python.
    pub python: Option<Version>,
    /// PyTorch.
    pub pytorch: Option<Version>,
    /// The build of PyTorch on GPU clusters, such as `cu121`.
    pub pytorch_build: Option<String>,
    /// torchvision.
    pub torchvision: Option<Version>,
    /// The CUDA toolkit.
    pub cuda: Option<Version>,
    /// cuDNN.
    pub cudnn: Option<Version>,
    /// NCCL.
    pub nccl: Option<Version>,
    /// Python of the standard runtime of the same number.
    pub standard_python: Option<Version>,
    /// Day of the release.
    pub released: Option<Date>,
    /// Last day of support.
    pub end_of_support: Option<Date>,
    /// A day on which a source listed it as supported.
    pub listed_as_supported: Option<Date>,
    /// A day on which a source listed its support as ended.
    pub listed_as_ended: Option<Date>,
    /// Ids of sources.
    pub sources: Vec<String>,
    /// For people.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Contradicting statements of other sources.
    #[serde(default)]
    pub conflicts: Vec<Conflict>,
}

/// The statement of another source on a field.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conflict {
    /// The field.
    pub field: String,
    /// Its value there.
    pub value: String,
    /// Id of the source.
    pub source: String,
    /// Which one counts, and why.
    pub counts: String,
}

/// A PyTorch release for Linux on x86-64.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Its version and key.
    pub version: Version,
    /// A release with long-term support.
    #[serde(default)]
    pub lts: bool,
    /// The torchvision that belongs to it.
    pub torchvision: Option<Version>,
    /// When, as exactly as the source says: a month or a day.
    pub released: Option<String>,
    /// Python versions with wheels.
    pub python: PythonRange,
    /// How pip gets a build that is not PyPI's own.
    pub install: InstallForm,
    /// Remarks for the person who installs it.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Newest GLIBC symbols that its libraries ask for.
    pub glibc: Option<Version>,
    /// Newest GLIBCXX symbols that its libraries ask for.
    pub glibcxx: Option<Version>,
    /// Ids of sources.
    pub sources: Vec<String>,
    /// Its builds.
    pub builds: Vec<Build>,
    /// Contradicting statements of other sources.
    #[serde(default)]
    pub conflicts: Vec<Conflict>,
}

/// Python versions.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PythonRange {
    /// The first; None where only the last is known.
    pub min: Option<Version>,
    /// The last minor version.
    pub max: Version,
    /// Minor versions with wheels that the release calls experimental.
    #[serde(default)]
    pub experimental: Vec<Version>,
}

/// How pip gets a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstallForm {
    /// A wheel by its URL, or `torch==X+VARIANT` from a page with links.
    Wheel,
    /// `torch==X+VARIANT` with `--extra-index-url`.
    SuffixExtraIndex,
    /// `torch==X+VARIANT` with `--extra-index-url`, in the folder of a release with long-term
    /// support.
    LtsIndex,
    /// `torch==X+VARIANT` with `--index-url`.
    Index,
}

/// A build of a release.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// `cpu`, or such as `cu126`.
    pub variant: String,
    /// The CUDA toolkit; None for the CPU.
    pub cuda: Option<Version>,
    /// It is what `pip install torch==X` gets.
    #[serde(default)]
    pub pypi: bool,
    /// The release calls it experimental.
    #[serde(default)]
    pub experimental: bool,
    /// cuDNN.
    pub cudnn: Option<Version>,
    /// NCCL.
    pub nccl: Option<Version>,
    /// Compute capabilities with code in it; None where no source tells them.
    pub compute: Option<Coverage>,
    /// Ids of sources beside those of its release.
    #[serde(default)]
    pub sources: Vec<String>,
}

/// A CUDA toolkit.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Toolkit {
    /// Major and minor, the key.
    pub version: Version,
    /// The Linux driver that it came with.
    pub driver: Option<Version>,
    /// The branch of that driver, where the version is not known.
    pub driver_branch: Option<Version>,
    /// The first Linux driver that runs its programs by minor-version compatibility; None before
    /// CUDA 11.
    pub minor_compatibility_driver: Option<Version>,
    /// The package for older drivers on GPUs that allow it.
    pub forward_compatibility_package: Option<String>,
    /// Ids of sources.
    pub sources: Vec<String>,
}

/// A GPU by the words of its name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// Words that stand in the names of such GPUs one after the other; the key.
    pub words: String,
    /// Compute capability; None where the words are of several.
    pub compute: Option<Version>,
    /// It may use the forward-compatibility package; None where no source tells.
    pub forward_compatibility: Option<bool>,
    /// Ids of sources.
    pub sources: Vec<String>,
}

/// A generation of GPUs that drivers or toolkits have left behind.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// The first compute capability of it; the key.
    pub from: Version,
    /// The last compute capability of it.
    pub to: Version,
    /// Its name, such as `Kepler`.
    pub name: String,
    /// The last driver branch that knows it; None where drivers go on to.
    pub last_driver_branch: Option<Version>,
    /// The last toolkit that compiles for it, or its major version; None where toolkits go on to.
    pub last_cuda: Option<Version>,
    /// Ids of sources.
    pub sources: Vec<String>,
    /// For people.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Virtual machines that need care.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeType {
    /// The text in the names of the types; the key.
    pub contains: String,
    /// From this PyTorch on.
    pub pytorch_from: Version,
    /// The least number of GPUs.
    pub gpus_from: u32,
    /// The effect.
    pub problem: String,
    /// The remedy.
    pub remedy: String,
    /// A release that works there.
    pub pytorch: Option<Version>,
    /// Ids of sources.
    pub sources: Vec<String>,
}

/// The meaning of an error of the CUDA runtime.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CudaErrorCode {
    /// The number; the key.
    pub code: u32,
    /// The name.
    pub name: String,
    /// Its meaning.
    pub meaning: String,
    /// The remedy.
    pub remedy: String,
    /// Commands for that.
    #[serde(default)]
    pub commands: Vec<String>,
    /// Ids of sources.
    pub sources: Vec<String>,
}

/// A shared library that PyTorch loads.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Library {
    /// The name of its file, such as `libcudnn.so.9`; the key.
    pub file: String,
    /// The source of it.
    pub from: String,
    /// The build that the commands are for, such as `2.11.0+cu130`; None where they are for all.
    pub build: Option<String>,
    /// Commands for that.
    #[serde(default)]
    pub commands: Vec<String>,
    /// Ids of sources.
    pub sources: Vec<String>,
}

/// Where facts were read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRow {
    /// Title.
    pub title: String,
    /// Address, or repository, path and revision.
    #[serde(rename = "where")]
    pub location: String,
}

impl Release {
    /// A build by its variant.
    pub fn build(&self, variant: &str) -> Option<&Build> {
        self.builds.iter().find(|build| build.variant == variant)
    }
}

impl PythonRange {
    /// Whether there are wheels for a Python.
    pub fn has(&self, python: &Version) -> bool {
        // Where the first is not known, only of the last there is a source.
        let first = self.min.as_ref().unwrap_or(&self.max);
        let in_range = (first.minor()..=self.max.minor()).contains(&python.minor());
        in_range || self.experimental.iter().any(|experimental| python.is_of(experimental))
    }
}

impl fmt::Display for PythonRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.min {
            Some(min) => write!(f, "Python {min} to {}", self.max),
            None => write!(f, "Python up to {}", self.max),
        }
    }
}

impl Row for RuntimeRow {
    type Key = RuntimeName;

    fn key(&self) -> RuntimeName {
        self.name.clone()
    }
}

impl Row for Release {
    type Key = Version;

    fn key(&self) -> Version {
        self.version.clone()
    }
}

impl Row for Toolkit {
    type Key = Version;

    fn key(&self) -> Version {
        self.version.clone()
    }
}

impl Row for Gpu {
    type Key = String;

    fn key(&self) -> String {
        self.words.clone()
    }
}

impl Row for Generation {
    type Key = Version;

    fn key(&self) -> Version {
        self.from.clone()
    }
}

impl Row for NodeType {
    type Key = String;

    fn key(&self) -> String {
        self.contains.clone()
    }
}

impl Row for CudaErrorCode {
    type Key = u32;

    fn key(&self) -> u32 {
        self.code
    }
}

impl Row for Library {
    type Key = String;

    fn key(&self) -> String {
        self.file.clone()
    }
}
