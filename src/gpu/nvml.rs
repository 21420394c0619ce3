//! NVML by nvml-wrapper.

use std::path::Path;

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use super::{GpuIdentity, NvmlReading};

/// What the loader is asked for where no file is named.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// Asks the library. Every field is read by itself: one that fails hides no other.
pub(super) fn read(library: Option<&Path>) -> NvmlReading {
    let path = library.unwrap_or(Path::new(LIBRARY));
    let nvml = match Nvml::builder().lib_path(path.as_os_str()).init() {
        Ok(nvml) => nvml,
        Err(error) => {
            let code = code(&error);
            let absent_reason = match &error {
                NvmlError::LibloadingError(cause) => format!("{} cannot be loaded: {cause}", path.display()),
                other => format!("NVML cannot be started: {other}"),
            };
            let library = if code.is_some() { loaded(path) } else { String::new() };
            return NvmlReading { code, absent_reason, library, ..NvmlReading::default() };
        }
    };
    let count = nvml.device_count().unwrap_or(0);
    let gpus = (0..count).filter_map(|index| nvml.device_by_index(index).ok());
    let describe = |gpu: nvml_wrapper::Device<'_>| {
        let capability = gpu.cuda_compute_capability();
        GpuIdentity {
            name: gpu.name().unwrap_or_default(),
            compute_capability: capability.map(|found| format!("{}.{}", found.major, found.minor)).unwrap_or_default(),
        }
    };
    NvmlReading {
        code: Some(0),
        absent_reason: String::new(),
        library: loaded(path),
        version: nvml.sys_nvml_version().unwrap_or_default(),
        driver_version: nvml.sys_driver_version().unwrap_or_default(),
        // 13000 is 13.0, 12040 is 12.4. (nvml.h, nvmlSystemGetCudaDriverVersion_v2)
        cuda_driver_version: nvml
            .sys_cuda_driver_version()
            .map(|number| format!("{}.{}", number / 1000, number % 1000 / 10))
            .unwrap_or_default(),
        gpus: Some(gpus.map(describe).collect()),
    }
}

/// The number of an error that the library returned (nvml.h, nvmlReturn_t); None for what the wrapper found by itself.
fn code(error: &NvmlError) -> Option<u32> {
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

/// The file that the loader has taken for a library.
fn loaded(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split(".so").next().unwrap_or_default();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let files = maps.lines().filter_map(|line| line.find('/').map(|start| &line[start..]));
    let is_it = |file: &&str| file.rsplit('/').next().is_some_and(|name| name.starts_with(&format!("{stem}.so")));
    files.into_iter().find(is_it).unwrap_or_default().to_owned()
}
