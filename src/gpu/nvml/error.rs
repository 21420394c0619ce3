//! NVML's errors in words. (nvml.h, nvmlReturn_t)

use std::path::Path;

use nvml_wrapper::error::NvmlError;

use crate::gpu::Unavailable;
use crate::proto::v1::GpuSourceState as State;

/// Why the library cannot be used, and what to do.
pub(super) fn unavailable(path: &Path, error: &NvmlError) -> Unavailable {
    let is_missing = !path.is_absolute() || !path.exists();
    let (state, message, remedies): (State, String, &[&str]) = match error {
        NvmlError::LibloadingError(cause) if is_missing => (
            State::NoLibrary,
            format!("NVML is not on this machine: {cause}"),
            &["install the NVIDIA driver, if there is an NVIDIA GPU", "or name its library as gpu.nvml_library"],
        ),
        NvmlError::LibloadingError(cause) => (
            State::NoLibrary,
            format!("{} cannot be loaded as NVML: {cause}", path.display()),
            &["name the driver's libnvidia-ml.so.1 as gpu.nvml_library, or leave that setting out"],
        ),
        NvmlError::FailedToLoadSymbol(symbol) => (
            State::NoLibrary,
            format!("{} is not NVML: {symbol}", path.display()),
            &["name the driver's libnvidia-ml.so.1 as gpu.nvml_library, or leave that setting out"],
        ),
        NvmlError::DriverNotLoaded => (
            State::NoDriver,
            "NVML is there, and the kernel's NVIDIA driver is not loaded".into(),
            &["sudo modprobe nvidia", "or reinstall the driver, if that fails"],
        ),
        NvmlError::LibRmVersionMismatch => (
            State::VersionMismatch,
            "NVML and the kernel's driver are of different versions: the driver was upgraded under the running system"
                .into(),
            &["sudo reboot"],
        ),
        NvmlError::NoPermission | NvmlError::OperatingSystem => (
            State::NoPermission,
            format!("the driver's devices cannot be used: {error}"),
            &["let the service use /dev/nvidia* (DeviceAllow=char-nvidia* rw), then restart it"],
        ),
        other => (
            State::Failed,
            format!("NVML cannot be used: {other}"),
            &["look into the kernel's log: sudo dmesg | grep -i nvrm"],
        ),
    };
    Unavailable { state, message, remedies: remedies.iter().map(|&remedy| remedy.to_owned()).collect() }
}

/// Why a reading is absent.
pub(super) fn absence(error: &NvmlError) -> String {
    match error {
        NvmlError::NotSupported => "not supported by this GPU".into(),
        NvmlError::NoPermission => "not permitted to this user".into(),
        NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => "this driver is too old to tell it".into(),
        // So drivers answer for values that are newer than they are.
        NvmlError::InvalidArg => "this driver does not know it".into(),
        NvmlError::GpuLost => "the GPU is lost".into(),
        NvmlError::NoData => "the driver has nothing to tell yet".into(),
        other => format!("the driver failed: {other}"),
    }
}

/// The same error for another reading of the same call: the type is no `Clone`.
pub(super) fn again(error: &NvmlError) -> NvmlError {
    match error {
        NvmlError::GpuLost => NvmlError::GpuLost,
        NvmlError::NotSupported => NvmlError::NotSupported,
        NvmlError::NoPermission => NvmlError::NoPermission,
        NvmlError::FailedToLoadSymbol(symbol) => NvmlError::FailedToLoadSymbol(symbol.clone()),
        NvmlError::NoData => NvmlError::NoData,
        _ => NvmlError::Unknown,
    }
}

/// The number of an error that the library returned; None for what the wrapper found by itself.
pub(super) fn code(error: &NvmlError) -> Option<u32> {
    Some(match error {
        NvmlError::Uninitialized => 1,
        NvmlError::InvalidArg => 2,
        NvmlError::NotSupported => 3,
        NvmlError::NoPermission => 4,
        NvmlError::NotFound => 6,
        NvmlError::InsufficientSize(_) => 7,
        NvmlError::InsufficientPower => 8,
        NvmlError::DriverNotLoaded => 9,
        NvmlError::Timeout => 10,
        NvmlError::IrqIssue => 11,
        NvmlError::LibraryNotFound => 12,
        NvmlError::FunctionNotFound => 13,
        NvmlError::CorruptedInfoROM => 14,
        NvmlError::GpuLost => 15,
        NvmlError::ResetRequired => 16,
        NvmlError::OperatingSystem => 17,
        NvmlError::LibRmVersionMismatch => 18,
        NvmlError::InUse => 19,
        NvmlError::InsufficientMemory => 20,
        NvmlError::NoData => 21,
        NvmlError::Unknown => 999,
        _ => return None,
    })
}
