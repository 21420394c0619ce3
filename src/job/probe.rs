//! The report of `torchd-runner probe`: the daemon asks it which libraries a runner finds, since it
//! loads none itself.

use serde::{Deserialize, Serialize};

/// The libraries and devices that a runner finds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// libtorch.
    pub libtorch: Found,
    /// The CUDA half of libtorch, and whether it works.
    pub cuda: Found,
    /// CUDA devices that a job can use.
    pub cuda_devices: u32,
    /// The CUDA half lies beside libtorch, whether it can be loaded or not.
    #[serde(default)]
    pub has_cuda_half: bool,
    /// Why it cannot be loaded, in the loader's words; empty where it can or is not there.
    #[serde(default)]
    pub cuda_load_error: String,
    /// The return value of the CUDA runtime when it was asked for devices; None where it is not
    /// loaded.
    #[serde(default)]
    pub cuda_error: Option<u32>,
    /// cuDNN.
    #[serde(default)]
    pub cudnn: Found,
    /// NCCL.
    #[serde(default)]
    pub nccl: Found,
    /// The version of libtorch that the runner was built for.
    #[serde(default)]
    pub built_for: String,
    /// Why a job cannot have several ranks on the CPU; empty where it can.
    #[serde(default)]
    pub no_ranks: String,
    /// The same of ranks on GPUs.
    #[serde(default)]
    pub no_gpu_ranks: String,
    /// The limits of a runner on this machine.
    #[serde(default)]
    pub confinement: Confinement,
}

impl ProbeReport {
    /// Why no model gets a GPU: libtorch finds none.
    pub fn no_cuda(&self) -> Option<String> {
        (self.cuda_devices == 0).then(|| self.cuda.absent_reason.clone())
    }
}

/// The limits of a runner: those that the kernel enforces, and those that it does not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// The ABI of Landlock that is in force; 0 for none.
    pub landlock_abi: u32,
    /// No program that a runner starts gets more rights than it has.
    pub no_new_privileges: bool,
    /// The limits that are enforced, each a sentence about the runner.
    pub enforced: Vec<String>,
    /// The limits that are not, each with the reason.
    pub missing: Vec<String>,
}

/// A library: its version and file, or why it is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Empty where it is absent or does not tell.
    pub version: String,
    /// The file; empty where it is absent.
    pub path: String,
    /// Why it cannot be used; empty where it can.
    pub absent_reason: String,
    /// The place that it was found in; empty where that is not known.
    #[serde(default)]
    pub found_by: String,
    /// The places before it that have none that can be used, each with the reason.
    #[serde(default)]
    pub passed_over: Vec<String>,
}
