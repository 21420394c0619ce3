//! Findings: a stable reason code for programs, words and remedies for people.

use super::Catalogue;
use crate::proto::v1::{self, Concern, Severity};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $severity:ident, $concern:ident;)*) => {
        /// Why there is a finding. Codes are promises: dashboards and scripts depend on them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[doc = $doc])* $name,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code, such as `DRIVER_TOO_OLD`.
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// How bad it is.
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }

            /// Its subject.
            pub fn concern(self) -> Concern {
                match self { $(Self::$name => Concern::$concern,)* }
            }
        }
    };
}

reasons! {
    /// The driver is below the floor of the build's CUDA toolkit.
    DriverTooOld = "DRIVER_TOO_OLD", Error, GpuTraining;
    /// The driver is older than the toolkit, and new enough by minor-version compatibility.
    DriverMinorCompatibility = "DRIVER_MINOR_COMPATIBILITY", Info, GpuTraining;
    /// There are GPUs, and nobody knows their driver.
    DriverUnknown = "DRIVER_UNKNOWN", Unknown, GpuTraining;
    /// The driver is of a later branch than the last that knows the GPU.
    GpuUnknownToDriver = "GPU_UNKNOWN_TO_DRIVER", Error, GpuTraining;
    /// The driver in the kernel is not the one of its libraries.
    DriverLibraryMismatch = "DRIVER_LIBRARY_MISMATCH", Error, GpuTraining;
    /// The library is there, and the driver is not loaded.
    DriverNotLoaded = "DRIVER_NOT_LOADED", Error, GpuTraining;
    /// NVML fails in another way.
    NvmlFailed = "NVML_FAILED", Warning, GpuTraining;
    /// The device of nvidia_uvm is missing.
    NvidiaUvmMissing = "NVIDIA_UVM_MISSING", Error, GpuTraining;
    /// A forward-compatibility package does what the driver cannot.
    ForwardCompatibilityInUse = "FORWARD_COMPATIBILITY_IN_USE", Info, GpuTraining;
    /// A forward-compatibility package stands in the way of a driver that needs none.
    ForwardCompatibilityNotNeeded = "FORWARD_COMPATIBILITY_NOT_NEEDED", Warning, GpuTraining;
    /// A forward-compatibility package on a GPU that does not allow it.
    ForwardCompatibilityUnsupported = "FORWARD_COMPATIBILITY_UNSUPPORTED", Error, GpuTraining;
    /// Error 802 of the CUDA runtime.
    CudaSystemNotReady = "CUDA_SYSTEM_NOT_READY", Error, GpuTraining;
    /// Error 803 of the CUDA runtime.
    CudaSystemDriverMismatch = "CUDA_SYSTEM_DRIVER_MISMATCH", Error, GpuTraining;
    /// Error 804 of the CUDA runtime.
    CudaCompatNotSupported = "CUDA_COMPAT_NOT_SUPPORTED", Error, GpuTraining;
    /// Another error of the CUDA runtime.
    CudaError = "CUDA_ERROR", Error, GpuTraining;
    /// The GPUs are not known.
    GpusUnknown = "GPUS_UNKNOWN", Unknown, GpuTraining;
    /// A build for CUDA where there is no GPU.
    CudaBuildWithoutGpu = "CUDA_BUILD_WITHOUT_GPU", Info, AllTraining;
    /// A GPU, and a build without CUDA.
    GpuWithoutCudaBuild = "GPU_WITHOUT_CUDA_BUILD", Warning, GpuTraining;
    /// The build holds no code that the GPU can run.
    CapabilityNotInBuild = "CAPABILITY_NOT_IN_BUILD", Error, GpuTraining;
    /// The driver has to compile the build's code for the GPU.
    CapabilityByPtx = "CAPABILITY_BY_PTX", Info, GpuTraining;
    /// The driver would have to compile code that is newer than itself.
    PtxNeedsNewerDriver = "PTX_NEEDS_NEWER_DRIVER", Error, GpuTraining;
    /// A GPU whose compute capability is not known.
    GpuCapabilityUnknown = "GPU_CAPABILITY_UNKNOWN", Unknown, GpuTraining;
    /// A build whose compute capabilities are not known.
    BuildCapabilitiesUnknown = "BUILD_CAPABILITIES_UNKNOWN", Unknown, GpuTraining;
    /// The version of PyTorch is not known.
    TorchUnknown = "TORCH_UNKNOWN", Unknown, AllTraining;
    /// The catalogue has no such release or build of PyTorch.
    BuildUnknown = "BUILD_UNKNOWN", Unknown, GpuTraining;
    /// libtorch cannot be loaded.
    LibtorchNotLoadable = "LIBTORCH_NOT_LOADABLE", Error, AllTraining;
    /// The CUDA half of libtorch is there and cannot be loaded.
    LibtorchCudaNotLoadable = "LIBTORCH_CUDA_NOT_LOADABLE", Error, GpuTraining;
    /// The runner finds another libtorch than the one it was built for.
    LibtorchVersionMismatch = "LIBTORCH_VERSION_MISMATCH", Error, AllTraining;
    /// The C library is older than libtorch needs.
    GlibcTooOld = "GLIBC_TOO_OLD", Error, AllTraining;
    /// The C++ library is older than libtorch needs.
    LibstdcxxTooOld = "LIBSTDCXX_TOO_OLD", Error, AllTraining;
    /// The catalogue does not have the runtime, or not its support.
    RuntimeUnknown = "RUNTIME_UNKNOWN", Unknown, Support;
    /// The runtime's support has ended.
    RuntimeEndOfSupport = "RUNTIME_END_OF_SUPPORT", Warning, Support;
    /// The runtime ships an older PyTorch.
    RuntimePytorchOlder = "RUNTIME_PYTORCH_OLDER", Info, ModelExchange;
    /// The runtime ships a newer PyTorch.
    RuntimePytorchNewer = "RUNTIME_PYTORCH_NEWER", Warning, ModelExchange;
    /// A model file that a newer PyTorch wrote.
    ModelFileNewer = "MODEL_FILE_NEWER", Error, ModelExchange;
    /// A type of machine on which PyTorch fails across GPUs.
    NodeTypeBreaksMultiGpu = "NODE_TYPE_BREAKS_MULTI_GPU", Warning, GpuTraining;
}

/// A finding without remedies and sources so far.
pub fn finding(reason: Reason, summary: impl Into<String>) -> v1::Finding {
    v1::Finding {
        severity: reason.severity().into(),
        reason: reason.code().into(),
        concern: reason.concern().into(),
        summary: summary.into(),
        ..v1::Finding::default()
    }
}

impl v1::Finding {
    /// In a line: what it is, what was found, and the first way out.
    pub fn in_words(&self) -> String {
        let found = if self.found.is_empty() { String::new() } else { format!(" (found: {})", self.found) };
        let remedy = self.remedies.first().map(|remedy| match remedy.commands.first() {
            Some(command) => format!(". {} `{command}`", remedy.text),
            None => format!(". {}", remedy.text),
        });
        format!("{}{found}{}", self.summary, remedy.unwrap_or_default())
    }

    /// The value that was found.
    pub(super) fn found(mut self, found: impl Into<String>) -> Self {
        self.found = found.into();
        self
    }

    /// The value that is needed.
    pub(super) fn needed(mut self, needed: impl Into<String>) -> Self {
        self.needed = needed.into();
        self
    }

    /// A way out.
    pub(super) fn remedy(mut self, text: impl Into<String>, commands: &[String]) -> Self {
        self.remedies.push(v1::Remedy { text: text.into(), commands: commands.to_vec() });
        self
    }

    /// Where the rule and its facts were read.
    pub(super) fn sources(mut self, catalogue: &Catalogue, ids: &[impl AsRef<str>]) -> Self {
        for source in catalogue.sources_of(ids) {
            if !self.sources.contains(&source) {
                self.sources.push(source);
            }
        }
        self
    }
}

impl Catalogue {
    /// Sources by their ids.
    pub fn sources_of(&self, ids: &[impl AsRef<str>]) -> Vec<v1::Source> {
        let rows = ids.iter().filter_map(|id| self.sources.get(id.as_ref()));
        rows.map(|row| v1::Source { title: row.title.clone(), location: row.location.clone() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_fit_error_info() {
        let codes: HashSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        let is_code =
            |code: &&str| code.len() <= 63 && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        assert!(codes.iter().all(is_code));
    }
}
